//! How a product is shared out to matrix units.

use super::blocking::ENOUGH;
use super::{Form, Matmul};
use crate::plan::Define;
use crate::target::{Matrices, Target};
use crate::tensor::DType;

/// Invocations of a workgroup.
const THREADS: u32 = 256;
/// Pixels beside one another of a tile with a halo.
const LINE: u32 = 16;

/// A tile and how its subgroups share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tiling {
    /// Rows of the tile: 64 or 128.
    pub rows: u32,
    /// Columns of the tile: 64 or 128.
    pub columns: u32,
    pub matrices: Matrices,
    /// Subgroups below and beside one another.
    pub subgroups: [u32; 2],
    /// Workgroups that share the reduction of a tile.
    pub splits: u32,
    /// Whether rows are a rectangle of pixels: what their windows see is fetched, and normalised, once for all taps.
    pub has_halo: bool,
}

impl Matmul {
    /// Tiles for matrix units, where the target has them and the product is one of f16.
    pub(super) fn tilings(&self, target: Target) -> Vec<Tiling> {
        let fits = |m: &Matrices| self.x.dtype == DType::F16 && THREADS.is_multiple_of(m.lanes.max(1));
        let Some(matrices) = target.matrices.filter(fits) else { return Vec::new() };
        let has_room = |tiling: &Tiling| self.bytes(tiling) <= target.max_workgroup_bytes;
        let sizes = [[128, 128], [128, 64], [64, 64]].into_iter();
        let mut tilings: Vec<Tiling> =
            sizes.flat_map(|size| arrangements(size, matrices)).filter(has_room).collect();
        let is_enough = |t: &Tiling| {
            let tiles = self.phases() * self.rows().div_ceil(t.rows) * self.columns().div_ceil(t.columns);
            tiles >= ENOUGH && self.columns().is_multiple_of(t.columns)
        };
        // The first arrangement of the smallest tile, where none leaves enough of them.
        let smallest = tilings
            .iter()
            .position(|t| Some([t.rows, t.columns]) == tilings.last().map(|t| [t.rows, t.columns]));
        if let Some(best) = tilings.iter().position(is_enough).or(smallest) {
            tilings[..=best].rotate_right(1);
        }
        // Before the same tile without: inputs are fetched, and normalised, about once instead of once for every tap.
        let with_halo = |t: &Tiling| Some(Tiling { has_halo: true, ..*t }).filter(|t| self.can_have_halo(t));
        let both = tilings.iter().flat_map(|t| [with_halo(t).filter(has_room), Some(*t)]);
        both.flatten().collect()
    }

    /// Whether neighbours in the result see neighbours in the source, and tiles of lines of sixteen pixels cover it
    /// exactly.
    fn can_have_halo(&self, tiling: &Tiling) -> bool {
        let is_resized = self.defines.contains(&("has_upsample", Define::Bool(true)));
        let slides = match self.form {
            Form::Phases => true,
            Form::Window => self.taps == 9 && !is_resized && self.out.w == self.x.shape.w,
            Form::Product | Form::Narrow => false,
        };
        let [lines, width] = [self.rows() / (self.out.n * self.x.shape.w).max(1), self.x.shape.w];
        slides && width.is_multiple_of(LINE) && lines.is_multiple_of(tiling.rows / LINE)
    }

    /// Workgroup memory of the largest variant: halves of the operands with eight more a row against bank
    /// conflicts, 64x64 sums, means and factors of rows or groups, a flag. Where sums are not kept in vectors,
    /// a quad of scratch an invocation.
    fn bytes(&self, tiling: &Tiling) -> u32 {
        let Tiling { rows, columns, matrices, has_halo, .. } = tiling;
        let around = if self.form == Form::Phases { 1 } else { 2 };
        let staged = if *has_halo { (rows / LINE + around) * (LINE + around) } else { *rows };
        let scratch = if matrices.has_vectors { 0 } else { THREADS * 16 };
        staged * 40 * 2 + 32 * (columns + 8) * 2 + 64 * 64 * 4 + scratch + (rows * 8).max(64 * 8) + 4
    }
}

/// A tile shared by subgroups whose rows and columns are about as many, the most even first: of two that are as even,
/// the one with more rows.
fn arrangements([rows, columns]: [u32; 2], matrices: Matrices) -> impl Iterator<Item = Tiling> {
    let subgroups = THREADS / matrices.lanes.max(1);
    let mut beside: Vec<u32> = (1..=subgroups).filter(|b| subgroups.is_multiple_of(*b)).collect();
    beside.sort_by_key(|b| (b * b).max(subgroups) / (b * b).min(subgroups));
    let shared = beside.into_iter().map(move |b| [subgroups / b, b]).filter(move |[down, right]| {
        rows % (down * matrices.fragment) == 0 && columns % (right * matrices.fragment) == 0
    });
    let has_halo = false;
    shared.take(2).map(move |subgroups| Tiling { rows, columns, matrices, subgroups, splits: 1, has_halo })
}
