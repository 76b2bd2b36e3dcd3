//! Group and layer normalisation against f64.

use dreamglass_kernels::ops::{GroupNorm, LayerNorm};
use dreamglass_kernels::reference::{group_norm, layer_norm};
use dreamglass_kernels::{DType, Param, Shape};

use crate::harness::{Random, assert_close, on_tiers, rounding, to_f64};

const F16: DType = DType::F16;
const F32: DType = DType::F32;
const EPS: f32 = 1e-5;

/// What the values look like.
#[derive(Debug, Clone, Copy)]
enum Data {
    /// Between −1 and 1.
    Plain,
    /// Mean 60, deviation 0.3: a sum of squares loses four of its seven digits.
    FarFromZero,
    /// The same everywhere: the variance is zero.
    Constant,
    /// Between −1 and 1 but for the first, which is f16's largest.
    Outlier,
    /// Each channel with a mean of its own, far apart, within one group.
    Steps,
}

fn values(data: Data, count: usize, c: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    match data {
        Data::Plain => random.halves(count),
        Data::FarFromZero => random.range(count, 59.5, 60.5),
        Data::Constant => vec![3.140625; count],
        Data::Outlier => {
            let mut values = random.halves(count);
            values[0] = 65504.0;
            values
        }
        Data::Steps => (0..count)
            .map(|ix| half::f16::from_f32((ix % c) as f32 * 8.0 + random.between(-1.0, 1.0)).to_f32())
            .collect(),
    }
}

/// Error of `(x − mean)/deviation·weight + bias`: a few steps of f32 at the size of x, seen through
/// the factor, and of the result; then its storage.
fn bound(largest: f64, deviation: f64, weight: f64, y: f64, out: DType) -> f64 {
    let step = 1.0 / f64::from(1 << 23);
    4.0 * step * largest / deviation * weight.abs()
        + 32.0 * step * (y.abs() + weight.abs() + 1.0)
        + rounding(out, y)
}

#[derive(Debug, Clone, Copy)]
struct Group {
    shape: [u32; 4],
    c2: u32,
    groups: u32,
    silu: bool,
    data: Data,
    /// Storage of x, of x2 and of the result.
    dtypes: [DType; 3],
}

const PLAIN: Group =
    Group { shape: [1, 16, 16, 320], c2: 0, groups: 32, silu: false, data: Data::Plain, dtypes: [F16; 3] };

fn check_group(case: &Group, seed: u64) {
    let [n, h, w, c1] = case.shape;
    let (positions, c) = ((h * w) as usize, (c1 + case.c2) as usize);
    let joined = values(case.data, n as usize * positions * c, c, seed);
    let mut random = Random::new(seed + 1000);
    let (weight, bias) = (random.range(c, 0.5, 1.5), random.halves(c));
    let split = |from: usize, to: usize| -> Vec<f32> {
        joined.chunks_exact(c).flat_map(|row| &row[from..to]).copied().collect()
    };
    let (x, x2) = (split(0, c1 as usize), split(c1 as usize, c));
    let mut inputs = vec![("x", &x[..])];
    if case.c2 > 0 {
        inputs.push(("x2", &x2));
    }
    let (wide, weights) = (to_f64(&joined), [to_f64(&weight), to_f64(&bias)]);
    let groups = case.groups as usize;
    let (want, deviations) =
        group_norm::group_norm(&wide, positions, groups, &weights[0], &weights[1], f64::from(EPS), case.silu);
    let largest = wide.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let limit = |ix: usize| {
        let (n, channel) = (ix / (positions * c), ix % c);
        let deviation = deviations[n * groups + channel / (c / groups)];
        // SiLU's slope is below 1.1.
        1.1 * bound(largest, deviation, weights[0][channel], want[ix], case.dtypes[2])
    };
    on_tiers(
        &inputs,
        &[("weight", &weight), ("bias", &bias)],
        |plan| {
            let x = plan.input("x", Shape::new(n, h, w, c1), case.dtypes[0]);
            let x2 = (case.c2 > 0).then(|| plan.input("x2", x.shape.with_c(case.c2), case.dtypes[1]));
            let vector = |name| Param::new(name, &[c as u32]);
            let norm = GroupNorm::new(x, vector("weight"), vector("bias"), case.groups, EPS);
            GroupNorm { x2, silu: case.silu, out_dtype: Some(case.dtypes[2]), ..norm }.record(plan)
        },
        |tier, got| assert_close(&format!("{case:?} {tier:?}"), got, &want, limit),
    );
}

#[test]
fn group_norm_matches_f64() {
    let cases = [
        PLAIN,
        Group { silu: true, dtypes: [F32; 3], ..PLAIN },
        Group { shape: [2, 8, 8, 640], c2: 320, silu: true, ..PLAIN },
        Group { shape: [1, 5, 7, 36], c2: 28, groups: 8, dtypes: [F16, F32, F32], ..PLAIN },
        Group { shape: [2, 3, 3, 8], c2: 6, groups: 7, silu: true, dtypes: [F32, F16, F16], ..PLAIN },
        Group { shape: [3, 4, 5, 6], groups: 2, dtypes: [F32; 3], ..PLAIN },
        Group { shape: [1, 4, 5, 7], groups: 7, dtypes: [F16, F16, F32], ..PLAIN },
        Group { shape: [2, 1, 1, 64], ..PLAIN },
        Group { shape: [1, 1, 1, 32], silu: true, ..PLAIN },
        Group { shape: [1, 256, 256, 8], groups: 2, ..PLAIN },
        Group { shape: [1, 1, 65537, 4], groups: 4, dtypes: [F32; 3], ..PLAIN },
    ];
    for (seed, case) in cases.iter().enumerate() {
        check_group(case, seed as u64);
    }
}

#[test]
fn group_norm_keeps_its_digits() {
    for (seed, data) in
        [Data::FarFromZero, Data::Constant, Data::Outlier, Data::Steps].into_iter().enumerate()
    {
        for dtype in [F16, F32] {
            let case = Group { shape: [2, 32, 20, 40], groups: 4, data, dtypes: [dtype; 3], ..PLAIN };
            check_group(&case, seed as u64 + 100);
        }
    }
}

fn check_layer([n, t, c]: [u32; 3], data: Data, dtype: DType, seed: u64) {
    let x = values(data, (n * t * c) as usize, c as usize, seed);
    let mut random = Random::new(seed + 2000);
    let (weight, bias) = (random.range(c as usize, 0.5, 1.5), random.halves(c as usize));
    let (wide, weights) = (to_f64(&x), [to_f64(&weight), to_f64(&bias)]);
    let (want, deviations) = layer_norm::layer_norm(&wide, &weights[0], &weights[1], f64::from(EPS));
    let limit = |ix: usize| {
        let (row, channel) = (ix / c as usize, ix % c as usize);
        let row_values = &wide[row * c as usize..][..c as usize];
        let largest = row_values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        bound(largest, deviations[row], weights[0][channel], want[ix], dtype)
    };
    on_tiers(
        &[("x", &x)],
        &[("weight", &weight), ("bias", &bias)],
        |plan| {
            let x = plan.input("x", Shape::tokens(n, t, c), dtype);
            let vector = |name| Param::new(name, &[c]);
            LayerNorm { x, weight: vector("weight"), bias: vector("bias"), eps: EPS }.record(plan)
        },
        |tier, got| assert_close(&format!("[{n},{t},{c}] {data:?} {dtype} {tier:?}"), got, &want, limit),
    );
}

#[test]
fn layer_norm_matches_f64() {
    for (seed, shape) in
        [[1, 256, 320], [2, 77, 768], [1, 3, 1280], [2, 5, 7], [1, 1, 1], [1, 65, 4], [3, 9, 130]]
            .into_iter()
            .enumerate()
    {
        for dtype in [F16, F32] {
            check_layer(shape, Data::Plain, dtype, seed as u64);
        }
    }
}

#[test]
fn layer_norm_keeps_its_digits() {
    for (seed, data) in
        [Data::FarFromZero, Data::Constant, Data::Outlier, Data::Steps].into_iter().enumerate()
    {
        for dtype in [F16, F32] {
            check_layer([1, 9, 321], data, dtype, seed as u64 + 100);
        }
    }
}
