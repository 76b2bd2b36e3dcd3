//! How a product is shared out: what a workgroup computes, and its invocations or subgroups of that.

use std::cmp::Reverse;
use std::fmt;

use super::tiling::Tiling;
use super::{Form, Fusion, Matmul, TILE};
use crate::plan::Define;
use crate::target::{Target, Tier};

/// Workgroups that keep a GPU busy: larger tiles read less, if enough of them are left.
pub(super) const ENOUGH: u32 = 96;
/// Rows and invocations of a tile of the portable kernels, the first guess first: 4 rows an invocation, or 8, which
/// read less of workgroup memory for each product.
const TILES: [[u32; 2]; 4] = [[TILE, 256], [TILE, 128], [32, 128], [128, 256]];

/// Into how many slices a reduction may be cut.
const SPLITS: [u32; 3] = [2, 4, 8];
/// Shortest slice: what each leaves behind and reads again has to be little beside it.
const SLICE: u32 = 512;
/// Storage buffers of the widest product with a cut reduction.
const SPLIT_BUFFERS: u32 = 12;

/// What a workgroup computes at a time, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blocking {
    /// Neighbouring pixels an invocation.
    Narrow { threads: u32, pixels: u32 },
    /// Register tiles of a subgroup.
    Lane { lanes: u32, rows_per_lane: u32, quads: u32 },
    /// Tiles of `rows` x 64 in workgroup memory, each shared by `splits` workgroups.
    Tile { rows: u32, threads: u32, splits: u32 },
    /// Tiles on matrix units.
    Matrices(Tiling),
}

impl fmt::Display for Blocking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Narrow { threads, pixels } => write!(f, "narrow {pixels} by {threads}"),
            Self::Lane { lanes, .. } => write!(f, "lane {}x{} by {lanes}", self.rows(), self.columns()),
            Self::Tile { rows, threads, .. } => write!(f, "tile {rows}x{TILE} by {threads}"),
            Self::Matrices(Tiling { rows, columns, subgroups: [below, beside], has_halo, .. }) => {
                let halo = if *has_halo { " with halo" } else { "" };
                write!(f, "matrices {rows}x{columns} by {below}x{beside}{halo}")
            }
        }?;
        match self.splits() {
            1 => Ok(()),
            splits => write!(f, " in {splits}"),
        }
    }
}

impl Blocking {
    /// Rows of the product that a workgroup computes; of the narrow form, runs of pixels.
    pub(super) fn rows(&self) -> u32 {
        match self {
            Self::Narrow { threads, .. } => *threads,
            Self::Lane { lanes, rows_per_lane, .. } => lanes * rows_per_lane,
            Self::Tile { rows, .. } | Self::Matrices(Tiling { rows, .. }) => *rows,
        }
    }
    /// Columns of the product that a workgroup computes.
    pub(super) fn columns(&self) -> u32 {
        match self {
            Self::Narrow { .. } => 4,
            Self::Lane { lanes, quads, .. } => 4 * quads * lanes,
            Self::Tile { .. } => TILE,
            Self::Matrices(tiling) => tiling.columns,
        }
    }
    /// Workgroups that share the reduction of a tile.
    pub(super) fn splits(&self) -> u32 {
        match self {
            Self::Tile { splits, .. } | Self::Matrices(Tiling { splits, .. }) => *splits,
            Self::Narrow { .. } | Self::Lane { .. } => 1,
        }
    }
    fn in_splits(self, splits: u32) -> Self {
        match self {
            Self::Tile { rows, threads, .. } => Self::Tile { rows, threads, splits },
            Self::Matrices(tiling) => Self::Matrices(Tiling { splits, ..tiling }),
            Self::Narrow { .. } | Self::Lane { .. } => self,
        }
    }
    pub(super) fn stem(&self, form: Form) -> &'static str {
        match (self, form) {
            (Self::Matrices(Tiling { has_halo: true, .. }), _) => "conv2d_coop",
            (Self::Matrices(_), _) => "product_coop",
            (_, Form::Narrow) => "conv2d_narrow",
            (Self::Lane { .. }, Form::Product) => "gemm_lane",
            (Self::Lane { .. }, _) => "conv2d_lane",
            (_, Form::Product) => "gemm_tile",
            _ => "conv2d_tile",
        }
    }
    /// What kernels of `tier` must know of it, for a product with so many `columns`.
    pub(super) fn defines(&self, tier: Tier, columns: u32) -> Vec<(&'static str, Define)> {
        let numbers = match self {
            Self::Narrow { threads, pixels } => {
                let lanes = if tier == Tier::Lane { *threads } else { 0 };
                vec![("lanes", lanes), ("pixels", *pixels)]
            }
            Self::Lane { lanes, rows_per_lane, quads } => {
                vec![("lanes", *lanes), ("quads", *quads), ("rows_per_lane", *rows_per_lane)]
            }
            Self::Tile { rows, threads, splits } => {
                vec![("tile_rows", *rows), ("threads", *threads), ("splits", *splits)]
            }
            Self::Matrices(Tiling { rows, columns, matrices, subgroups, splits, .. }) => vec![
                ("fragment", matrices.fragment),
                ("tile_rows", *rows),
                ("tile_columns", *columns),
                ("subgroup_rows", subgroups[0]),
                ("subgroup_columns", subgroups[1]),
                ("splits", *splits),
            ],
        };
        let mut defines: Vec<_> = numbers.into_iter().map(|(name, n)| (name, Define::U32(n))).collect();
        match self {
            Self::Matrices(tiling) => {
                defines.push(("has_vectors", Define::Bool(tiling.matrices.has_vectors)));
            }
            // Whether some of a lane's quads are columns and others are behind the last.
            Self::Lane { quads, .. } => {
                let cuts_quads = !columns.div_ceil(4).is_multiple_of(*quads);
                defines.push(("cuts_quads", Define::Bool(cuts_quads)));
            }
            Self::Narrow { .. } | Self::Tile { .. } => {}
        }
        defines
    }
}

impl Matmul {
    /// Every way to share the product out on `target`, the first guess first.
    pub(super) fn blockings(&self, target: Target, fusion: &Fusion) -> Vec<Blocking> {
        match (self.form, target.tier) {
            (Form::Narrow, Tier::Lane) => {
                [8, 4].map(|pixels| Blocking::Narrow { threads: target.lanes, pixels }).into()
            }
            (Form::Narrow, Tier::Tile) => {
                [4, 2, 8].map(|pixels| Blocking::Narrow { threads: 64, pixels }).into()
            }
            (_, Tier::Lane) => self.lane_blockings(target),
            (_, Tier::Tile) => {
                let tile = |[rows, threads]: [u32; 2]| Blocking::Tile { rows, threads, splits: 1 };
                // Statistics are collected by 256 invocations with four rows of a tile of 64 each.
                let can_collect = |b: &Blocking| fusion.statistics.is_none() || *b == tile(TILES[0]);
                let matrices: Vec<Blocking> =
                    self.tilings(target).into_iter().map(Blocking::Matrices).collect();
                let smallest = matrices.iter().min_by_key(|b| b.rows() * b.columns()).copied();
                let cut = [smallest, Some(tile(TILES[0]))].into_iter().flatten();
                let cut: Vec<Blocking> = cut.flat_map(|b| self.cut(target, b, fusion)).collect();
                let tiles = TILES.into_iter().map(tile).filter(can_collect);
                let all = matrices.into_iter().chain(tiles).chain(cut);
                all.filter(|b| self.stays_in_rows(b, fusion)).collect()
            }
        }
    }

    /// `blocking` with its reduction cut into slices: too few tiles keep a GPU busy that way, if it is long enough.
    /// Never the first guess: what it gains and whether differs from device to device.
    fn cut(&self, target: Target, blocking: Blocking, fusion: &Fusion) -> impl Iterator<Item = Blocking> {
        let tiles = self.phases()
            * self.rows().div_ceil(blocking.rows())
            * self.columns().div_ceil(blocking.columns());
        // Rows are normalised by sums over all of a row.
        let can_be = fusion.layer_norm.is_none() && target.max_storage_buffers >= SPLIT_BUFFERS;
        let length = (self.x.shape.c + self.x2.map_or(0, |x2| x2.shape.c)) * self.taps;
        let fits = move |splits: u32| can_be && length / splits >= SLICE && tiles * splits < 2 * ENOUGH;
        SPLITS.into_iter().filter(move |splits| fits(*splits)).map(move |splits| blocking.in_splits(splits))
    }

    /// Whether a tile meets one batch row only, where that matters: groups are normalised and counted row by row.
    fn stays_in_rows(&self, blocking: &Blocking, fusion: &Fusion) -> bool {
        let matters = fusion.group_norm.is_some() || fusion.statistics.is_some();
        !matters || self.out.n == 1 || (self.rows() / self.out.n).is_multiple_of(blocking.rows())
    }

    /// More rows and columns a lane read less for each product, until registers run out.
    fn lane_blockings(&self, target: Target) -> Vec<Blocking> {
        let lanes = target.lanes;
        // Empty rows are computed, too: two short tiles rather than one that is half empty.
        let most = if self.rows() <= 2 * lanes { 1 } else { (32 / lanes.max(1)).clamp(1, 4) };
        // What stays empty is computed all the same.
        let padded = |quads: u32| self.columns().next_multiple_of(4 * quads * lanes);
        let best = (1..=3).min_by_key(|&quads| (padded(quads), Reverse(quads))).unwrap_or(1);
        // One quad leaves registers for twice the rows, if there are enough for every core.
        let taller = if best == 1 && self.rows() >= 16 * most * lanes { 2 * most } else { most };
        let mut blockings = vec![Blocking::Lane { lanes, rows_per_lane: taller, quads: best }];
        let shapes =
            [(most, 3), (most, 2), (3 * most / 2, 2), (most, 1), (2 * most, 1), (most / 2, 3), (most / 2, 2)];
        for (rows_per_lane, quads) in shapes.into_iter().filter(|(rows, _)| *rows > 0) {
            let blocking = Blocking::Lane { lanes, rows_per_lane, quads };
            if !blockings.contains(&blocking) {
                blockings.push(blocking);
            }
        }
        blockings
    }
}
