//! Products that take over norms, gates, shortcuts and statistics, against f64 on both tiers.

use dreamglass_kernels::ops::{Conv2d, Linear, Norm, Shortcut};
use dreamglass_kernels::reference::{conv2d, geglu, gemm, group_norm, layer_norm};
use dreamglass_kernels::{DType, KernelError, Param, PlanBuilder, Shape, Target, Tensor};

use crate::harness::{Random, assert_close, on_tiers, rounding, to_f64};

const F16: DType = DType::F16;
const F32: DType = DType::F32;

/// Values as a tensor of `dtype` holds them.
fn stored(values: &[f64], dtype: DType) -> Vec<f64> {
    let round = |v: f64| match dtype {
        F16 => half::f16::from_f64(v).to_f64(),
        _ => f64::from(v as f32),
    };
    values.iter().map(|&v| round(v)).collect()
}

fn norm_params(c: u32) -> (Param, Param) {
    (Param::new("scale", &[c]), Param::new("shift", &[c]))
}

/// `Σ|a·b|` of each output, for bounds.
fn assert_linear_behind_layer_norm(rows: u32, c: u32, o: u32, mean: f32, is_gated: bool) {
    let mut random = Random::new(u64::from(rows * 31 + c * 7 + o));
    let x = random.range((rows * c) as usize, mean - 1.0, mean + 1.0);
    let scale = random.range(c as usize, 0.5, 1.5);
    let shift = random.range(c as usize, -0.5, 0.5);
    let w = random.halves((o * c) as usize);
    let bias = random.halves(o as usize);
    let (normed, deviations) = layer_norm::layer_norm(&to_f64(&x), &to_f64(&scale), &to_f64(&shift), 1e-5);
    let (sums, sizes) = gemm::linear(&normed, &to_f64(&w), c as usize);
    let sums: Vec<f64> =
        sums.iter().enumerate().map(|(ix, s)| s + f64::from(bias[ix % o as usize])).collect();
    let want = if is_gated { geglu::geglu(&sums, o as usize / 2) } else { sums.clone() };
    for dtype in [F32, F16] {
        // Inputs are read from the row's first value on, so a mean far away only costs what its distance adds:
        // at most two more in every term. The scaled weights are rounded once more in f16.
        let of_sum = |ix: usize| {
            let spread = 2.0 * f64::from(c) / deviations[ix / o as usize];
            let weights = if dtype == F16 { sizes[ix] / 1024.0 } else { 0.0 };
            f64::from(c) * (sizes[ix] + spread) / f64::from(1 << 24) + weights + 1e-6
        };
        let bound = |ix: usize| {
            let half = o as usize / 2;
            let product = match is_gated {
                false => of_sum(ix),
                true => {
                    let at = ix / half * o as usize + ix % half;
                    let (v, g) = (sums[at], sums[at + half]);
                    // gelu's slope is below 1.13.
                    of_sum(at) * g.abs() + 1.13 * of_sum(at + half) * v.abs() + 2e-6 * (v * g).abs()
                }
            };
            2.0 * product + rounding(dtype, want[ix])
        };
        on_tiers(
            &[("x", &x)],
            &[("w", &w), ("b", &bias), ("scale", &scale), ("shift", &shift)],
            |plan| {
                let x = plan.input("x", Shape::tokens(1, rows, c), dtype);
                let (weight, shift) = norm_params(c);
                let product = Linear {
                    norm: Some(Norm::Layer { weight, bias: shift, eps: 1e-5 }),
                    bias: Some(Param::new("b", &[o])),
                    is_gated,
                    ..Linear::new(x, Param::new("w", &[o, c]))
                };
                product.record(plan)
            },
            |tier, got| {
                let what = format!("{rows}x{c}x{o} about {mean} gated {is_gated} {dtype} {tier:?}");
                assert_close(&what, got, &want, bound);
            },
        );
    }
}

#[test]
fn layer_norms_and_gates_are_fused_into_products() {
    for (rows, c, o, mean) in [(64, 128, 96, 0.0), (7, 12, 36, 3.0), (77, 64, 200, -20.0), (1, 320, 8, 100.0)]
    {
        assert_linear_behind_layer_norm(rows, c, o, mean, false);
    }
    for (rows, c, o, mean) in [(64, 64, 512, 0.0), (5, 12, 40, 2.0), (130, 36, 192, 0.5), (1, 8, 8, 0.0)] {
        assert_linear_behind_layer_norm(rows, c, o, mean, true);
    }
}

/// A row whose first value is far from the others, and rows that are constant.
#[test]
fn fused_layer_norms_stand_outliers_and_constant_rows() {
    let (rows, c, o) = (4usize, 32usize, 16usize);
    let mut random = Random::new(11);
    let mut x = random.halves(rows * c);
    x[0] = 300.0;
    x[c..2 * c].fill(7.5);
    x[2 * c..3 * c].fill(0.0);
    let w = random.halves(o * c);
    let ones = vec![1.0; c];
    let shift = random.halves(c);
    let (normed, _) = layer_norm::layer_norm(&to_f64(&x), &to_f64(&ones), &to_f64(&shift), 1e-5);
    let (want, sizes) = gemm::linear(&normed, &to_f64(&w), c);
    on_tiers(
        &[("x", &x)],
        &[("w", &w), ("scale", &ones), ("shift", &shift)],
        |plan| {
            let x = plan.input("x", Shape::tokens(1, rows as u32, c as u32), F32);
            let (weight, bias) = norm_params(c as u32);
            let norm = Some(Norm::Layer { weight, bias, eps: 1e-5 });
            Linear { norm, ..Linear::new(x, Param::new("w", &[o as u32, c as u32])) }.record(plan)
        },
        |tier, got| assert_close(&format!("outliers {tier:?}"), got, &want, |ix| 2e-5 * (1.0 + sizes[ix])),
    );
}

/// A convolution that leaves statistics, and what reads it behind a group norm.
struct Chain {
    x: Shape,
    /// Channels of the first result.
    c: u32,
    stride: u32,
    pads_behind: bool,
    is_doubled: bool,
    groups: u32,
    reader: Reader,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Reader {
    /// 3×3 with SiLU.
    Conv(u32),
    /// The result twice, joined, with a shortcut past the norm.
    Joined(u32),
    /// A linear layer, no SiLU.
    Linear(u32),
}

struct ChainData {
    x: Vec<f32>,
    w1: Vec<f32>,
    w2: Vec<f32>,
    w3: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Chain {
    fn new(x: [u32; 4], c: u32, groups: u32, reader: Reader) -> Self {
        let x = Shape::new(x[0], x[1], x[2], x[3]);
        Self { x, c, stride: 1, pads_behind: false, is_doubled: false, groups, reader }
    }
    fn upsample(&self) -> Option<[u32; 2]> {
        self.is_doubled.then_some([2 * self.x.h, 2 * self.x.w])
    }
    /// Channels that the norm reads, outputs, kernel size.
    fn reads(&self) -> (u32, u32, u32) {
        match self.reader {
            Reader::Conv(o) => (self.c, o, 3),
            Reader::Joined(o) => (2 * self.c, o, 3),
            Reader::Linear(o) => (self.c, o, 1),
        }
    }
    fn data(&self) -> ChainData {
        let mut random = Random::new(u64::from(self.x.h * 100 + self.c));
        let (reads, o, kernel) = self.reads();
        // Small weights: the statistics then matter.
        ChainData {
            x: random.range(self.x.elements() as usize, -0.5, 1.0),
            w1: random.range((self.c * self.x.c * 9) as usize, -0.25, 0.375),
            w2: random.range((o * reads * kernel * kernel) as usize, -0.25, 0.25),
            w3: random.range((o * reads) as usize, -0.25, 0.25),
            scale: random.range(reads as usize, 0.5, 1.5),
            shift: random.range(reads as usize, -0.5, 0.5),
        }
    }
    fn record(&self, plan: &mut PlanBuilder, dtype: DType) -> Result<Tensor, KernelError> {
        let x = plan.input("x", self.x, dtype);
        let (reads, o, kernel) = self.reads();
        let first = Conv2d {
            stride: self.stride,
            pads_behind: self.pads_behind,
            upsample: self.upsample(),
            statistics: true,
            ..Conv2d::new(x, Param::new("w1", &[self.c, self.x.c, 3, 3]))
        };
        let h = first.record(plan)?;
        let (weight, bias) = norm_params(reads);
        let silu = !matches!(self.reader, Reader::Linear(_));
        let norm = Some(Norm::Group { weight, bias, groups: self.groups, eps: 1e-5, silu });
        if kernel == 1 {
            return Linear { norm, ..Linear::new(h, Param::new("w2", &[o, reads])) }.record(plan);
        }
        let x2 = matches!(self.reader, Reader::Joined(_)).then_some(h);
        let weight = Param::new("w3", &[o, reads]);
        let shortcut = x2.map(|_| Shortcut { x: h, x2, weight, bias: None });
        Conv2d { x2, norm, shortcut, ..Conv2d::new(h, Param::new("w2", &[o, reads, 3, 3])) }.record(plan)
    }
    /// The result and the size of what is summed to it.
    fn expected(&self, data: &ChainData, dtype: DType) -> (Vec<f64>, Vec<f64>) {
        let (reads, o, kernel) = self.reads();
        let (h, _, shape) = conv2d::conv2d(&conv2d::Conv2dInput {
            x: &to_f64(&data.x),
            shape: self.x,
            weight: &to_f64(&data.w1),
            out_c: self.c,
            kernel: 3,
            stride: self.stride,
            pads_behind: self.pads_behind,
            upsample: self.upsample(),
        });
        let h = stored(&h, dtype);
        let h: Vec<f64> = match self.reader {
            Reader::Joined(_) => {
                h.chunks_exact(self.c as usize).flat_map(|row| [row, row].concat()).collect()
            }
            _ => h,
        };
        let (scale, shift) = (to_f64(&data.scale), to_f64(&data.shift));
        let silu = kernel == 3;
        let positions = shape.positions() as usize;
        let (normed, _) =
            group_norm::group_norm(&h, positions, self.groups as usize, &scale, &shift, 1e-5, silu);
        let (mut want, mut sizes, _) = conv2d::conv2d(&conv2d::Conv2dInput {
            x: &normed,
            shape: shape.with_c(reads),
            weight: &to_f64(&data.w2),
            out_c: o,
            kernel,
            stride: 1,
            pads_behind: false,
            upsample: None,
        });
        if matches!(self.reader, Reader::Joined(_)) {
            let (more, more_sizes) = gemm::linear(&h, &to_f64(&data.w3), reads as usize);
            want.iter_mut().zip(more).for_each(|(sum, v)| *sum += v);
            sizes.iter_mut().zip(more_sizes).for_each(|(sum, v)| *sum += v);
        }
        (want, sizes)
    }
}

fn chains() -> Vec<Chain> {
    vec![
        Chain::new([1, 16, 16, 8], 32, 8, Reader::Conv(32)),
        Chain::new([1, 9, 7, 4], 40, 4, Reader::Conv(20)),
        Chain::new([1, 12, 11, 8], 96, 32, Reader::Linear(36)),
        Chain::new([1, 8, 9, 12], 68, 17, Reader::Joined(48)),
        // A decoder's end: at most four outputs.
        Chain::new([1, 10, 13, 8], 64, 8, Reader::Conv(3)),
        Chain { stride: 2, ..Chain::new([1, 17, 15, 8], 36, 12, Reader::Conv(8)) },
        Chain { stride: 2, pads_behind: true, ..Chain::new([1, 18, 14, 8], 32, 8, Reader::Conv(8)) },
        Chain { is_doubled: true, ..Chain::new([1, 9, 10, 8], 48, 6, Reader::Linear(12)) },
        // Batch rows of whole tiles, and of parts of tiles, which are not fused.
        Chain::new([2, 8, 8, 8], 64, 16, Reader::Conv(12)),
        Chain { is_doubled: true, ..Chain::new([2, 8, 8, 4], 32, 4, Reader::Joined(64)) },
        Chain::new([3, 5, 7, 8], 32, 4, Reader::Conv(12)),
        // Whole tiles with a halo.
        Chain::new([2, 8, 16, 8], 64, 16, Reader::Joined(72)),
        Chain { is_doubled: true, ..Chain::new([2, 4, 32, 4], 36, 4, Reader::Conv(64)) },
        // Long enough for slices, of a product that hands statistics on and of one with a shortcut.
        Chain::new([1, 8, 9, 116], 116, 4, Reader::Joined(36)),
        Chain::new([1, 4, 16, 116], 116, 4, Reader::Joined(36)),
    ]
}

#[test]
fn group_norms_are_fused_into_products() {
    for (number, chain) in chains().iter().enumerate() {
        let data = chain.data();
        let weights: [(&str, &[f32]); 5] = [
            ("w1", &data.w1),
            ("w2", &data.w2),
            ("w3", &data.w3),
            ("scale", &data.scale),
            ("shift", &data.shift),
        ];
        for dtype in [F32, F16] {
            let (want, sizes) = chain.expected(&data, dtype);
            // Where the first result rounds to a neighbour, a term moves by a step of f16: 2^-10 of it, and so
            // does the mean of few values. In f32 what is left is the order of sums.
            let share = if dtype == F16 { 4e-3 } else { 2e-5 };
            let bound = |ix: usize| share * sizes[ix] + rounding(dtype, want[ix]);
            on_tiers(
                &[("x", &data.x)],
                &weights,
                |plan| chain.record(plan, dtype),
                |tier, got| {
                    let what = format!("chain {number} {:?} {dtype} {tier:?}", chain.reader);
                    assert_close(&what, got, &want, bound);
                },
            );
        }
    }
}

/// Dispatches of a chain recorded for a target.
fn dispatches(chain: &Chain, target: Target) -> usize {
    let mut plan = PlanBuilder::new(target);
    chain.record(&mut plan, F16).unwrap_or_else(|e| panic!("{e}"));
    plan.finish().dispatches.len()
}

#[test]
fn fused_norms_take_no_dispatch_where_they_can() {
    let few_buffers = Target { max_storage_buffers: 8, ..Target::tile() };
    for (number, chain) in chains().iter().enumerate() {
        let is_whole = chain.x.n == 1 || (chain.x.h * chain.x.w).is_multiple_of(64);
        assert_eq!(dispatches(chain, Target::tile()), if is_whole { 2 } else { 5 }, "chain {number}");
        // Three of the norm's own.
        assert_eq!(dispatches(chain, few_buffers), 5, "chain {number} with few buffers");
        assert_eq!(dispatches(chain, Target::lane(8)), 3, "chain {number} on CPU adapters");
    }
}
