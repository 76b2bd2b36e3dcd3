//! What a product takes over from passes of their own: the normalisation of its input, and the statistics
//! that a later group norm needs of its result.

use super::{Form, Matmul, TILE};
use crate::choice::{Bindings, Bound};
use crate::error::KernelError;
use crate::ops::Norm;
use crate::plan::{Define, PlanBuilder};
use crate::target::Tier;
use crate::tensor::{DType, Shape, Tensor};
use crate::weight::{Layout, Param, Values, Weight};

/// Groups of a group norm that the kernels have room for in workgroup memory.
const MAX_GROUPS: u32 = 64;
/// Storage buffers of the widest product: two inputs with their statistics, weight, bias, result, time
/// embedding, scale and shift, the result's statistics and the counters.
const MAX_BUFFERS: u32 = 11;

/// A layer norm that a product takes over.
pub(in crate::ops) struct FusedLayerNorm {
    pub weight: Param,
    pub bias: Param,
    pub eps: f32,
}

/// A group norm that a product takes over.
pub(in crate::ops) struct FusedGroupNorm {
    weight: Param,
    bias: Param,
    groups: u32,
    eps: f32,
    silu: bool,
    /// Of x and x2.
    statistics: Vec<Tensor>,
    /// Of x and x2 together.
    channels: u32,
    /// Of a batch row.
    positions: u32,
}

/// What was decided.
#[derive(Default)]
pub(in crate::ops) struct Fusion {
    pub layer_norm: Option<FusedLayerNorm>,
    pub group_norm: Option<FusedGroupNorm>,
    /// Of the result: means `[N,2,C]` and sums of squared deviations of every channel, then those of each tile.
    pub statistics: Option<Tensor>,
    counters: Option<Tensor>,
}

impl Matmul {
    /// Decides what is fused; what is not is recorded before the product.
    pub(super) fn fuse(&mut self, plan: &mut PlanBuilder) -> Result<Fusion, KernelError> {
        let mut fusion = Fusion::default();
        match self.norm.take() {
            None => {}
            Some(Norm::Layer { weight, bias, eps }) if self.can_fuse_layer_norm() => {
                fusion.layer_norm = Some(FusedLayerNorm { weight, bias, eps });
            }
            Some(norm) => match self.fused_group_norm(plan, &norm) {
                Some(fused) => fusion.group_norm = Some(fused),
                None => {
                    self.x = norm.record(plan, self.x, self.x2)?;
                    self.x2 = None;
                }
            },
        }
        if self.statistics && self.can_fuse_statistics(plan) {
            let tiles = self.phases() * self.rows().div_ceil(TILE);
            let words = 2 * self.out.c * (self.out.n + tiles);
            fusion.statistics = Some(plan.slot(Shape::vector(1, words), DType::F32));
            fusion.counters = Some(plan.counters(self.out.n * self.out.c.div_ceil(TILE)));
        }
        Ok(fusion)
    }

    /// Whether every row is read whole, without padding that would count.
    fn can_fuse_layer_norm(&self) -> bool {
        let is_plain = self.form == Form::Product && self.x2.is_none() && self.shortcut.is_none();
        is_plain && self.x.shape.c.is_multiple_of(4)
    }

    /// Whether a tile of rows stays within a batch row.
    fn tiles_stay_in_rows(&self) -> bool {
        self.out.n == 1 || (self.form != Form::Narrow && (self.rows() / self.out.n).is_multiple_of(TILE))
    }

    /// Workgroup memory and barriers cost a CPU adapter more than passes of their own.
    fn has_buffers(plan: &PlanBuilder) -> bool {
        plan.target().tier == Tier::Tile && plan.target().max_storage_buffers >= MAX_BUFFERS
    }

    fn fused_group_norm(&self, plan: &PlanBuilder, norm: &Norm) -> Option<FusedGroupNorm> {
        let Norm::Group { weight, bias, groups, eps, silu } = norm else { return None };
        let inputs: Vec<Tensor> = [Some(self.x), self.x2].into_iter().flatten().collect();
        let channels: u32 = inputs.iter().map(|t| t.shape.c).sum();
        let (groups, eps, silu) = (*groups, *eps, *silu);
        // A quad of channels lies in two groups at most.
        let fits =
            groups > 0 && groups <= MAX_GROUPS && channels.is_multiple_of(groups) && channels / groups > 2;
        let is_whole = inputs.iter().all(|t| t.shape.c.is_multiple_of(4));
        let is_plain = !matches!(self.form, Form::Phases) && self.tiles_stay_in_rows();
        if !(fits && is_whole && is_plain && Self::has_buffers(plan)) {
            return None;
        }
        let statistics = inputs.iter().map(|t| plan.statistics_of(*t)).collect::<Option<_>>()?;
        let (weight, bias) = (weight.clone(), bias.clone());
        let positions = self.x.shape.positions();
        Some(FusedGroupNorm { weight, bias, groups, eps, silu, statistics, channels, positions })
    }

    fn can_fuse_statistics(&self, plan: &PlanBuilder) -> bool {
        let is_tiled = self.form != Form::Narrow && self.tiles_stay_in_rows() && !self.is_gated;
        is_tiled && self.out.c.is_multiple_of(4) && Self::has_buffers(plan)
    }
}

impl Fusion {
    pub(super) fn defines(&self) -> Vec<(&'static str, Define)> {
        let norm = match (&self.layer_norm, &self.group_norm) {
            (Some(_), _) => "layer",
            (None, Some(_)) => "group",
            (None, None) => "none",
        };
        let silu = self.group_norm.as_ref().is_some_and(|norm| norm.silu);
        vec![
            ("norm", Define::Str(norm)),
            ("norm_silu", Define::Bool(silu)),
            ("has_statistics", Define::Bool(self.statistics.is_some())),
        ]
    }

    pub(super) fn bindings(&self) -> Bindings {
        let mut bindings = Vec::new();
        if let Some(norm) = &self.group_norm {
            let names = ["statistics", "statistics2"].into_iter().zip(&norm.statistics);
            bindings.extend(names.map(|(name, t)| (name, Bound::from(*t), false)));
            let values = Values::Stack(vec![norm.weight.clone(), norm.bias.clone()]);
            let layout = Layout::Vector { padded: norm.channels };
            let norm = Weight { values, is_gated: false, layout, dtype: DType::F32 };
            bindings.push(("norm", norm.into(), false));
        }
        let written = [("result_statistics", self.statistics), ("counters", self.counters)];
        bindings.extend(written.into_iter().filter_map(|(name, t)| Some((name, t?.into(), true))));
        bindings
    }

    pub(super) fn immediates(&self, n_padded: u32) -> Vec<u32> {
        match (&self.layer_norm, &self.group_norm) {
            (Some(norm), _) => vec![norm.eps.to_bits(), n_padded / 4],
            (None, Some(norm)) => {
                vec![norm.eps.to_bits(), norm.groups, norm.channels / norm.groups, norm.positions]
            }
            (None, None) => Vec::new(),
        }
    }

    /// Of norms, statistics and gates, as their own passes count them.
    pub(super) fn flops(&self, product: &Matmul) -> u64 {
        let x = product.x.shape.elements() + product.x2.map_or(0, |t| t.shape.elements());
        let norm = match (&self.layer_norm, &self.group_norm) {
            (Some(_), _) => 8 * x,
            (None, Some(norm)) => (if norm.silu { 7 } else { 3 }) * x,
            (None, None) => 0,
        };
        let out = product.out.elements();
        let statistics = if self.statistics.is_some() { 6 * out } else { 0 };
        norm + statistics + if product.is_gated { 10 * out } else { 0 }
    }
}
