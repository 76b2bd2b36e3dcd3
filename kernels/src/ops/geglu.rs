//! The gated unit of transformer feed-forward blocks.

use crate::error::KernelError;
use crate::plan::PlanBuilder;
use crate::tensor::Tensor;

/// `y = x[…, :C]·gelu(x[…, C:])`, exact GELU.
///
/// Shapes: x `[N,H,W,2C]`, result `[N,H,W,C]`, C a multiple of 4.
///
/// # Errors
/// [`KernelError::Shape`], [`KernelError::DType`] when recording.
#[derive(Debug, Clone)]
pub struct Geglu {
    /// Values, then gates.
    pub x: Tensor,
}

impl Geglu {
    /// Records it.
    ///
    /// # Errors
    /// See [`Geglu`].
    pub fn record(self, plan: &mut PlanBuilder) -> Result<Tensor, KernelError> {
        let _ = plan;
        Err(KernelError::Unsupported { op: "geglu".into(), what: "not written yet".into() })
    }
}
