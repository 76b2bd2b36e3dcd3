//! Attention against f64: every head width in use, odd ones, both tiers and storages.

use dreamglass_kernels::ops::Attention;
use dreamglass_kernels::reference::attention as reference;
use dreamglass_kernels::{Columns, DType, PlanBuilder, Shape, Tensor};

use crate::harness::{Random, assert_close, on_tiers, rounding, to_f64};

const F16: DType = DType::F16;
const F32: DType = DType::F32;

/// Queries, keys and values of their own, or columns of what a fused projection writes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Source {
    /// One tensor of q, k and v.
    Qkv,
    /// q, and one tensor of k and v whose batch is 1.
    Kv,
    /// Three tensors.
    Apart,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    n: u32,
    queries: u32,
    keys: u32,
    heads: u32,
    d: u32,
    source: Source,
    causal: bool,
    /// Storage of q and the result, then of k and v.
    dtypes: [DType; 2],
}

impl Case {
    fn new([n, queries, keys, heads, d]: [u32; 5], source: Source) -> Self {
        Self { n, queries, keys, heads, d, source, causal: false, dtypes: [F16; 2] }
    }
    fn causal(self) -> Self {
        Self { causal: true, ..self }
    }
    fn stored(self, q: DType, k: DType) -> Self {
        Self { dtypes: [q, k], ..self }
    }
    fn c(&self) -> u32 {
        self.heads * self.d
    }
    fn kv_rows(&self) -> u32 {
        if self.source == Source::Kv { 1 } else { self.n }
    }
    fn size(&self) -> reference::Attention {
        reference::Attention {
            n: self.n as usize,
            queries: self.queries as usize,
            keys: self.keys as usize,
            heads: self.heads as usize,
            head_dim: self.d as usize,
            scale: 1.0 / f64::from(self.d).sqrt(),
            causal: self.causal,
        }
    }
    fn record(&self, plan: &mut PlanBuilder) -> Result<Tensor, dreamglass_kernels::KernelError> {
        let (c, [dtype, kv_dtype]) = (self.c(), self.dtypes);
        let part = |tensor, i| Columns { tensor, offset: i * c, c };
        let q_shape = Shape::tokens(self.n, self.queries, c);
        let kv_shape = Shape::tokens(self.kv_rows(), self.keys, c);
        let attention = match self.source {
            Source::Qkv => {
                let qkv = plan.input("qkv", q_shape.with_c(3 * c), dtype);
                Attention::new(part(qkv, 0), part(qkv, 1), part(qkv, 2), self.heads)
            }
            Source::Kv => {
                let q = plan.input("q", q_shape, dtype);
                let kv = plan.input("kv", kv_shape.with_c(2 * c), kv_dtype);
                Attention::new(q, part(kv, 0), part(kv, 1), self.heads)
            }
            Source::Apart => {
                let q = plan.input("q", q_shape, dtype);
                let k = plan.input("k", kv_shape, kv_dtype);
                Attention::new(q, k, plan.input("v", kv_shape, kv_dtype), self.heads)
            }
        };
        Attention { causal: self.causal, ..attention }.record(plan)
    }
}

/// Rows of several tensors side by side.
fn side_by_side(parts: &[&[f32]], c: usize) -> Vec<f32> {
    let rows = 0..parts[0].len() / c;
    rows.flat_map(|row| parts.iter().flat_map(move |part| &part[row * c..][..c])).copied().collect()
}

/// Checks one case on given q, k and v.
fn check(case: &Case, q: &[f32], k: &[f32], v: &[f32]) {
    let (c, d) = (case.c() as usize, case.d as usize);
    let (want, magnitude) = reference::attention(&case.size(), &to_f64(q), &to_f64(k), &to_f64(v));
    let inputs = match case.source {
        Source::Qkv => vec![("qkv", side_by_side(&[q, k, v], c))],
        Source::Kv => vec![("q", q.to_vec()), ("kv", side_by_side(&[k, v], c))],
        Source::Apart => vec![("q", q.to_vec()), ("k", k.to_vec()), ("v", v.to_vec())],
    };
    let inputs: Vec<(&str, &[f32])> = inputs.iter().map(|(name, values)| (*name, &values[..])).collect();
    let largest = v.iter().fold(0.0f64, |m, &v| m.max(f64::from(v).abs()));
    // Of the largest value: exp2 to 2^-16 (drivers approximate it by polynomials), a step of f32
    // for each key added, and what an error in a score does to the probabilities: a score is a sum
    // of D products, of which each rounding is a step of f32 at most.
    let bound = |ix: usize| {
        let (row, head) = (ix / c, ix % c / d);
        let score = magnitude[row * case.heads as usize + head] * f64::from(case.d + 3) / f64::from(1 << 24);
        let keys = f64::from(case.keys) / f64::from(1 << 23);
        largest * (1.0 / 65536.0 + keys + 4.0 * score.min(1.0)) + rounding(case.dtypes[0], want[ix])
    };
    on_tiers(
        &inputs,
        &[],
        |plan| case.record(plan),
        |tier, got| {
            assert_close(&format!("{case:?} {tier:?}"), got, &want, bound);
        },
    );
}

/// q, k and v with entries between −`size` and `size`.
fn random(case: &Case, seed: u64, size: f32) -> [Vec<f32>; 3] {
    let mut random = Random::new(seed);
    let q = case.n * case.queries * case.c();
    let kv = case.kv_rows() * case.keys * case.c();
    [q, kv, kv].map(|count| random.range(count as usize, -size, size))
}

fn check_random(cases: &[Case]) {
    for (seed, case) in cases.iter().enumerate() {
        let [q, k, v] = random(case, seed as u64, 2.0);
        check(case, &q, &k, &v);
    }
}

#[test]
fn self_attention_matches_f64() {
    use Source::{Apart, Qkv};
    check_random(&[
        Case::new([1, 256, 256, 2, 40], Qkv),
        Case::new([1, 64, 64, 2, 64], Qkv).stored(F32, F32),
        Case::new([2, 64, 64, 2, 80], Qkv),
        Case::new([1, 64, 64, 2, 160], Qkv),
        Case::new([2, 33, 33, 3, 8], Apart).stored(F32, F32),
        Case::new([1, 1, 1, 1, 4], Apart),
    ]);
}

/// Heads whose queries and outputs have no room in registers: one of an autoencoder's mid block, and odd ones.
#[test]
fn attention_of_wide_heads_matches_f64() {
    use Source::{Apart, Kv, Qkv};
    check_random(&[
        Case::new([1, 40, 40, 1, 512], Qkv),
        Case::new([2, 19, 19, 1, 512], Qkv).stored(F32, F32),
        Case::new([1, 64, 64, 1, 256], Qkv),
        Case::new([2, 9, 33, 2, 164], Kv).stored(F32, F16),
        Case::new([1, 21, 13, 1, 196], Apart).causal(),
        Case::new([1, 1, 1, 1, 320], Apart),
    ]);
}

#[test]
fn attention_over_a_prompt_matches_f64() {
    use Source::{Apart, Kv};
    check_random(&[
        Case::new([2, 70, 77, 2, 40], Kv),
        Case::new([1, 65, 77, 1, 160], Kv).stored(F32, F16),
        Case::new([3, 20, 16, 2, 64], Kv).stored(F16, F32),
        Case::new([2, 9, 80, 2, 80], Apart),
        Case::new([1, 17, 1, 2, 12], Apart).stored(F32, F32),
        Case::new([2, 10, 17, 1, 76], Apart),
        Case::new([1, 10, 20, 1, 132], Apart).stored(F32, F32),
    ]);
}

#[test]
fn causal_attention_matches_f64() {
    use Source::{Apart, Qkv};
    check_random(&[
        Case::new([1, 77, 77, 2, 64], Qkv).causal(),
        Case::new([2, 16, 16, 2, 32], Qkv).causal().stored(F32, F32),
        Case::new([1, 130, 130, 1, 80], Qkv).causal(),
        // More queries than keys, and fewer.
        Case::new([1, 21, 9, 1, 8], Apart).causal(),
        Case::new([1, 5, 30, 1, 8], Apart).causal(),
    ]);
}

#[test]
fn extreme_scores_keep_the_softmax_finite() {
    let cases = [
        Case::new([1, 20, 77, 1, 40], Source::Apart).stored(F32, F32),
        Case::new([1, 20, 77, 1, 40], Source::Apart),
    ];
    for case in cases {
        let [q, k, v] = random(&case, 7, 1.0);
        let c = case.c() as usize;
        // One key stands far above the rest: last, first and in the middle.
        for at in [0, 40, 76] {
            let mut k = k.clone();
            k[at * c..(at + 1) * c].copy_from_slice(&q[..c]);
            k[at * c..(at + 1) * c].iter_mut().for_each(|v| *v *= 64.0);
            check(&case, &q, &k, &v);
        }
        // All scores equal, zero and far from zero: the mean of the values.
        check(&case, &vec![0.0; q.len()], &k, &v);
        check(&case, &vec![16.0; q.len()], &vec![-16.0; k.len()], &v);
        // Values at the end of f16's range.
        let large: Vec<f32> = v.iter().map(|v| 65504.0f32.copysign(*v)).collect();
        check(&case, &q, &k, &large);
    }
    // Queries and keys at the end of f16's range: the scores are 10^10, the softmax picks.
    let case = Case::new([1, 8, 16, 1, 8], Source::Apart).stored(F32, F32);
    let [q, k, v] = random(&case, 8, 1.0);
    let (q, k) = (vec![65504.0; q.len()], k);
    let mut k = k.iter().map(|_| 0.0).collect::<Vec<f32>>();
    k[3 * 8..4 * 8].fill(65504.0);
    check_exact_pick(&case, &q, &k, &v, 3);
}

/// Every query picks key `at` alone.
fn check_exact_pick(case: &Case, q: &[f32], k: &[f32], v: &[f32], at: usize) {
    let c = case.c() as usize;
    let want: Vec<f64> = to_f64(&v[at * c..(at + 1) * c]).repeat(case.queries as usize);
    on_tiers(
        &[("q", q), ("k", k), ("v", v)],
        &[],
        |plan| case.record(plan),
        |tier, got| {
            assert_close(&format!("{case:?} {tier:?}"), got, &want, |ix| rounding(F32, want[ix]));
        },
    );
}
