//! The sinusoidal embedding of a timestep or a guidance scale.

use crate::error::KernelError;
use crate::plan::PlanBuilder;
use crate::tensor::{DType, Tensor};

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
        let _ = plan;
        Err(KernelError::Unsupported { op: "timestep_embedding".into(), what: "not written yet".into() })
    }
}
