//! 2-D convolution, 1×1 or 3×3, with everything that follows it fused.

use crate::error::KernelError;
use crate::ops::Activation;
use crate::plan::PlanBuilder;
use crate::tensor::{DType, Tensor};
use crate::weight::Param;

/// `y = act(conv(up(concat(x, x2))) + bias + time_embedding + residual)`, zero padding `kernel/2`.
///
/// Shapes: x `[N,H,W,C1]`, x2 `[N,H,W,C2]`, weight `[O, C1+C2, k, k]` with k 1 or 3 (checkpoint
/// order OIHW), bias `[O]`, time_embedding `[N,1,1,O]`, residual and result `[N,H',W',O]` with
/// `H' = ceil(H/stride)`. f16 or f32 storage, f32 accumulation.
///
/// # Errors
/// [`KernelError::Shape`], [`KernelError::DType`], [`KernelError::Unsupported`],
/// [`KernelError::Limit`] when recording.
#[derive(Debug, Clone)]
pub struct Conv2d {
    /// Input.
    pub x: Tensor,
    /// Second input, joined behind x along channels without being materialised.
    pub x2: Option<Tensor>,
    /// Weight `[O,I,k,k]`; the kernel size is read from its shape (`[O,I]` counts as 1×1).
    pub weight: Param,
    /// Bias `[O]`.
    pub bias: Option<Param>,
    /// 1 or 2.
    pub stride: u32,
    /// Nearest-neighbour resize of the input to this `[H, W]` before the convolution
    /// (source index `floor(i·in/out)`).
    pub upsample: Option<[u32; 2]>,
    /// Added per batch row and channel.
    pub time_embedding: Option<Tensor>,
    /// Added per element.
    pub residual: Option<Tensor>,
    /// Applied last.
    pub activation: Activation,
    /// Storage of the result; that of x when none.
    pub out_dtype: Option<DType>,
}

impl Conv2d {
    /// A plain convolution with stride 1.
    pub fn new(x: Tensor, weight: Param) -> Self {
        Self {
            x,
            x2: None,
            weight,
            bias: None,
            stride: 1,
            upsample: None,
            time_embedding: None,
            residual: None,
            activation: Activation::None,
            out_dtype: None,
        }
    }
    /// Records it.
    ///
    /// # Errors
    /// See [`Conv2d`].
    pub fn record(self, plan: &mut PlanBuilder) -> Result<Tensor, KernelError> {
        let _ = plan;
        Err(KernelError::Unsupported { op: "conv2d".into(), what: "not written yet".into() })
    }
}
