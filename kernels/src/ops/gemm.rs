//! Matrix multiplication with a weight: the linear layer.

use crate::error::KernelError;
use crate::ops::Activation;
use crate::plan::PlanBuilder;
use crate::tensor::{DType, Tensor};
use crate::weight::Param;

/// `y = act(concat(x, x2)·Wᵀ + bias + residual)` on every row of `[N·H·W, C]`.
///
/// Shapes: x `[N,H,W,C1]`, x2 `[N,H,W,C2]`, weight `[O, C1+C2]` (or `[O,I,1,1]`), bias `[O]`,
/// residual and result `[N,H,W,O]`. f16 or f32 storage, f32 accumulation.
///
/// # Errors
/// [`KernelError::Shape`], [`KernelError::DType`], [`KernelError::Limit`] when recording.
#[derive(Debug, Clone)]
pub struct Linear {
    /// Input.
    pub x: Tensor,
    /// Second input, joined behind x along channels without being materialised.
    pub x2: Option<Tensor>,
    /// Weight `[O,I]`; several joined give a fused projection.
    pub weight: Param,
    /// Bias `[O]`.
    pub bias: Option<Param>,
    /// Added per element.
    pub residual: Option<Tensor>,
    /// Applied last.
    pub activation: Activation,
    /// Storage of the result; that of x when none.
    pub out_dtype: Option<DType>,
}

impl Linear {
    /// A plain product.
    pub fn new(x: Tensor, weight: Param) -> Self {
        Self {
            x,
            x2: None,
            weight,
            bias: None,
            residual: None,
            activation: Activation::None,
            out_dtype: None,
        }
    }
    /// Records it.
    ///
    /// # Errors
    /// See [`Linear`].
    pub fn record(self, plan: &mut PlanBuilder) -> Result<Tensor, KernelError> {
        let _ = plan;
        Err(KernelError::Unsupported { op: "linear".into(), what: "not written yet".into() })
    }
}
