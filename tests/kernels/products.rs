//! Linear layers and convolutions against f64 on real and odd shapes, both tiers.

use dreamglass_kernels::ops::{Activation, Conv2d, Linear, Strip};
use dreamglass_kernels::reference::{conv2d as conv_reference, gemm as gemm_reference};
use dreamglass_kernels::{DType, KernelError, Param, PlanBuilder, Shape, Tensor, Tier};

use crate::harness::{EVERY_WAY, Random, some_on_tiers};

/// `|err| ≤ K·2⁻²⁴·Σ|terms|` for f32 accumulation in any order, `2⁻¹⁰·|y|` for rounding the
/// result to f16 (2⁻¹¹ would be exact rounding; drivers may truncate) and one subnormal.
fn bound(k: u32, magnitude: f64, y: f64, dtype: DType) -> f64 {
    let rounding = if dtype == DType::F16 { y.abs() / 1024.0 + 6e-8 } else { 1e-7 };
    f64::from(k) * magnitude / f64::from(1 << 24) + rounding
}

struct Case {
    x: Shape,
    c2: u32,
    out_c: u32,
    kernel: u32,
    stride: u32,
    pads_behind: bool,
    upsample: Option<[u32; 2]>,
    /// Bias, time embedding, residual and SiLU all at once.
    fused: bool,
}

fn case(x: [u32; 4], c2: u32, out_c: u32, kernel: u32, stride: u32) -> Case {
    let x = Shape::new(x[0], x[1], x[2], x[3]);
    Case { x, c2, out_c, kernel, stride, pads_behind: false, upsample: None, fused: false }
}

fn cases() -> Vec<Case> {
    vec![
        case([1, 16, 16, 32], 0, 32, 3, 1),
        Case { fused: true, ..case([2, 7, 9, 12], 0, 36, 3, 1) },
        Case { fused: true, ..case([2, 9, 7, 8], 12, 20, 3, 1) },
        case([1, 13, 11, 8], 0, 65, 3, 2),
        Case { pads_behind: true, ..case([1, 12, 10, 8], 0, 65, 3, 2) },
        Case { pads_behind: true, fused: true, ..case([2, 7, 9, 12], 4, 36, 3, 2) },
        Case { pads_behind: true, ..case([1, 2, 3, 4], 0, 3, 3, 2) },
        Case { upsample: Some([10, 14]), ..case([1, 5, 7, 16], 0, 33, 3, 1) },
        Case { upsample: Some([9, 13]), fused: true, ..case([2, 5, 7, 4], 0, 8, 3, 1) },
        Case { upsample: Some([10, 14]), fused: true, ..case([2, 5, 7, 8], 12, 68, 3, 1) },
        Case { upsample: Some([18, 2]), fused: true, ..case([3, 9, 1, 4], 0, 3, 3, 1) },
        Case { upsample: Some([32, 36]), ..case([1, 16, 18, 24], 0, 192, 3, 1) },
        case([1, 12, 12, 3], 0, 32, 3, 1),
        Case { fused: true, ..case([1, 6, 7, 8], 4, 128, 3, 1) },
        Case { fused: true, ..case([1, 5, 5, 12], 0, 124, 1, 1) },
        Case { fused: true, ..case([1, 6, 5, 12], 0, 189, 3, 1) },
        case([1, 12, 12, 32], 0, 3, 3, 1),
        case([2, 1, 1, 4], 0, 4, 3, 1),
        Case { fused: true, ..case([2, 7, 9, 12], 0, 3, 3, 1) },
        Case { fused: true, ..case([1, 3, 17, 20], 0, 2, 3, 1) },
        Case { fused: true, ..case([1, 8, 8, 96], 32, 64, 1, 1) },
        case([1, 8, 9, 20], 0, 12, 1, 2),
        // Pictures of whole tiles with a halo; the last of those of 64 rows only.
        case([2, 8, 32, 36], 24, 70, 3, 1),
        case([1, 16, 16, 68], 0, 128, 3, 1),
        Case { fused: true, ..case([2, 4, 16, 12], 8, 36, 3, 1) },
        Case { upsample: Some([16, 32]), ..case([2, 8, 16, 40], 0, 72, 3, 1) },
        Case { upsample: Some([8, 64]), fused: true, ..case([2, 4, 32, 8], 12, 68, 3, 1) },
        // Long enough for slices.
        case([1, 9, 8, 116], 0, 65, 3, 1),
        Case { fused: true, ..case([2, 5, 7, 72], 48, 36, 3, 1) },
        Case { upsample: Some([6, 10]), ..case([1, 3, 5, 260], 0, 20, 3, 1) },
        case([1, 8, 16, 76], 44, 65, 3, 1),
        Case { upsample: Some([8, 32]), ..case([1, 4, 16, 260], 0, 20, 3, 1) },
    ]
}

struct Data {
    x: Vec<f32>,
    x2: Vec<f32>,
    w: Vec<f32>,
    bias: Vec<f32>,
    time: Vec<f32>,
    residual: Vec<f32>,
}

/// The whole convolution in f64 with the error bound of each value.
fn expected(case: &Case, data: &Data, dtype: DType) -> Vec<(f64, f64)> {
    let c = case.x.c + case.c2;
    let joined: Vec<f64> = data
        .x
        .chunks_exact(case.x.c as usize)
        .enumerate()
        .flat_map(|(row, a)| {
            let at = row * case.c2 as usize;
            a.iter().chain(&data.x2[at..at + case.c2 as usize]).map(|&v| f64::from(v)).collect::<Vec<_>>()
        })
        .collect();
    let weight: Vec<f64> = data.w.iter().map(|&v| f64::from(v)).collect();
    let (y, magnitude, out) = conv_reference::conv2d(&conv_reference::Conv2dInput {
        x: &joined,
        shape: case.x.with_c(c),
        weight: &weight,
        out_c: case.out_c,
        kernel: case.kernel,
        stride: case.stride,
        pads_behind: case.pads_behind,
        upsample: case.upsample,
    });
    let k = c * case.kernel * case.kernel + 4;
    // Behind a doubling, sums of weights are rounded to their storage, not weights.
    let is_summed = dtype == DType::F16 && case.upsample == Some([2 * case.x.h, 2 * case.x.w]);
    let of_weights = |size: f64| if is_summed { size / 2048.0 } else { 0.0 };
    let finish = |ix: usize| {
        let (mut v, mut size) = (y[ix], magnitude[ix]);
        let summed = of_weights(size);
        if case.fused {
            let o = ix % out.c as usize;
            let row = ix / (out.positions() * out.c) as usize;
            for term in [data.bias[o], data.time[row * out.c as usize + o], data.residual[ix]] {
                v += f64::from(term);
                size += f64::from(term).abs();
            }
            // SiLU's slope is below 1.1, and exp in f32 is good to a few ulp.
            let silu = v / (1.0 + (-v).exp());
            return (silu, 1.1 * (bound(k, size, silu, dtype) + summed) + 4e-7 * v.abs());
        }
        (v, bound(k, size, v, dtype) + summed)
    };
    (0..y.len()).map(finish).collect()
}

fn record(case: &Case, plan: &mut PlanBuilder, dtype: DType, out: Shape) -> Result<Tensor, KernelError> {
    let x = plan.input("x", case.x, dtype);
    let x2 = (case.c2 > 0).then(|| plan.input("x2", case.x.with_c(case.c2), dtype));
    let k = case.kernel;
    let weight = Param::new("w", &[case.out_c, case.x.c + case.c2, k, k]);
    let Case { stride, pads_behind, upsample, .. } = *case;
    let conv = Conv2d { x2, stride, pads_behind, upsample, ..Conv2d::new(x, weight) };
    if !case.fused {
        return conv.record(plan);
    }
    let time_embedding = Some(plan.input("time", Shape::vector(out.n, out.c), dtype));
    let residual = Some(plan.input("residual", out, dtype));
    let bias = Some(Param::new("b", &[case.out_c]));
    Conv2d { bias, time_embedding, residual, activation: Activation::Silu, ..conv }.record(plan)
}

#[test]
fn convolutions_match_f64() {
    for (number, case) in cases().iter().enumerate() {
        let [h, w] = case.upsample.unwrap_or([case.x.h, case.x.w]);
        let length = |size: u32| if case.pads_behind { size / 2 } else { size.div_ceil(case.stride) };
        let out = Shape::new(case.x.n, length(h), length(w), case.out_c);
        let mut random = Random::new(number as u64 + 1);
        let weights = case.out_c * (case.x.c + case.c2) * case.kernel * case.kernel;
        let data = Data {
            x: random.halves(case.x.elements() as usize),
            x2: random.halves(case.x.with_c(case.c2).elements() as usize),
            w: random.halves(weights as usize),
            bias: random.halves(case.out_c as usize),
            time: random.halves((out.n * out.c) as usize),
            residual: random.halves(out.elements() as usize),
        };
        for dtype in [DType::F32, DType::F16] {
            let mut inputs = vec![("x", data.x.as_slice())];
            if case.c2 > 0 {
                inputs.push(("x2", &data.x2));
            }
            if case.fused {
                inputs.extend([("time", data.time.as_slice()), ("residual", data.residual.as_slice())]);
            }
            let want = expected(case, &data, dtype);
            // What follows the sum has little to do with how a tile is shared out, unless slices are put together.
            let has_ways = !case.fused || (case.x.c + case.c2) * case.kernel * case.kernel >= 1024;
            let ways = if dtype == DType::F16 && has_ways { EVERY_WAY } else { 1 };
            some_on_tiers(
                ways,
                &inputs,
                &[("w", &data.w), ("b", &data.bias)],
                |plan| record(case, plan, dtype, out),
                |tier, got| {
                    check(&format!("case {number} {dtype} {tier:?}"), got, &want);
                },
            );
        }
    }
}

/// Rows of a result, also where they are tiles with a halo, are those of the whole.
#[test]
fn strips_match_f64() {
    for (doubles, rows, number) in [(false, 3..11, 70), (true, 8..24, 71), (false, 1..4, 72)] {
        let upsample = doubles.then_some([24, 32]);
        let case = Case { upsample, ..case([1, 12, 16, 40], 0, 68, 3, 1) };
        let mut random = Random::new(number);
        let data = Data {
            x: random.halves(case.x.elements() as usize),
            x2: Vec::new(),
            w: random.halves((case.out_c * case.x.c * 9) as usize),
            bias: Vec::new(),
            time: Vec::new(),
            residual: Vec::new(),
        };
        let want = expected(&case, &data, DType::F16);
        let row = if doubles { 32 } else { 16 } * case.out_c as usize;
        let want = &want[rows.start as usize * row..rows.end as usize * row];
        let record = |plan: &mut PlanBuilder| {
            let conv = Conv2d::new(plan.input("x", case.x, DType::F16), Param::new("w", &[68, 40, 3, 3]));
            Conv2d { upsample, strip: Some(Strip { rows: rows.clone(), into: None }), ..conv }.record(plan)
        };
        some_on_tiers(EVERY_WAY, &[("x", &data.x)], &[("w", &data.w)], record, |tier, got| {
            check(&format!("rows {rows:?} {tier:?}"), got, want);
        });
    }
}

fn check(what: &str, got: &[f32], want: &[(f64, f64)]) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (ix, (&g, &(w, bound))) in got.iter().zip(want).enumerate() {
        assert!((f64::from(g) - w).abs() <= bound, "{what} at {ix}: expected {w} ± {bound:.2e}, got {g}");
    }
}

/// Rows, inputs and outputs; the last are long enough for slices, the second of them for eight with a rest.
const LINEAR: [[u32; 3]; 9] = [
    [1, 4, 4],
    [2, 320, 64],
    [31, 33, 31],
    [32, 32, 32],
    [33, 36, 65],
    [64, 128, 128],
    [77, 48, 100],
    [65, 1100, 68],
    [5, 4142, 70],
];

#[test]
fn linear_layers_match_f64() {
    for (number, [m, k, n]) in LINEAR.into_iter().enumerate() {
        let mut random = Random::new(100 + number as u64);
        let (x, w) = (random.halves((m * k) as usize), random.halves((n * k) as usize));
        let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let (y, magnitude) = gemm_reference::linear(&wide(&x), &wide(&w), k as usize);
        for (dtype, out) in [
            (DType::F32, DType::F32),
            (DType::F16, DType::F16),
            (DType::F32, DType::F16),
            (DType::F16, DType::F32),
        ] {
            let want: Vec<(f64, f64)> =
                y.iter().zip(&magnitude).map(|(&y, &s)| (y, bound(k, s, y, out))).collect();
            let record = |plan: &mut PlanBuilder| {
                let x = plan.input("x", Shape::tokens(1, m, k), dtype);
                Linear { out_dtype: Some(out), ..Linear::new(x, Param::new("w", &[n, k])) }.record(plan)
            };
            let ways = if (dtype, out) == (DType::F16, DType::F16) { EVERY_WAY } else { 1 };
            some_on_tiers(ways, &[("x", &x)], &[("w", &w)], record, |tier: Tier, got: &[f32]| {
                check(&format!("linear {m}x{k}x{n} {dtype}->{out} {tier:?}"), got, &want);
            });
        }
    }
}
