//! Fused multi-head attention with an online softmax.

use std::fmt;

use crate::choice::Candidate;
use crate::error::{KernelError, shape_error};
use crate::ops::check;
use crate::plan::{Define, PlanBuilder, Variant};
use crate::target::{Matrices, Target, Tier};
use crate::tensor::{Columns, DType, Shape, Tensor};

/// Queries that a lane owns on CPU adapters: two share each broadcast and run 1.2 to 2 times as
/// fast, but take twice as long to compile, which past 20 quads is seconds.
const fn lane_queries(quads: u32) -> u32 {
    if quads <= 20 { 2 } else { 1 }
}

/// Quads of the widest head: one of an autoencoder's mid block.
const MAX_QUADS: u32 = 128;
/// Quads of the widest head whose queries and outputs a lane of a CPU adapter keeps in registers.
const LANE_QUADS: u32 = 40;
/// Quads of a wider head's output that a lane owns.
const PART_QUADS: u32 = 32;

/// Keys of a tile of rows of `quads`, of which WebGPU's 16 KiB of workgroup memory have room for beside the scores.
const fn tile_keys(quads: u32) -> u32 {
    if quads <= 48 { 16 } else { 4 }
}

/// Invocations of a workgroup of `attention_coop`.
const COOP_THREADS: u32 = 256;

/// `softmax(q·kᵀ·scale + mask)·v` per head; scores are never stored.
///
/// Shapes: q `[N,H,W,heads·D]` (T = H·W queries), k and v `[N or 1, H',W', heads·D]` (S keys); a
/// batch of 1 serves every row of q. Result `[N,H,W,heads·D]` in q's storage. Head `i` has
/// channels `i·D…`. D is a multiple of 4 up to 512. Each may be a column block of a fused
/// projection. Logits, maximum, sum and output are accumulated in f32.
///
/// # Errors
/// [`KernelError::Shape`], [`KernelError::DType`], [`KernelError::Unsupported`] when recording.
#[derive(Debug, Clone)]
pub struct Attention {
    /// Queries.
    pub q: Columns,
    /// Keys.
    pub k: Columns,
    /// Values.
    pub v: Columns,
    /// Number of heads.
    pub heads: u32,
    /// Factor on the scores, usually `1/sqrt(D)`.
    pub scale: f32,
    /// Whether query `t` sees keys `0..=t` only.
    pub causal: bool,
}

impl Attention {
    /// Attention with `scale = 1/sqrt(head_dim)` and no mask.
    pub fn new(q: impl Into<Columns>, k: impl Into<Columns>, v: impl Into<Columns>, heads: u32) -> Self {
        let q = q.into();
        let scale = 1.0 / ((q.c / heads.max(1)) as f32).sqrt();
        Self { q, k: k.into(), v: v.into(), heads, scale, causal: false }
    }
    /// Records it.
    ///
    /// # Errors
    /// See [`Attention`].
    pub fn record(self, plan: &mut PlanBuilder) -> Result<Tensor, KernelError> {
        let (shape, quads) = self.check()?;
        let Self { q, k, v, heads, .. } = self;
        let y = plan.slot(shape, q.tensor.dtype);
        let (queries, keys) = (shape.positions(), k.tensor.shape.positions());
        let pitch = |columns: Columns| columns.tensor.shape.pitch() / 4;
        let rows = |columns: Columns| if columns.tensor.shape.n > 1 { keys } else { 0 };
        let immediates = vec![
            queries,
            keys,
            pitch(q),
            pitch(k),
            pitch(v),
            shape.pitch() / 4,
            q.offset / 4,
            k.offset / 4,
            v.offset / 4,
            rows(k),
            rows(v),
            (self.scale * std::f32::consts::LOG2_E).to_bits(),
        ];
        let bindings =
            [("q", q.tensor, false), ("k", k.tensor, false), ("v", v.tensor, false), ("y", y, true)];
        let ways = self.ways(plan.target(), quads).into_iter();
        let candidates = ways.map(|way| Candidate {
            name: way.to_string(),
            variant: self.variant(quads, way),
            bindings: bindings.map(|(name, tensor, is_written)| (name, tensor.into(), is_written)).into(),
            immediates: immediates.clone(),
            grid: [queries.div_ceil(way.queries()), heads * way.parts(quads), shape.n],
        });
        let candidates = candidates.collect();
        // Both products; under the causal mask half of them.
        let flops = 4 * shape.elements() * u64::from(keys) / if self.causal { 2 } else { 1 };
        plan.dispatch_any("attention", self.class(), candidates, flops)?;
        Ok(y)
    }

    /// What is computed, for tuning.
    fn class(&self) -> String {
        let Self { q, k, v, heads, causal, .. } = self;
        let part =
            |columns: &Columns| format!("{} {} of {}", columns.tensor.dtype, columns.tensor.shape, columns.c);
        let mask = if *causal { ", causal" } else { "" };
        format!("attention {}, {}, {} in {heads} heads{mask}", part(q), part(k), part(v))
    }

    /// The result's shape and the quads of a head.
    fn check(&self) -> Result<(Shape, u32), KernelError> {
        let op = "attention";
        let Self { q, k, v, heads, .. } = *self;
        let (tokens, context) = (q.tensor.shape, k.tensor.shape);
        for (name, columns) in [("attention q", q), ("attention k", k), ("attention v", v)] {
            check::float(name, columns.tensor)?;
            let shape = columns.tensor.shape;
            let inside = columns.offset.is_multiple_of(4) && columns.offset + columns.c <= shape.c;
            if !inside || columns.c != q.c || shape.elements() == 0 {
                let expected = format!("{} columns at a multiple of 4 in the tensor", q.c);
                let got = format!("{} at {} of {shape}", columns.c, columns.offset);
                return Err(shape_error(name, expected, got));
            }
            if shape.n != 1 && shape.n != tokens.n {
                return Err(shape_error(name, format!("a batch of 1 or {}", tokens.n), shape));
            }
        }
        if v.tensor.shape.positions() != context.positions() {
            return Err(shape_error("attention v", format!("{} keys", context.positions()), v.tensor));
        }
        let d = q.c / heads.max(1);
        if heads == 0 || d * heads != q.c || d == 0 || d > 4 * MAX_QUADS || !d.is_multiple_of(4) {
            let most = 4 * MAX_QUADS;
            let what = format!("{} columns in {heads} heads (a multiple of 4 up to {most} each)", q.c);
            return Err(KernelError::Unsupported { op: op.into(), what });
        }
        Ok((tokens.with_c(q.c), d / 4))
    }

    /// Queries and keys that a workgroup multiplies at a time where the target has matrix units for them: the
    /// largest blocks first.
    fn blocks(&self, target: Target, quads: u32) -> Vec<(Matrices, [u32; 2])> {
        let is_half = [self.q, self.k, self.v].iter().all(|columns| columns.tensor.dtype == DType::F16);
        // Small heads would be mostly padding, few queries mostly empty blocks.
        let suits = |m: &Matrices| {
            let is_large = quads >= 8 && self.q.tensor.shape.positions() >= 32;
            is_half && is_large && COOP_THREADS.is_multiple_of(m.lanes.max(1))
        };
        let Some(matrices) = target.matrices.filter(suits) else { return Vec::new() };
        let wide = (4 * quads).next_multiple_of(matrices.fragment);
        let bytes = |[block, keys]: [u32; 2]| {
            2 * ((block + keys) * (wide + 8) + block * (keys + 8)) + 4 * (block * 64 + COOP_THREADS)
        };
        let fits = |blocks: &[u32; 2]| bytes(*blocks) <= target.max_workgroup_bytes;
        [[64, 64], [64, 32], [32, 64], [32, 32]]
            .into_iter()
            .filter(fits)
            .map(|blocks| (matrices, blocks))
            .collect()
    }

    /// Every way to do it on `target`, the first guess first.
    fn ways(&self, target: Target, quads: u32) -> Vec<Way> {
        if target.tier == Tier::Lane && quads > LANE_QUADS {
            return vec![Way::Wide { lanes: target.lanes }];
        }
        if target.tier == Tier::Lane {
            let guess = lane_queries(quads);
            return [guess, 3 - guess].map(|queries| Way::Lane { lanes: target.lanes, queries }).into();
        }
        // A query and its output are `2·quads/split` vec4 registers, at most 32 of them.
        let split = quads.div_ceil(16).next_power_of_two();
        let splits = [split, 2 * split].into_iter().filter(|split| *split <= quads);
        let blocks = self.blocks(target, quads).into_iter();
        let on_units = blocks.map(|(matrices, [queries, keys])| Way::Matrices { matrices, queries, keys });
        on_units.chain(splits.map(|split| Way::Tile { split })).collect()
    }

    fn variant(&self, quads: u32, way: Way) -> Variant {
        let mut defines = vec![
            ("quads", Define::U32(quads)),
            ("q_dtype", check::define(self.q.tensor.dtype)),
            ("k_dtype", check::define(self.k.tensor.dtype)),
            ("v_dtype", check::define(self.v.tensor.dtype)),
            ("causal", Define::Bool(self.causal)),
        ];
        let stem = match way {
            Way::Lane { lanes, queries } => {
                defines.extend([("lanes", Define::U32(lanes)), ("queries", Define::U32(queries))]);
                "attention_lane"
            }
            Way::Wide { lanes } => {
                defines.extend([("lanes", Define::U32(lanes)), ("part", Define::U32(PART_QUADS))]);
                "attention_wide"
            }
            Way::Tile { split } => {
                let row = quads.div_ceil(split) * split;
                defines.extend([("split", Define::U32(split)), ("keys", Define::U32(tile_keys(row)))]);
                "attention_tile"
            }
            Way::Matrices { matrices, queries, keys } => {
                defines.extend([
                    ("fragment", Define::U32(matrices.fragment)),
                    ("has_vectors", Define::Bool(matrices.has_vectors)),
                    ("subgroups", Define::U32(COOP_THREADS / matrices.lanes)),
                    ("block", Define::U32(queries)),
                    ("keys_block", Define::U32(keys)),
                ]);
                "attention_coop"
            }
        };
        Variant { stem, defines }
    }
}

/// How queries are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// So many queries a lane.
    Lane { lanes: u32, queries: u32 },
    /// One query a lane, and a part of its output.
    Wide { lanes: u32 },
    /// A query for `split` invocations of 64, each with a part of its head.
    Tile { split: u32 },
    /// Blocks on matrix units.
    Matrices { matrices: Matrices, queries: u32, keys: u32 },
}

impl Way {
    /// Queries that a workgroup owns.
    const fn queries(self) -> u32 {
        match self {
            Self::Lane { lanes, queries } => lanes * queries,
            Self::Wide { lanes } => lanes,
            Self::Tile { split } => 64 / split,
            Self::Matrices { queries, .. } => queries,
        }
    }
    /// Workgroups that share the output of a query in a head of `quads`.
    const fn parts(self, quads: u32) -> u32 {
        if matches!(self, Self::Wide { .. }) { quads.div_ceil(PART_QUADS) } else { 1 }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lane { lanes, queries } => write!(f, "lane {queries} by {lanes}"),
            Self::Wide { lanes } => write!(f, "lane 1 by {lanes}, in parts"),
            Self::Tile { split } => write!(f, "tile {} by 64", 64 / split),
            Self::Matrices { queries, keys, .. } => write!(f, "matrices {queries}x{keys}"),
        }
    }
}

/// Every kind of variant that this op records.
pub(crate) fn variants() -> Vec<Variant> {
    const F: [DType; 2] = [DType::F16, DType::F32];
    check::recorded(|plan| {
        for (q_dtype, k_dtype) in [(F[0], F[0]), (F[0], F[1]), (F[1], F[0]), (F[1], F[1])] {
            for d in [4, 8, 40, 64, 76, 80, 128, 132, 160, 196, 512] {
                let name = format!("{d}{q_dtype}{k_dtype}");
                let q = plan.input(&format!("q{name}"), Shape::tokens(1, 32, 2 * d), q_dtype);
                let k = plan.input(&format!("k{name}"), Shape::tokens(1, 20, 2 * d), k_dtype);
                for causal in [false, true] {
                    Attention { causal, ..Attention::new(q, k, k, 2) }.record(plan)?;
                }
            }
        }
        Ok(())
    })
}
