//! Which tile a workgroup computes where products use matrix units.

use super::{Form, Matmul};
use crate::plan::Define;
use crate::target::{Target, Tier};
use crate::tensor::DType;

/// Invocations of a workgroup of `product_coop`.
const THREADS: u32 = 256;
/// Workgroups that keep a GPU busy: larger tiles read less, if enough of them are left.
const ENOUGH: u32 = 96;

/// A tile and how its subgroups share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tiling {
    /// Rows of the tile: 64 or 128.
    pub rows: u32,
    /// Columns of the tile: 64 or 128.
    pub columns: u32,
    fragment: u32,
    has_vectors: bool,
    /// Subgroups below and beside one another.
    subgroups: [u32; 2],
}

impl Matmul {
    /// The tile for matrix units, where the target has them and the product is one of f16.
    pub(super) fn tiling(&self, target: Target) -> Option<Tiling> {
        let matrices = target.matrices.filter(|_| target.tier == Tier::Tile)?;
        if self.form == Form::Narrow
            || self.x.dtype != DType::F16
            || !THREADS.is_multiple_of(matrices.lanes.max(1))
        {
            return None;
        }
        let subgroups = THREADS / matrices.lanes;
        let fitting = [[128, 128], [128, 64], [64, 64]].into_iter().filter_map(|[rows, columns]| {
            // Twice as many below as beside one another, so that one's rows and columns are about as many.
            let beside =
                (1..=subgroups).rev().find(|b| b * b <= subgroups && subgroups.is_multiple_of(*b))?;
            let shared = [subgroups / beside, beside];
            let [down, right] = shared.map(|count| count * matrices.fragment);
            let is_whole = rows % down == 0 && columns % right == 0;
            let fits = bytes(rows, columns, matrices.has_vectors) <= target.max_workgroup_bytes;
            let (fragment, has_vectors) = (matrices.fragment, matrices.has_vectors);
            (is_whole && fits).then_some(Tiling { rows, columns, fragment, has_vectors, subgroups: shared })
        });
        let is_enough = |t: &Tiling| {
            let tiles = self.phases() * self.rows().div_ceil(t.rows) * self.columns().div_ceil(t.columns);
            tiles >= ENOUGH && self.columns().is_multiple_of(t.columns)
        };
        let all: Vec<Tiling> = fitting.collect();
        all.iter().copied().find(is_enough).or(all.last().copied())
    }
}

/// Workgroup memory of the largest variant: halves of the operands with eight more a row against bank
/// conflicts, 64x64 sums, means and factors of rows or groups, a flag. Where sums are not kept in vectors,
/// a quad of scratch an invocation.
fn bytes(rows: u32, columns: u32, has_vectors: bool) -> u32 {
    let scratch = if has_vectors { 0 } else { THREADS * 16 };
    rows * 40 * 2 + 32 * (columns + 8) * 2 + 64 * 64 * 4 + scratch + (rows * 8).max(64 * 8) + 4
}

impl Tiling {
    pub(super) fn defines(self) -> Vec<(&'static str, Define)> {
        vec![
            ("fragment", Define::U32(self.fragment)),
            ("has_vectors", Define::Bool(self.has_vectors)),
            ("tile_rows", Define::U32(self.rows)),
            ("tile_columns", Define::U32(self.columns)),
            ("subgroup_rows", Define::U32(self.subgroups[0])),
            ("subgroup_columns", Define::U32(self.subgroups[1])),
        ]
    }
}
