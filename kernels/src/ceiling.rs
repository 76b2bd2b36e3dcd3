//! What an adapter can do at best, measured: the roof over every kernel.

use crate::error::KernelError;
use crate::exec::{Executable, WeightCache};
use crate::gpu::Gpu;
use crate::ops::{CopySweep, FmaChain};
use crate::plan::{Plan, PlanBuilder};
use crate::profile::{Detail, Profiler, Span};
use crate::submit::Submission;
use crate::tensor::{DType, Shape, Tensor};
use crate::weight::WeightSource;

/// Shortest dispatch that counts: clocks have risen by then and starting it no longer shows.
const LEAST_NS: f64 = 20e6;
/// Runs whose median counts.
const RUNS: usize = 7;
/// Quads of the tensor that is copied: 512 MiB, beyond the caches of every GPU. Halved where that is
/// more than a binding or the memory holds.
const MOST_QUADS: u32 = 1 << 25;
/// 16 MiB: less would measure a cache.
const LEAST_QUADS: u32 = 1 << 20;

/// Highest rates that an adapter reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ceilings {
    /// Bytes read and written per second by a copy of tensors as large as 512 MiB, where the adapter
    /// binds that much: beyond its caches.
    pub copy_bytes_per_s: f64,
    /// Floating-point operations per second of f32 multiply-adds in registers (each counts two).
    pub fma_flops_per_s: f64,
}

impl Ceilings {
    /// Measures both: medians of seven dispatches of at least 20 ms each, by the device's clock.
    /// Blocks for about a second and takes up to 1 GiB of device memory meanwhile.
    ///
    /// # Errors
    /// [`KernelError::Unsupported`] when the adapter has no timestamps; [`KernelError::OutOfMemory`]
    /// when not even 32 MiB are free; [`KernelError::DeviceLost`] or [`KernelError::Device`].
    pub fn measure(gpu: &Gpu) -> Result<Self, KernelError> {
        let mut profiler = Profiler::new(gpu, 1)?;
        Ok(Self {
            copy_bytes_per_s: copy_rate(gpu, &mut profiler)?,
            fma_flops_per_s: fma_rate(gpu, &mut profiler)?,
        })
    }
}

fn copy_rate(gpu: &Gpu, profiler: &mut Profiler) -> Result<f64, KernelError> {
    let mut quads = MOST_QUADS;
    loop {
        match copy_rate_of(gpu, profiler, quads) {
            Err(KernelError::Limit { .. } | KernelError::OutOfMemory { .. }) if quads > LEAST_QUADS => {
                quads /= 2;
            }
            rate => return rate,
        }
    }
}

fn copy_rate_of(gpu: &Gpu, profiler: &mut Profiler, quads: u32) -> Result<f64, KernelError> {
    let shape = Shape::tokens(1, quads, 4);
    let record = |plan: &mut PlanBuilder, steps| {
        let x = plan.input("x", shape, DType::F32);
        let probe = CopySweep { x, steps };
        Ok((probe.record(plan)?, probe.traffic_bytes()))
    };
    rate(gpu, profiler, record)
}

fn fma_rate(gpu: &Gpu, profiler: &mut Profiler) -> Result<f64, KernelError> {
    rate(gpu, profiler, |plan, steps| {
        let probe = FmaChain::full(steps);
        Ok((probe.record(plan)?, probe.flops()))
    })
}

/// Work per second of the probe that `record` records for a number of steps, with its work.
fn rate(
    gpu: &Gpu,
    profiler: &mut Profiler,
    record: impl Fn(&mut PlanBuilder, u32) -> Result<(Tensor, u64), KernelError>,
) -> Result<f64, KernelError> {
    let mut steps = 4;
    loop {
        let mut plan = PlanBuilder::new(gpu.target());
        let (result, work) = record(&mut plan, steps)?;
        plan.output("y", result)?;
        let probe = prepare(gpu, plan.finish())?;
        // The first run also clears memory and loads the kernel.
        time(gpu, profiler, &probe)?;
        let took = time(gpu, profiler, &probe)?;
        if took >= LEAST_NS {
            let mut times = (0..RUNS).map(|_| time(gpu, profiler, &probe)).collect::<Result<Vec<_>, _>>()?;
            times.sort_by(f64::total_cmp);
            return Ok(work as f64 / times[RUNS / 2] * 1e9);
        }
        let growth = (1.25 * LEAST_NS / took.max(1.0)).clamp(1.5, 64.0);
        steps = (f64::from(steps) * growth).ceil().min(f64::from(u32::MAX / 2)) as u32;
    }
}

fn prepare(gpu: &Gpu, plan: Plan) -> Result<Executable, KernelError> {
    Executable::new(gpu, plan, &NoWeights, &WeightCache::default(), &[])
}

/// Nanoseconds of one run.
fn time(gpu: &Gpu, profiler: &mut Profiler, probe: &Executable) -> Result<f64, KernelError> {
    let mut submission = Submission::new(gpu);
    submission.profile(profiler, Detail::Stages)?;
    submission.run(probe)?;
    submission.submit()?;
    let spans = profiler.wait()?.unwrap_or_default();
    let took = spans.first().map(Span::duration_ns);
    took.ok_or_else(|| KernelError::Device { message: "a probe was not measured".into() })
}

/// Probes have none.
struct NoWeights;

impl WeightSource for NoWeights {
    fn read(&self, name: &str, _: &[u32]) -> Result<Vec<f32>, KernelError> {
        Err(KernelError::Weight { name: name.into(), message: "probes have no weights".into() })
    }
}
