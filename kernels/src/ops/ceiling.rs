//! Probes of what an adapter can do at best: memory alone, arithmetic alone.

use crate::error::{KernelError, shape_error};
use crate::ops::check;
use crate::plan::{Define, Dispatch, PlanBuilder, Variant};
use crate::tensor::{DType, Shape, Tensor};

/// Most invocations of a probe: enough to fill the largest GPUs, whose cores hold 2048 each.
const MOST_THREADS: u32 = 1 << 18;

/// `y = x`, copied over and over: `steps` blocks in turn, from the start again after the last.
///
/// Shapes: x `[1,1,quads,4]` f32, result the same. A block is a quarter of the tensor, or 16 MiB of
/// larger ones. With fewer steps than blocks the rest of the result is not written.
///
/// # Errors
/// [`KernelError::Shape`] when the blocks do not fill the tensor, [`KernelError::DType`].
#[derive(Debug, Clone, Copy)]
pub struct CopySweep {
    /// What is copied.
    pub x: Tensor,
    /// Blocks copied.
    pub steps: u32,
}

impl CopySweep {
    /// Quads that an invocation copies in a step.
    const QUADS: u32 = 4;

    /// Bytes read and written by all steps.
    pub fn traffic_bytes(&self) -> u64 {
        // A quad is 16 bytes, read and written.
        u64::from(self.threads()) * u64::from(Self::QUADS * self.steps) * 2 * 16
    }
    /// Steps that copy the whole tensor once.
    pub fn sweep(&self) -> u32 {
        self.x.shape.w / (Self::QUADS * self.threads()).max(1)
    }
    fn threads(&self) -> u32 {
        (self.x.shape.w / Self::QUADS / 4).min(MOST_THREADS)
    }
    /// Records it.
    ///
    /// # Errors
    /// See [`CopySweep`].
    pub fn record(self, plan: &mut PlanBuilder) -> Result<Tensor, KernelError> {
        let op = "copy_sweep";
        check::dtype(op, self.x, DType::F32)?;
        let (shape, threads) = (self.x.shape, self.threads());
        let is_whole = threads > 0 && shape.w.is_multiple_of(Self::QUADS * threads);
        if shape != Shape::tokens(1, shape.w, 4) || !is_whole || self.steps == 0 {
            return Err(shape_error(op, "[1,1,a multiple of 16 or 2^20,4] and a step", self.x));
        }
        let y = plan.slot(shape, DType::F32);
        let (grid, width) = check::cover(plan, threads);
        plan.dispatch(Dispatch {
            label: op.into(),
            variant: Variant { stem: "copy_sweep", defines: vec![] },
            bindings: vec![("x", self.x.operand(), false), ("y", y.operand(), true)],
            immediates: vec![shape.w, threads, self.steps, width],
            grid,
            flops: 0,
        })?;
        Ok(y)
    }
}

/// `a_j ← a_j·0.999 + 0.001` from `a_j = j`, `16·steps` times, and `y = Σ_j a_j` over two quads of chains.
///
/// Shapes: result `[1,1,threads,4]` f32, the same sum everywhere.
///
/// # Errors
/// [`KernelError::Limit`] when the result is too large for a binding.
#[derive(Debug, Clone, Copy)]
pub struct FmaChain {
    /// Invocations.
    pub threads: u32,
    /// Rounds of 16 multiply-adds.
    pub steps: u32,
}

impl FmaChain {
    /// Quads of chains: eight chains hide the latency of a multiply-add (4 cycles, two at a time),
    /// and still fit a CPU adapter's sixteen registers (three quads were a fifth slower there).
    pub const CHAINS: u32 = 2;
    /// Multiply-adds of a chain in a step, so that counting steps costs little.
    pub const UNROLL: u32 = 16;
    /// What a chain is multiplied with; with [`Self::SHIFT`] it tends to 1, far from zero and infinity.
    pub const FACTOR: f32 = 0.999;
    /// What is added.
    pub const SHIFT: f32 = 0.001;

    /// As many invocations as fill the largest GPU.
    pub fn full(steps: u32) -> Self {
        Self { threads: MOST_THREADS, steps }
    }
    /// Floating-point operations of all steps (a multiply-add counts two).
    pub fn flops(&self) -> u64 {
        let chains = u64::from(4 * Self::CHAINS * Self::UNROLL);
        2 * chains * u64::from(self.threads) * u64::from(self.steps)
    }
    /// Records it.
    ///
    /// # Errors
    /// See [`FmaChain`].
    pub fn record(self, plan: &mut PlanBuilder) -> Result<Tensor, KernelError> {
        let y = plan.slot(Shape::tokens(1, self.threads, 4), DType::F32);
        let (grid, width) = check::cover(plan, self.threads);
        let defines = vec![("chains", Define::U32(Self::CHAINS)), ("unroll", Define::U32(Self::UNROLL))];
        plan.dispatch(Dispatch {
            label: "fma_chain".into(),
            variant: Variant { stem: "fma_chain", defines },
            bindings: vec![("y", y.operand(), true)],
            immediates: vec![self.threads, self.steps, width, Self::FACTOR.to_bits(), Self::SHIFT.to_bits()],
            grid,
            flops: self.flops(),
        })?;
        Ok(y)
    }
}

/// Every kind of variant that these probes record.
pub(crate) fn variants() -> Vec<Variant> {
    check::recorded(|plan| {
        let x = plan.input("x", Shape::tokens(1, 64, 4), DType::F32);
        CopySweep { x, steps: 4 }.record(plan)?;
        FmaChain { threads: 64, steps: 1 }.record(plan)?;
        Ok(())
    })
}
