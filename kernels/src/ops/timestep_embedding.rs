//! The sinusoidal embedding of a timestep or a guidance scale.

use crate::error::{KernelError, shape_error};
use crate::ops::check;
use crate::plan::{Define, Dispatch, PlanBuilder, Variant};
use crate::tensor::{DType, Shape, Tensor};

/// `f_i = exp(−ln(10000)·i/(dim/2 − shift))`, `y = [cos(s·t·f), sin(s·t·f)]` or sine first.
///
/// Shapes: values `[N,1,1,1]` f32, result `[N,1,1,dim]`, dim even. Diffusers' UNet time embedding
/// is `cos_first` with shift 0; its guidance embedding is sine first with shift 1 and `s = 1000`.
///
/// # Errors
/// [`KernelError::Shape`], [`KernelError::DType`] when recording.
#[derive(Debug, Clone)]
pub struct TimestepEmbedding {
    /// Timesteps, one per batch row.
    pub values: Tensor,
    /// Length of the embedding.
    pub dim: u32,
    /// Cosines before sines (`flip_sin_to_cos`).
    pub cos_first: bool,
    /// `downscale_freq_shift`.
    pub shift: f32,
    /// Factor on the values.
    pub scale: f32,
    /// Storage of the result.
    pub out_dtype: DType,
}

impl TimestepEmbedding {
    /// Records it.
    ///
    /// # Errors
    /// See [`TimestepEmbedding`].
    pub fn record(self, plan: &mut PlanBuilder) -> Result<Tensor, KernelError> {
        let op = "timestep_embedding";
        check::dtype(op, self.values, DType::F32)?;
        check::float_dtype(op, self.out_dtype)?;
        let n = self.values.shape.n;
        if self.values.shape != Shape::vector(n, 1) {
            return Err(shape_error(op, "[N,1,1,1]", self.values));
        }
        let half = self.dim / 2;
        let frequencies = half as f32 - self.shift;
        if half == 0 || !self.dim.is_multiple_of(2) || frequencies <= 0.0 {
            return Err(shape_error(op, "an even dim, more than twice the shift", self.dim));
        }
        let y = plan.slot(Shape::vector(n, self.dim), self.out_dtype);
        let quads = y.shape.pitch() / 4;
        let rate = (10_000f64.ln() / f64::from(frequencies)) as f32;
        plan.dispatch(Dispatch {
            label: op.into(),
            variant: Variant {
                stem: "timestep_embedding",
                defines: vec![
                    ("y_dtype", check::define(self.out_dtype)),
                    ("cos_first", Define::Bool(self.cos_first)),
                ],
            },
            bindings: vec![("values", self.values.operand(), false), ("y", y.operand(), true)],
            immediates: vec![n * quads, quads, half, rate.to_bits(), self.scale.to_bits()],
            grid: [(n * quads).div_ceil(check::THREADS), 1, 1],
            // The reduction, two polynomials and the exponential.
            flops: 24 * y.shape.elements(),
        })?;
        Ok(y)
    }
}

/// Every kind of variant that this op records.
pub(crate) fn variants() -> Vec<Variant> {
    check::recorded(|plan| {
        let values = plan.input("values", Shape::vector(2, 1), DType::F32);
        for out_dtype in [DType::F16, DType::F32] {
            for cos_first in [false, true] {
                TimestepEmbedding { values, dim: 16, cos_first, shift: 0.0, scale: 1.0, out_dtype }
                    .record(plan)?;
            }
        }
        Ok(())
    })
}
