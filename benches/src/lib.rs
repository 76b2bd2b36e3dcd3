//! Named shapes that benchmarks share, and plans of one op on them.

use dreamglass_kernels::exec::{Executable, WeightCache};
use dreamglass_kernels::gpu::Gpu;
use dreamglass_kernels::ops::{Conv2d, Linear};
use dreamglass_kernels::{DType, KernelError, Param, PlanBuilder, Shape, WeightSource};

/// A product on one of the models' own shapes.
#[derive(Debug, Clone, Copy)]
pub enum Case {
    /// 3×3 convolution: side of the square input, input and output channels.
    Conv(u32, u32, u32),
    /// Linear layer: rows, input and output channels.
    Gemm(u32, u32, u32),
}

impl Case {
    /// How often a plan repeats it: a frame submits hundreds of dispatches at once, so the
    /// fixed cost of a submission must not hide a small one.
    fn repeats(self) -> u32 {
        let flops = match self {
            Self::Conv(side, c, o) => 18.0 * f64::from(side) * f64::from(side) * f64::from(c) * f64::from(o),
            Self::Gemm(m, k, n) => 2.0 * f64::from(m) * f64::from(k) * f64::from(n),
        };
        (5e8 / flops).ceil().clamp(1.0, 32.0) as u32
    }
}

/// The embedded model's shapes at 256×256, then those of larger models.
pub const CASES: &[(&str, Case)] = &[
    ("demo/vae_32_at_256", Case::Conv(256, 32, 32)),
    ("demo/vae_32_at_128", Case::Conv(128, 32, 32)),
    ("demo/unet_96_at_32", Case::Conv(32, 96, 96)),
    ("demo/unet_128_at_16", Case::Conv(16, 128, 128)),
    ("demo/qkv_256x128x384", Case::Gemm(256, 128, 384)),
    ("demo/feed_forward_256x128x1024", Case::Gemm(256, 128, 1024)),
    ("sd/conv_320_at_64", Case::Conv(64, 320, 320)),
    ("sd/gemm_1024x640x640", Case::Gemm(1024, 640, 640)),
];

/// Seeded weights for any name: benchmarks run on values, never on zeros.
struct Noise;

impl WeightSource for Noise {
    fn read(&self, _: &str, shape: &[u32]) -> Result<Vec<f32>, KernelError> {
        Ok(noise(shape.iter().product::<u32>() as usize))
    }
}

fn noise(n: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// The case as a plan ready to run, and its useful floating-point operations.
///
/// # Errors
/// What recording and preparing report.
pub fn prepare(gpu: &Gpu, case: Case, dtype: DType) -> Result<(Executable, u64), KernelError> {
    let mut plan = PlanBuilder::new(gpu.target());
    let shape = match case {
        Case::Conv(side, c, _) => Shape::new(1, side, side, c),
        Case::Gemm(m, k, _) => Shape::tokens(1, m, k),
    };
    let x = plan.input("x", shape, dtype);
    for i in 0..case.repeats() {
        let y = match case {
            Case::Conv(_, c, o) => Conv2d::new(x, Param::new("w", &[o, c, 3, 3])).record(&mut plan)?,
            Case::Gemm(_, k, n) => Linear::new(x, Param::new("w", &[n, k])).record(&mut plan)?,
        };
        // Results that nobody reads share a slot, as they do within a frame.
        if i + 1 == case.repeats() {
            plan.output("y", y)?;
        }
    }
    let executable = Executable::new(gpu, plan.finish(), &Noise, &WeightCache::default(), &[])?;
    executable.tensor("x")?.write_f32(&noise(x.shape.elements() as usize))?;
    let flops = executable.plan().flops();
    Ok((executable, flops))
}

/// Runs a prepared plan and waits for it.
///
/// # Errors
/// What the device reports.
pub fn run(gpu: &Gpu, executable: &Executable) -> Result<(), KernelError> {
    executable.run()?;
    let wait = gpu.device().poll(wgpu::PollType::wait_indefinitely());
    wait.map(|_| ()).map_err(|e| KernelError::Device { message: e.to_string() })
}
