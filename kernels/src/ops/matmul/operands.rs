//! What a product binds: tensors, weights in the layouts of its kernels, and immediates.

use super::{Form, Fusion, Matmul};
use crate::choice::Bindings;
use crate::target::{Target, Tier};
use crate::tensor::{DType, Tensor};
use crate::weight::{Layout, Values, Weight};

impl Matmul {
    /// Operands by the names of the shader's variables; a workgroup computes `columns`.
    pub(super) fn bindings(&self, target: Target, columns: u32, y: Tensor, fusion: &Fusion) -> Bindings {
        let n_padded = self.columns().next_multiple_of(columns);
        let mut bindings = vec![("x", self.x.into(), false), ("y", y.into(), true)];
        let weight = self.packed_weight(target, columns, n_padded, fusion);
        bindings.push(("weight", weight.into(), false));
        let bias = self.packed_bias(n_padded, fusion);
        bindings.extend(bias.map(|bias| ("bias", bias.into(), false)));
        let shortcut = self.shortcut.as_ref();
        let tensors = [
            ("x2", self.x2),
            ("shortcut", shortcut.map(|s| s.x)),
            ("shortcut2", shortcut.and_then(|s| s.x2)),
            ("time_embedding", self.time_embedding),
            ("residual", self.residual),
        ];
        bindings.extend(tensors.into_iter().filter_map(|(name, t)| Some((name, t?.into(), false))));
        bindings.extend(fusion.bindings());
        bindings
    }

    fn packed_weight(&self, target: Target, columns: u32, n_padded: u32, fusion: &Fusion) -> Weight {
        let channels = |x: Tensor, x2: Option<Tensor>| [Some(x), x2].into_iter().flatten().map(|t| t.shape.c);
        let mut k = vec![channels(self.x, self.x2).collect()];
        k.extend(self.shortcut.as_ref().map(|s| channels(s.x, s.x2).collect::<Vec<_>>()));
        let layout = match target.tier {
            Tier::Lane if self.form != Form::Narrow => {
                Layout::Panels { k, lanes: target.lanes, columns: columns / target.lanes }
            }
            _ => Layout::Kn { k, n_padded },
        };
        let layout = if self.form == Form::Phases { Layout::Phases(Box::new(layout)) } else { layout };
        let values = match (&fusion.layer_norm, &self.shortcut) {
            (Some(norm), _) => Values::Scaled { weight: self.weight.clone(), scale: norm.weight.clone() },
            (None, Some(shortcut)) => Values::Chain([self.weight.clone(), shortcut.weight.clone()]),
            (None, None) => (&self.weight).into(),
        };
        Weight { values, is_gated: self.is_gated, layout, dtype: self.weight_dtype() }
    }

    /// Whether anything is added per column.
    pub(super) fn has_bias(&self, fusion: &Fusion) -> bool {
        let of_shortcut = self.shortcut.as_ref().is_some_and(|s| s.bias.is_some());
        self.bias.is_some() || of_shortcut || fusion.layer_norm.is_some()
    }

    fn packed_bias(&self, n_padded: u32, fusion: &Fusion) -> Option<Weight> {
        if !self.has_bias(fusion) {
            return None;
        }
        let of_shortcut = self.shortcut.as_ref().and_then(|s| s.bias.as_ref());
        let values = match &fusion.layer_norm {
            Some(norm) => Values::Folded {
                weight: self.weight.clone(),
                scale: norm.weight.clone(),
                shift: norm.bias.clone(),
                bias: self.bias.clone(),
                stored: self.weight_dtype(),
            },
            None => Values::Sum(self.bias.iter().chain(of_shortcut).cloned().collect()),
        };
        let layout = Layout::Vector { padded: n_padded };
        Some(Weight { values, is_gated: self.is_gated, layout, dtype: DType::F32 })
    }

    /// The `Params` of `wgsl/shared/product.wgsl`, in their order.
    pub(super) fn immediates(
        &self,
        row_groups: u32,
        row_tiles: u32,
        n_padded: u32,
        fusion: &Fusion,
    ) -> Vec<u32> {
        let rows = self.rows();
        let quads = |t: Option<Tensor>| t.map_or(0, |t| t.shape.pitch() / 4);
        let mut immediates = vec![
            rows,
            rows / self.out.n.max(1),
            self.columns().div_ceil(4),
            self.out.c,
            quads(Some(self.x)),
            quads(self.x2),
            row_groups,
        ];
        immediates.extend(&self.immediates);
        if self.form == Form::Phases {
            immediates.push(row_tiles);
        }
        if let Some(shortcut) = &self.shortcut {
            immediates.extend([quads(Some(shortcut.x)), quads(shortcut.x2)]);
        }
        immediates.extend(fusion.immediates(n_padded));
        if let Some(strip) = &self.strip {
            // Behind a doubling, rows are those of the picture before it.
            let first = if self.form == Form::Phases { strip.rows.start / 2 } else { strip.rows.start };
            let row_quads = self.out.w * self.out.pitch() / 4;
            immediates.extend([first, strip.into.map_or(0, |(_, row)| row) * row_quads]);
        }
        immediates
    }
}
