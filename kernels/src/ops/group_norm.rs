//! Group normalisation, optionally with SiLU.

use crate::error::KernelError;
use crate::plan::PlanBuilder;
use crate::tensor::{DType, Tensor};
use crate::weight::Param;

/// `y = act((x − mean_g)/sqrt(var_g + eps)·weight + bias)` over each group of `C/groups` channels
/// and all positions of a batch row, act being SiLU or nothing.
///
/// Shapes: x `[N,H,W,C1]`, x2 `[N,H,W,C2]` (joined behind x; the result is materialised), weight
/// and bias `[C1+C2]`, result `[N,H,W,C1+C2]`. Statistics in f32, combined after Chan.
///
/// # Errors
/// [`KernelError::Shape`] when groups do not divide the channels, [`KernelError::DType`].
#[derive(Debug, Clone)]
pub struct GroupNorm {
    /// Input.
    pub x: Tensor,
    /// Second input, joined behind x along channels.
    pub x2: Option<Tensor>,
    /// Scale `[C]`.
    pub weight: Param,
    /// Shift `[C]`.
    pub bias: Param,
    /// Number of groups.
    pub groups: u32,
    /// Added to the variance.
    pub eps: f32,
    /// Whether SiLU follows.
    pub silu: bool,
    /// Storage of the result; that of x when none.
    pub out_dtype: Option<DType>,
}

impl GroupNorm {
    /// Normalisation without an activation.
    pub fn new(x: Tensor, weight: Param, bias: Param, groups: u32, eps: f32) -> Self {
        Self { x, x2: None, weight, bias, groups, eps, silu: false, out_dtype: None }
    }
    /// Records it.
    ///
    /// # Errors
    /// See [`GroupNorm`].
    pub fn record(self, plan: &mut PlanBuilder) -> Result<Tensor, KernelError> {
        let _ = plan;
        Err(KernelError::Unsupported { op: "group_norm".into(), what: "not written yet".into() })
    }
}
