//! Named shapes that benchmarks share ([`CASES`]), and plans of one op on them.
//!
//! `cargo bench -p dreamglass-benches` runs them all on a GPU, and on a CPU adapter those that finish
//! in a moment; `cargo bench -p dreamglass-benches -- NAME` those whose `op_dtype/model/shape` holds
//! NAME, large ones included: `-- attention_f16`, `-- sd/`, `-- conv2d_f32/sd/conv_320_at_64`. `conv2d_f16_int8` and
//! the like have weights as bytes.

mod cases;

use dreamglass_kernels::exec::{Executable, WeightCache};
use dreamglass_kernels::gpu::Gpu;
use dreamglass_kernels::plan::Storage;
use dreamglass_kernels::{DType, KernelError, Plan, PlanBuilder, Target, WeightSource};

pub use cases::{CASES, Op};

/// Work beyond which a CPU adapter runs a case only when asked: floating-point operations of a tenth
/// of a second or so.
const BIG_FLOPS: u64 = 2_000_000_000;
/// Bytes beyond which a CPU adapter runs a case only when asked.
const BIG_BYTES: u64 = 128 << 20;
/// Work of a plan: a frame submits hundreds of dispatches at once, so the fixed cost of a submission
/// must not hide a small one.
const PLAN_FLOPS: u64 = 500_000_000;
const PLAN_BYTES: u64 = 64 << 20;

/// What one run of a case does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Floating-point operations.
    Flops(u64),
    /// Bytes of everything that is bound.
    Bytes(u64),
}

/// The case as a plan that repeats it often enough to be timed.
///
/// # Errors
/// What recording reports.
pub fn record(target: Target, op: Op, dtype: DType) -> Result<Plan, KernelError> {
    let once = repeated(target, op, dtype, 1)?;
    let (flops, bytes) = (once.flops(), once.traffic_bytes().max(1));
    let wanted = if op.is_arithmetic() { PLAN_FLOPS / flops.max(1) } else { PLAN_BYTES / bytes };
    match wanted.clamp(1, 32) as u32 {
        1 => Ok(once),
        times => repeated(target, op, dtype, times),
    }
}

fn repeated(target: Target, op: Op, dtype: DType, times: u32) -> Result<Plan, KernelError> {
    let mut plan = PlanBuilder::new(target);
    let mut inputs = Vec::new();
    for (ix, (shape, dtype)) in op.inputs(dtype).into_iter().enumerate() {
        inputs.push(plan.input(&format!("x{ix}"), shape, dtype));
    }
    for i in 0..times {
        let y = op.record(&mut plan, &inputs, dtype)?;
        // Results that nobody reads share a slot, as they do within a frame.
        if i + 1 == times {
            plan.output("y", y)?;
        }
    }
    Ok(plan.finish())
}

/// What one run of a recorded case does.
pub fn work(op: Op, plan: &Plan) -> Work {
    if op.is_arithmetic() { Work::Flops(plan.flops()) } else { Work::Bytes(plan.traffic_bytes()) }
}

/// Whether a CPU adapter takes so long that the case runs there only when asked.
pub fn is_big(plan: &Plan) -> bool {
    plan.flops() > BIG_FLOPS || plan.traffic_bytes() > BIG_BYTES
}

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

/// A recorded case ready to run.
///
/// # Errors
/// What preparing reports.
pub fn prepare(gpu: &Gpu, plan: Plan) -> Result<Executable, KernelError> {
    let executable = Executable::new(gpu, plan, &Noise, &WeightCache::default(), &[])?;
    for value in &executable.plan().values {
        let Storage::Input(name) = &value.storage else { continue };
        let values = noise(value.shape.elements() as usize);
        let tensor = executable.tensor(name)?;
        match value.dtype {
            // Below the rows of every table.
            DType::U32 => {
                tensor.write_u32(&values.iter().map(|v| (v.abs() * 1000.0) as u32).collect::<Vec<_>>())?;
            }
            _ => tensor.write_f32(&values)?,
        }
    }
    Ok(executable)
}

/// Runs a prepared plan and waits for it.
///
/// # Errors
/// What the device reports.
pub fn run(gpu: &Gpu, executable: &Executable) -> Result<(), KernelError> {
    executable.run()?;
    gpu.wait()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use dreamglass_kernels::Matrices;

    use super::*;

    #[test]
    fn every_case_records_and_every_kernel_has_one() {
        let mut stems = BTreeSet::new();
        let matrices = Some(Matrices { fragment: 16, has_vectors: true, lanes: 32 });
        let with_matrices = Target { matrices, max_workgroup_bytes: 48 << 10, ..Target::tile() };
        for target in [Target::tile(), Target::lane(8), with_matrices] {
            for (name, op) in CASES {
                for dtype in op.dtypes() {
                    let plan = record(target, *op, *dtype).unwrap_or_else(|e| panic!("{name}: {e}"));
                    stems.extend(plan.dispatches.iter().map(|d| d.variant.stem));
                }
            }
        }
        let listed: BTreeSet<&str> =
            dreamglass_kernels::ops::variants().into_iter().map(|v| v.stem).collect();
        assert_eq!(stems, listed, "left: kernels with a case, right: all kernels");
    }

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<(&str, &str)> = CASES.iter().map(|(name, op)| (op.group(), *name)).collect();
        assert_eq!(names.len(), CASES.len());
    }
}
