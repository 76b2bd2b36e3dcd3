//! Part of a checkpoint, and under other names.

use std::ops::Range;

use crate::error::EngineError;
use crate::weights::safetensors::{Checkpoint, TensorInfo};
use crate::weights::single::{Names, Place};

/// Ends of names whose tensors hold three projections along axis 0 (`torch.nn.MultiheadAttention`).
const FUSED: [(&str, &str); 2] = [("in_proj_weight", "weight"), ("in_proj_bias", "bias")];
/// Ends of the names of a module's tensors.
const LEAVES: [&str; 2] = ["weight", "bias"];
const PROJECTIONS: [&str; 3] = ["q_proj", "k_proj", "v_proj"];

impl Checkpoint {
    /// The tensors whose names begin with `prefix`, named as `names` has it, and those that it does not know, by their
    /// own names. The files are shared.
    pub(in crate::weights) fn renamed(&self, prefix: &str, names: &Names) -> (Self, Vec<String>) {
        let origins = names.origins(prefix);
        let mut renamed = Self { shards: self.shards.clone(), origins, ..Self::default() };
        let mut unknown = Vec::new();
        for (name, info) in &self.tensors {
            let Some(rest) = name.strip_prefix(prefix) else { continue };
            match names.place(rest) {
                Place::Tensor(target) => renamed.place(target, info),
                Place::Unread => {}
                Place::Unknown => unknown.push(name.clone()),
            }
        }
        (renamed, unknown)
    }

    /// Adds a tensor of the same files; three where three are stored as one.
    fn place(&mut self, name: String, info: &TensorInfo) {
        let fused = FUSED.iter().find_map(|(end, leaf)| Some((name.strip_suffix(end)?, *leaf)));
        let thirds = fused.zip(thirds(info));
        let Some(((module, leaf), thirds)) = thirds else {
            self.tensors.insert(name, info.clone());
            return;
        };
        for (projection, (rows, bytes)) in PROJECTIONS.iter().zip(thirds) {
            let mut shape = info.shape.clone();
            shape[0] = rows;
            let third = TensorInfo { shard: info.shard, dtype: info.dtype, shape, bytes };
            self.tensors.insert(format!("{module}{projection}.{leaf}"), third);
        }
    }

    /// Calls the module `from` by the name `to`, unless there is one of that name.
    pub(crate) fn rename(&mut self, from: String, to: String) {
        for leaf in LEAVES {
            let target = format!("{to}.{leaf}");
            if !self.contains(&target)
                && let Some(info) = self.tensors.remove(&format!("{from}.{leaf}"))
            {
                self.tensors.insert(target, info);
            }
        }
        self.origins.insert(to, from);
    }

    /// Leaves of the tensors of `module` the first `rows` of twice as many along axis 0.
    ///
    /// # Errors
    /// [`EngineError::WeightShape`] for another number of them.
    pub(crate) fn halve(&mut self, module: &str, rows: u32) -> Result<(), EngineError> {
        for name in LEAVES.map(|leaf| format!("{module}.{leaf}")) {
            let Some(info) = self.tensors.get_mut(&name) else { continue };
            if info.shape.first() != Some(&(2 * rows as usize)) {
                let rest = info.shape.iter().skip(1).map(|&d| d as u32);
                let expected = std::iter::once(2 * rows).chain(rest).collect();
                return Err(EngineError::WeightShape { name, expected, got: info.shape.clone() });
            }
            info.shape[0] /= 2;
            info.bytes.end = info.bytes.start + info.bytes.len() / 2;
        }
        Ok(())
    }

    /// `name`, with the file's own name for it where that is another.
    pub(super) fn with_origin(&self, name: &str) -> String {
        let ends = name.rmatch_indices('.').map(|(at, _)| at);
        let origin = std::iter::once(name.len())
            .chain(ends)
            .find_map(|end| Some((self.origins.get(&name[..end])?, &name[end..])));
        match origin {
            Some((origin, rest)) if format!("{origin}{rest}") != name => {
                format!("{name}`, in the file `{origin}{rest}")
            }
            _ => name.to_string(),
        }
    }
}

/// Rows and bytes of each third along axis 0; none where there are none.
fn thirds(info: &TensorInfo) -> Option<[(usize, Range<usize>); 3]> {
    let rows = *info.shape.first().filter(|rows| rows.is_multiple_of(3))? / 3;
    let bytes = info.bytes.len() / 3;
    Some([0, 1, 2].map(|ix| {
        let begin = info.bytes.start + ix * bytes;
        (rows, begin..begin + bytes)
    }))
}
