//! Products with weights as bytes, against f64 on the values that the bytes stand for, on every tier.
//!
//! The values are what is left after quantisation, so bounds are those of f32 sums: what bytes cost a picture is
//! measured in `tests/parity`.

use dreamglass_kernels::ops::{Activation, Conv2d, Linear, Norm, Shortcut};
use dreamglass_kernels::reference::quantisation::int8;
use dreamglass_kernels::reference::{conv2d, geglu, gemm, group_norm, layer_norm};
use dreamglass_kernels::{DType, KernelError, Param, PlanBuilder, Shape, Target, Tensor};

use crate::harness::{EVERY_WAY, Random, assert_close, int8_on_tiers, rounding, to_f64};

const F16: DType = DType::F16;
const F32: DType = DType::F32;
const STORAGES: [(DType, DType); 4] = [(F32, F32), (F16, F16), (F32, F16), (F16, F32)];

/// What a plain weight `[O, row]` is as bytes.
fn kept(w: &[f32], row: usize) -> Vec<f64> {
    int8(&[(&to_f64(w), row)]).remove(0)
}

/// Random weights of which some rows are zeros, tiny, huge, or of one sign with its extreme.
fn weights(random: &mut Random, outputs: usize, row: usize) -> Vec<f32> {
    let mut w = random.halves(outputs * row);
    w[row..2 * row].fill(0.0);
    w[2 * row..3 * row].iter_mut().for_each(|v| *v *= 1e-3);
    w[3 * row + row / 2] = -40.0;
    w[4 * row..5 * row].iter_mut().for_each(|v| *v = -v.abs());
    w
}

/// f32 sums of `terms` in any order, and the scale's own rounding.
fn bound(terms: usize, size: f64, y: f64, out: DType) -> f64 {
    (terms + 4) as f64 * size / f64::from(1 << 24) + 1e-7 + rounding(out, y)
}

#[test]
fn linear_layers_match_what_their_bytes_stand_for() {
    // The last is long enough for slices.
    let shapes = [
        [1, 64, 8],
        [2, 320, 64],
        [31, 100, 31],
        [33, 68, 65],
        [64, 128, 129],
        [77, 72, 200],
        [20, 1100, 66],
    ];
    for (number, [m, k, n]) in shapes.into_iter().enumerate() {
        let mut random = Random::new(700 + number as u64);
        let (x, w) = (random.halves(m * k), weights(&mut random, n, k));
        let (want, sizes) = gemm::linear(&to_f64(&x), &kept(&w, k), k);
        for (dtype, out) in STORAGES {
            let record = |plan: &mut PlanBuilder| {
                let x = plan.input("x", Shape::tokens(1, m as u32, k as u32), dtype);
                let weight = Param::new("w", &[n as u32, k as u32]);
                Linear { out_dtype: Some(out), ..Linear::new(x, weight) }.record(plan)
            };
            let ways = if (dtype, out) == (F16, F16) { EVERY_WAY } else { 1 };
            int8_on_tiers(ways, &[("x", &x)], &[("w", &w)], record, |tier, got| {
                let what = format!("linear {m}x{k}x{n} {dtype}->{out} {tier:?}");
                assert_close(&what, got, &want, |ix| bound(k, sizes[ix], want[ix], out));
            });
        }
    }
}

/// Three weights joined into one, of two inputs, with bias, residual and activation.
#[test]
fn joined_projections_of_two_inputs_have_a_scale_for_each_row() {
    let (m, k, k2) = (21, 44, 36);
    let rows = [24, 9, 7];
    let (n, row) = (40, k + k2);
    let mut random = Random::new(77);
    let (x, x2) = (random.halves(m * k), random.halves(m * k2));
    let w = weights(&mut random, n, row);
    let (bias, residual) = (random.halves(n), random.halves(m * n));
    let joined: Vec<f32> =
        x.chunks_exact(k).zip(x2.chunks_exact(k2)).flat_map(|(a, b)| [a, b].concat()).collect();
    let (sums, sizes) = gemm::linear(&to_f64(&joined), &kept(&w, row), row);
    let want: Vec<f64> = sums
        .iter()
        .enumerate()
        .map(|(ix, sum)| (sum + f64::from(bias[ix % n]) + f64::from(residual[ix])).max(0.0))
        .collect();
    let (q, rest) = w.split_at(rows[0] * row);
    let (key, value) = rest.split_at(rows[1] * row);
    for (dtype, out) in [(F32, F16), (F16, F32)] {
        let record = |plan: &mut PlanBuilder| {
            let x = plan.input("x", Shape::tokens(1, m as u32, k as u32), dtype);
            let x2 = Some(plan.input("x2", Shape::tokens(1, m as u32, k2 as u32), dtype));
            let residual = Some(plan.input("residual", Shape::tokens(1, m as u32, n as u32), dtype));
            let parts: Vec<Param> = ["q", "k", "v"]
                .into_iter()
                .zip(rows)
                .map(|(name, o)| Param::new(name, &[o as u32, row as u32]))
                .collect();
            let (bias, activation) = (Some(Param::new("b", &[n as u32])), Activation::Relu);
            let plain = Linear::new(x, Param::join(&parts)?);
            Linear { x2, residual, bias, activation, out_dtype: Some(out), ..plain }.record(plan)
        };
        let inputs = [("x", &x[..]), ("x2", &x2[..]), ("residual", &residual[..])];
        int8_on_tiers(
            1,
            &inputs,
            &[("q", q), ("k", key), ("v", value), ("b", &bias)],
            record,
            |tier, got| {
                let what = format!("joined {dtype}->{out} {tier:?}");
                assert_close(&what, got, &want, |ix| bound(row, sizes[ix] + 2.0, want[ix], out));
            },
        );
    }
}

/// A product behind a layer norm: its weight is that of the checkpoint times the norm's scale, as bytes.
fn assert_behind_layer_norm(rows: usize, c: usize, o: usize, mean: f32, is_gated: bool) {
    let mut random = Random::new((rows * 31 + c * 7 + o) as u64);
    let x = random.range(rows * c, mean - 1.0, mean + 1.0);
    let (scale, shift) = (random.range(c, 0.5, 1.5), random.range(c, -0.5, 0.5));
    let (w, bias) = (random.halves(o * c), random.halves(o));
    let (ones, zeros) = (vec![1.0; c], vec![0.0; c]);
    let (normed, deviations) = layer_norm::layer_norm(&to_f64(&x), &ones, &zeros, 1e-5);
    let scaled: Vec<f32> = w.iter().enumerate().map(|(ix, w)| w * scale[ix % c]).collect();
    let (mut sums, sizes) = gemm::linear(&normed, &kept(&scaled, c), c);
    let (shifts, _) = gemm::linear(&to_f64(&shift), &to_f64(&w), c);
    sums.iter_mut().enumerate().for_each(|(ix, sum)| *sum += shifts[ix % o] + f64::from(bias[ix % o]));
    let want = if is_gated { geglu::geglu(&sums, o / 2) } else { sums.clone() };
    for dtype in [F32, F16] {
        // As in `fused.rs`; bytes are exact in f16.
        let of_sum = |ix: usize| {
            let spread = 2.0 * c as f64 / deviations[ix / o];
            (c + 4) as f64 * (sizes[ix] + spread) / f64::from(1 << 24) + 1e-6
        };
        let bound = |ix: usize| {
            let half = o / 2;
            let product = match is_gated {
                false => of_sum(ix),
                true => {
                    let at = ix / half * o + ix % half;
                    let (v, g) = (sums[at], sums[at + half]);
                    of_sum(at) * g.abs() + 1.13 * of_sum(at + half) * v.abs() + 2e-6 * (v * g).abs()
                }
            };
            2.0 * product + rounding(dtype, want[ix])
        };
        let record = |plan: &mut PlanBuilder| {
            let x = plan.input("x", Shape::tokens(1, rows as u32, c as u32), dtype);
            let (weight, shift) = (Param::new("scale", &[c as u32]), Param::new("shift", &[c as u32]));
            let norm = Some(Norm::Layer { weight, bias: shift, eps: 1e-5 });
            let plain = Linear::new(x, Param::new("w", &[o as u32, c as u32]));
            Linear { norm, bias: Some(Param::new("b", &[o as u32])), is_gated, ..plain }.record(plan)
        };
        let weights: [(&str, &[f32]); 4] = [("w", &w), ("b", &bias), ("scale", &scale), ("shift", &shift)];
        int8_on_tiers(1, &[("x", &x)], &weights, record, |tier, got| {
            let what = format!("{rows}x{c}x{o} about {mean} gated {is_gated} {dtype} {tier:?}");
            assert_close(&what, got, &want, bound);
        });
    }
}

#[test]
fn norms_and_gates_are_taken_over_with_bytes() {
    for (rows, c, o, mean) in [(64, 128, 96, 0.0), (7, 68, 36, 3.0), (77, 64, 200, -20.0), (1, 320, 8, 100.0)]
    {
        assert_behind_layer_norm(rows, c, o, mean, false);
    }
    for (rows, c, o, mean) in [(64, 64, 512, 0.0), (5, 76, 40, 2.0), (130, 64, 192, 0.5), (1, 64, 8, 0.0)] {
        assert_behind_layer_norm(rows, c, o, mean, true);
    }
}

/// A convolution `[O,C1+C2,3,3]` with everything that follows it, and a shortcut that shares its scales.
struct Case {
    x: Shape,
    c2: u32,
    o: u32,
    stride: u32,
    has_shortcut: bool,
}

impl Case {
    fn new(x: [u32; 4], c2: u32, o: u32) -> Self {
        Self { x: Shape::new(x[0], x[1], x[2], x[3]), c2, o, stride: 1, has_shortcut: false }
    }
    fn out(&self) -> Shape {
        let half = |side: u32| side.div_ceil(self.stride);
        Shape::new(self.x.n, half(self.x.h), half(self.x.w), self.o)
    }
    fn record(&self, plan: &mut PlanBuilder, dtype: DType) -> Result<Tensor, KernelError> {
        let x = plan.input("x", self.x, dtype);
        let x2 = (self.c2 > 0).then(|| plan.input("x2", self.x.with_c(self.c2), dtype));
        let c = self.x.c + self.c2;
        let (bias, weight) = (Some(Param::new("b", &[self.o])), Param::new("s", &[self.o, c]));
        let shortcut = self.has_shortcut.then_some(Shortcut { x, x2, weight, bias: None });
        let time_embedding = Some(plan.input("time", Shape::vector(self.x.n, self.o), dtype));
        let conv = Conv2d::new(x, Param::new("w", &[self.o, c, 3, 3]));
        Conv2d { x2, bias, time_embedding, shortcut, stride: self.stride, ..conv }.record(plan)
    }
}

fn assert_convolution(number: usize, case: &Case) {
    let mut random = Random::new(number as u64 + 900);
    let (c, o) = ((case.x.c + case.c2) as usize, case.o as usize);
    let joined = random.halves(case.x.with_c(c as u32).elements() as usize);
    let (x, x2): (Vec<&[f32]>, Vec<&[f32]>) =
        joined.chunks_exact(c).map(|row| row.split_at(case.x.c as usize)).unzip();
    let (x, x2) = (x.concat(), x2.concat());
    let (w, bias) = (weights(&mut random, o, c * 9), random.halves(o));
    // Larger than the convolution's: one scale has to serve both.
    let s = random.range(o * c, -4.0, 4.0);
    let out = case.out();
    let time = random.halves((out.n * out.c) as usize);
    let mut parts = vec![(to_f64(&w), c * 9)];
    if case.has_shortcut {
        parts.push((to_f64(&s), c));
    }
    let parts = int8(&parts.iter().map(|(values, row)| (&values[..], *row)).collect::<Vec<_>>());
    let input = conv2d::Conv2dInput {
        x: &to_f64(&joined),
        shape: case.x.with_c(c as u32),
        weight: &parts[0],
        out_c: case.o,
        kernel: 3,
        stride: case.stride,
        pads_behind: false,
        upsample: None,
    };
    let (mut want, mut sizes, _) = conv2d::conv2d(&input);
    if let Some(s) = parts.get(1) {
        let (more, more_sizes) = gemm::linear(input.x, s, c);
        want.iter_mut().zip(more).for_each(|(sum, v)| *sum += v);
        sizes.iter_mut().zip(more_sizes).for_each(|(sum, v)| *sum += v);
    }
    for (ix, sum) in want.iter_mut().enumerate() {
        let row = ix / (out.positions() as usize * o);
        *sum += f64::from(bias[ix % o]) + f64::from(time[row * o + ix % o]);
    }
    for dtype in [F32, F16] {
        let mut inputs = vec![("x", &x[..]), ("time", &time[..])];
        if case.c2 > 0 {
            inputs.push(("x2", &x2));
        }
        let weights: [(&str, &[f32]); 3] = [("w", &w), ("b", &bias), ("s", &s)];
        let ways = if number == 0 && dtype == F16 { EVERY_WAY } else { 1 };
        int8_on_tiers(
            ways,
            &inputs,
            &weights,
            |plan| case.record(plan, dtype),
            |tier, got| {
                let what = format!("convolution {number} {dtype} {tier:?}");
                assert_close(&what, got, &want, |ix| bound(10 * c, sizes[ix] + 2.0, want[ix], dtype));
            },
        );
    }
}

#[test]
fn convolutions_and_their_shortcuts_match_what_their_bytes_stand_for() {
    let cases = [
        Case::new([1, 16, 16, 32], 0, 32),
        Case::new([2, 7, 9, 12], 0, 37),
        Case::new([2, 9, 7, 8], 12, 20),
        Case { stride: 2, ..Case::new([1, 13, 11, 8], 0, 65) },
        Case { has_shortcut: true, ..Case::new([1, 8, 9, 12], 0, 68) },
        Case { has_shortcut: true, ..Case::new([2, 8, 8, 8], 20, 130) },
        Case::new([1, 6, 5, 12], 0, 189),
        Case { has_shortcut: true, ..Case::new([2, 8, 16, 8], 20, 70) },
    ];
    cases.iter().enumerate().for_each(|(number, case)| assert_convolution(number, case));
}

/// The four 2×2 weights `[O,C,16]` that do on a picture what a 3×3 one does on the picture doubled.
fn phases(w: &[f32]) -> Vec<f32> {
    let tap = |phase: i32, d: i32| (phase + d).div_euclid(2) + 1 - phase;
    let mut all = vec![0.0; w.len() / 9 * 16];
    for (nine, sixteen) in w.chunks_exact(9).zip(all.chunks_exact_mut(16)) {
        for (ix, at) in (0..36).map(|ix| (ix % 9, ix / 9)) {
            let (py, px, dy, dx) = (at / 2, at % 2, ix / 3 - 1, ix % 3 - 1);
            sixteen[(4 * at + 2 * tap(py, dy) + tap(px, dx)) as usize] += nine[ix as usize];
        }
    }
    all
}

/// Sums and sizes of a doubled picture's convolution, from the weights of its phases.
fn doubled(x: &[f32], shape: Shape, sixteen: &[f64], o: usize) -> (Vec<f64>, Vec<f64>) {
    let (h, w, c) = (shape.h as i32, shape.w as i32, shape.c as usize);
    let (mut sums, mut sizes) = (Vec::new(), Vec::new());
    for at in 0..shape.n as i32 * 4 * h * w {
        let (n, y, px) = (at / (4 * h * w), at / (2 * w) % (2 * h), at % (2 * w));
        for output in 0..o {
            let (mut sum, mut size) = (0.0, 0.0);
            for (ty, tx) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let (sy, sx) = (y / 2 + ty - 1 + y % 2, px / 2 + tx - 1 + px % 2);
                if sy < 0 || sx < 0 || sy >= h || sx >= w {
                    continue;
                }
                let tap = (4 * (2 * (y % 2) + px % 2) + 2 * ty + tx) as usize;
                for channel in 0..c {
                    let value = f64::from(x[((n * h + sy) * w + sx) as usize * c + channel]);
                    let term = value * sixteen[(output * c + channel) * 16 + tap];
                    sum += term;
                    size += term.abs();
                }
            }
            sums.push(sum);
            sizes.push(size);
        }
    }
    (sums, sizes)
}

#[test]
fn doubled_pictures_have_one_scale_for_all_phases() {
    for (number, (x, o)) in
        [([1, 5, 7, 16], 33), ([2, 9, 8, 8], 20), ([1, 8, 8, 12], 192), ([1, 4, 16, 12], 72)]
            .into_iter()
            .enumerate()
    {
        let shape = Shape::new(x[0], x[1], x[2], x[3]);
        let mut random = Random::new(number as u64 + 950);
        let c = shape.c as usize;
        let (x, w) = (random.halves(shape.elements() as usize), weights(&mut random, o, c * 9));
        let (want, sizes) = doubled(&x, shape, &kept(&phases(&w), c * 16), o);
        for dtype in [F32, F16] {
            let record = |plan: &mut PlanBuilder| {
                let x = plan.input("x", shape, dtype);
                let conv = Conv2d::new(x, Param::new("w", &[o as u32, shape.c, 3, 3]));
                Conv2d { upsample: Some([2 * shape.h, 2 * shape.w]), ..conv }.record(plan)
            };
            int8_on_tiers(1, &[("x", &x)], &[("w", &w)], record, |tier, got| {
                let what = format!("doubled {number} {dtype} {tier:?}");
                assert_close(&what, got, &want, |ix| bound(c * 9, sizes[ix], want[ix], dtype));
            });
        }
    }
}

/// Statistics that a convolution leaves are those of its scaled sums, and a norm that reads them is taken over.
#[test]
fn group_norms_are_taken_over_with_bytes() {
    let (shape, o, groups) = (Shape::new(1, 16, 12, 16), 64, 16);
    let mut random = Random::new(990);
    let c = shape.c as usize;
    let x = random.halves(shape.elements() as usize);
    let (w1, w2) = (random.range(o * c * 9, -0.25, 0.375), random.range(o * o, -0.25, 0.25));
    let (scale, shift) = (random.range(o, 0.5, 1.5), random.range(o, -0.5, 0.5));
    let first = conv2d::Conv2dInput {
        x: &to_f64(&x),
        shape,
        weight: &kept(&w1, c * 9),
        out_c: o as u32,
        kernel: 3,
        stride: 1,
        pads_behind: false,
        upsample: None,
    };
    let (h, _, _) = conv2d::conv2d(&first);
    let positions = shape.positions() as usize;
    let (scales, shifts) = (to_f64(&scale), to_f64(&shift));
    let (normed, _) = group_norm::group_norm(&h, positions, groups, &scales, &shifts, 1e-5, true);
    let (want, sizes) = gemm::linear(&normed, &kept(&w2, o), o);
    for dtype in [F32, F16] {
        // The first result is stored: in f16 it moves by 2^-11, which the norm hands on.
        let share = if dtype == F16 { 4e-3 } else { 2e-5 };
        let record = |plan: &mut PlanBuilder| {
            let x = plan.input("x", shape, dtype);
            let conv = Conv2d::new(x, Param::new("w1", &[o as u32, shape.c, 3, 3]));
            let h = Conv2d { statistics: true, ..conv }.record(plan)?;
            let (weight, bias) = (Param::new("scale", &[o as u32]), Param::new("shift", &[o as u32]));
            let norm = Some(Norm::Group { weight, bias, groups: groups as u32, eps: 1e-5, silu: true });
            Linear { norm, ..Linear::new(h, Param::new("w2", &[o as u32, o as u32])) }.record(plan)
        };
        let weights: [(&str, &[f32]); 4] = [("w1", &w1), ("w2", &w2), ("scale", &scale), ("shift", &shift)];
        int8_on_tiers(1, &[("x", &x)], &weights, record, |tier, got| {
            let bound = |ix: usize| share * sizes[ix] + rounding(dtype, want[ix]);
            assert_close(&format!("group norm {dtype} {tier:?}"), got, &want, bound);
        });
    }
}

/// Bytes take up a quarter of f32 and half of f16, and what is small is left alone.
#[test]
fn only_weights_of_wide_products_become_bytes() -> Result<(), KernelError> {
    let mut plan = PlanBuilder::new(Target::tile());
    let x = plan.input("x", Shape::new(1, 8, 8, 4), F16);
    let h = Conv2d::new(x, Param::new("first", &[128, 4, 3, 3])).record(&mut plan)?;
    let h = Linear { bias: Some(Param::new("b", &[256])), ..Linear::new(h, Param::new("wide", &[256, 128])) }
        .record(&mut plan)?;
    let y = Conv2d::new(h, Param::new("last", &[4, 256, 3, 3])).record(&mut plan)?;
    plan.output("y", y)?;
    let plan = plan.finish();
    let bytes = plan.clone().with_int8_weights();
    let stored = |plan: &dreamglass_kernels::Plan, name: &str| {
        let weight = plan.weights.iter().find(|w| w.name() == name).map(|w| (w.dtype, w.bytes()));
        weight.unwrap_or_else(|| panic!("no weight {name}:\n{plan}"))
    };
    for name in ["first", "last", "b"] {
        assert_eq!(stored(&bytes, name), stored(&plan, name));
    }
    assert_eq!(stored(&plan, "wide"), (F16, 2 * 256 * 128));
    assert_eq!(stored(&bytes, "wide"), (DType::I8, 4 * 256 + 256 * 128));
    let classes =
        |plan: &dreamglass_kernels::Plan| plan.choices.values().map(|c| c.class.clone()).collect::<Vec<_>>();
    let changed = classes(&plan).into_iter().zip(classes(&bytes)).filter(|(a, b)| a != b);
    let changed: Vec<String> = changed.map(|(_, class)| class).collect();
    assert!(matches!(&changed[..], [class] if class.ends_with(", int8 weights")), "{changed:?}");
    Ok(())
}
