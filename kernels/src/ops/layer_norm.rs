//! Layer normalisation.

use crate::error::KernelError;
use crate::plan::PlanBuilder;
use crate::tensor::Tensor;
use crate::weight::Param;

/// `y = (x − mean)/sqrt(var + eps)·weight + bias` over the channels of each row.
///
/// Shapes: x and result `[N,H,W,C]`, weight and bias `[C]`. Statistics in f32, two passes.
///
/// # Errors
/// [`KernelError::Shape`], [`KernelError::DType`] when recording.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    /// Input.
    pub x: Tensor,
    /// Scale `[C]`.
    pub weight: Param,
    /// Shift `[C]`.
    pub bias: Param,
    /// Added to the variance.
    pub eps: f32,
}

impl LayerNorm {
    /// Records it.
    ///
    /// # Errors
    /// See [`LayerNorm`].
    pub fn record(self, plan: &mut PlanBuilder) -> Result<Tensor, KernelError> {
        let _ = plan;
        Err(KernelError::Unsupported { op: "layer_norm".into(), what: "not written yet".into() })
    }
}
