//! Matrix units: whether an adapter offers ones that the kernels can use, and whether they compute.

use crate::error::KernelError;
use crate::exec::{Executable, WeightCache};
use crate::gpu::{AdapterSummary, Gpu, GpuOptions};
use crate::ops::{Attention, Conv2d, Linear};
use crate::plan::PlanBuilder;
use crate::target::{Matrices, Tier};
use crate::tensor::{Columns, DType, Shape, Tensor};
use crate::weight::{Param, WeightSource};

/// Rows, outputs and inputs of products that lead to a tile of each size.
const PRODUCTS: [[u32; 3]; 3] = [[70, 64, 72], [4096, 192, 40], [3072, 512, 32]];

/// Lines, columns and channels of the picture that is convolved, two tiles of 64 pixels, and channels of the result.
const PICTURE: [u32; 3] = [4, 32, 40];
const OUTPUTS: u32 = 64;

/// Tokens and channels of the one head of the attention.
const TOKENS: u32 = 75;
const WIDTH: u32 = 40;

/// What of the adapter's cooperative matrices the kernels use, or why nothing.
pub(crate) fn offered(
    adapter: &wgpu::Adapter,
    summary: &AdapterSummary,
    options: &GpuOptions,
) -> Result<Matrices, String> {
    let needed = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
        | wgpu::Features::SHADER_F16
        | wgpu::Features::SUBGROUP;
    if options.without_matrices {
        return Err("they are turned off".into());
    }
    if summary.tier != Tier::Tile {
        return Err("kernels for CPU adapters have no use for them".into());
    }
    if !adapter.features().contains(needed) {
        return Err("the driver offers no cooperative matrices of f16".into());
    }
    let [least, lanes] = summary.subgroup_sizes;
    if least != lanes {
        return Err(format!("subgroups have from {least} to {lanes} lanes; expected a fixed number"));
    }
    let f16 = wgpu::CooperativeScalarType::F16;
    let properties = adapter.cooperative_matrix_properties();
    let fits = |fragment: u32| {
        properties.iter().any(|p| {
            [p.m_size, p.n_size, p.k_size] == [fragment; 3]
                && p.ab_type == f16
                && p.cr_type == wgpu::CooperativeScalarType::F32
        })
    };
    // Metal's language points to scalars only.
    let has_vectors = adapter.get_info().backend != wgpu::Backend::Metal;
    let fragment = [16, 8].into_iter().find(|&fragment| fits(fragment));
    let fragment = fragment.ok_or_else(|| {
        format!(
            "expected square ones of 16 or 8, f16 times f16 added up in f32; the adapter has {properties:?}"
        )
    })?;
    Ok(Matrices { fragment, has_vectors, lanes })
}

/// Leave to use what wgpu calls experimental.
pub(crate) fn experimental(wanted: bool) -> wgpu::ExperimentalFeatures {
    if wanted {
        // SAFETY: of the experimental features only cooperative matrices are asked for. Their kernels load and
        // store workgroup memory of sizes known when the shader is made, and prove themselves in `self_test`.
        unsafe { wgpu::ExperimentalFeatures::enabled() }
    } else {
        wgpu::ExperimentalFeatures::disabled()
    }
}

/// Small numbers that f16 holds exactly, without a pattern.
fn value(index: u32) -> f32 {
    let mixed = (index ^ (index >> 7)).wrapping_mul(0x9E37_79B1);
    ((mixed >> 24) as f32 - 128.0) / 64.0
}

struct Values;

impl WeightSource for Values {
    fn read(&self, _: &str, shape: &[u32]) -> Result<Vec<f32>, KernelError> {
        Ok((0..shape.iter().product()).map(|ix: u32| value(ix + 77)).collect())
    }
}

/// Multiplies with each kind of tile, convolves, attends, and compares with the host.
///
/// # Errors
/// What went wrong, or [`KernelError::Unsupported`] naming the first value that is not what it should be.
pub(crate) fn self_test(gpu: &Gpu) -> Result<(), KernelError> {
    for [rows, outputs, inputs] in PRODUCTS {
        let y = run(gpu, Shape::tokens(1, rows, inputs), |plan, x| {
            Linear::new(x, Param::new("w", &[outputs, inputs])).record(plan)
        })?;
        // A prime's multiples meet every row and column of a fragment.
        for at in (0..rows * outputs).step_by(97) {
            let (row, column) = (at / outputs, at % outputs);
            let terms = (0..inputs).map(|k| value(row * inputs + k) * value(column * inputs + k + 77));
            let what = || format!("{rows}x{inputs}x{outputs} at {row}, {column}");
            compare(gpu, what, terms.sum(), y[at as usize])?;
        }
    }
    convolve(gpu)?;
    let y = run(gpu, Shape::tokens(1, TOKENS, 3 * WIDTH), |plan, x| {
        let part = |index| Columns { tensor: x, offset: index * WIDTH, c: WIDTH };
        Attention::new(part(0), part(1), part(2), 1).record(plan)
    })?;
    for query in (0..TOKENS).step_by(7) {
        let expected = attend(query);
        for column in 0..WIDTH {
            let what = || format!("attention of {TOKENS}x{WIDTH} at {query}, {column}");
            compare(gpu, what, expected[column as usize], y[(query * WIDTH + column) as usize])?;
        }
    }
    Ok(())
}

/// Convolves, in the smallest tiles that fetch what they see once, where there is room for them.
fn convolve(gpu: &Gpu) -> Result<(), KernelError> {
    let [h, w, c] = PICTURE;
    let y = run(gpu, Shape::new(1, h, w, c), |plan, x| {
        Conv2d::new(x, Param::new("w", &[OUTPUTS, c, 3, 3])).record(plan)
    })?;
    for at in (0..h * w * OUTPUTS).step_by(97) {
        let (row, output) = (at / OUTPUTS, at % OUTPUTS);
        let (line, column) = (row / w, row % w);
        let terms = (0..9 * c).filter_map(|ix| {
            let (channel, tap) = (ix / 9, ix % 9);
            let y = (line + tap / 3).checked_sub(1).filter(|y| *y < h)?;
            let x = (column + tap % 3).checked_sub(1).filter(|x| *x < w)?;
            Some(value((y * w + x) * c + channel) * value(output * 9 * c + ix + 77))
        });
        let what = || format!("convolution of {h}x{w}x{c} at {line}, {column}, {output}");
        compare(gpu, what, terms.sum(), y[at as usize])?;
    }
    Ok(())
}

/// What `record` makes of an f16 tensor of [`value`]s.
fn run(
    gpu: &Gpu,
    shape: Shape,
    record: impl Fn(&mut PlanBuilder, Tensor) -> Result<Tensor, KernelError>,
) -> Result<Vec<f32>, KernelError> {
    let mut plan = PlanBuilder::new(gpu.target());
    let x = plan.input("x", shape, DType::F16);
    let y = record(&mut plan, x)?;
    plan.output("y", y)?;
    let executable = Executable::new(gpu, plan.finish(), &Values, &WeightCache::default(), &[])?;
    let values: Vec<f32> = (0..shape.rows() * shape.c).map(value).collect();
    executable.tensor("x")?.write_f32(&values)?;
    executable.run()?;
    executable.tensor("y")?.read_f32()
}

/// Row `query` of the attention of the self-test.
fn attend(query: u32) -> Vec<f32> {
    let at = |token: u32, part: u32, column: u32| value((token * 3 + part) * WIDTH + column);
    let score =
        |key| (0..WIDTH).map(|c| at(query, 0, c) * at(key, 1, c)).sum::<f32>() / (WIDTH as f32).sqrt();
    let scores: Vec<f32> = (0..TOKENS).map(score).collect();
    let top = scores.iter().copied().fold(f32::MIN, f32::max);
    let weights: Vec<f32> = scores.iter().map(|score| (score - top).exp()).collect();
    let sum: f32 = weights.iter().sum();
    let output =
        |column| (0..TOKENS).map(|key| weights[key as usize] * at(key, 2, column)).sum::<f32>() / sum;
    (0..WIDTH).map(output).collect()
}

/// Rounding to f16 and the order of sums are allowed, as for sums of values up to two.
fn compare(gpu: &Gpu, what: impl Fn() -> String, expected: f32, got: f32) -> Result<(), KernelError> {
    if (expected - got).abs() <= expected.abs() / 500.0 + 4e-3 {
        return Ok(());
    }
    let op = format!("matrix units of {}", gpu.summary().name);
    Err(KernelError::Unsupported { op, what: format!("{}: expected {expected}, got {got}", what()) })
}
