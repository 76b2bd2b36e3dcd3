//! Matrix multiplication with a weight: the linear layer.

use crate::error::KernelError;
use crate::ops::Activation;
use crate::ops::matmul::{Form, Matmul};
use crate::plan::{PlanBuilder, Variant};
use crate::tensor::{DType, Shape, Tensor};
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
        let out = self.x.shape.with_c(self.weight.outer());
        let product = Matmul {
            op: "linear",
            form: Form::Product,
            x: self.x,
            x2: self.x2,
            weight: self.weight,
            bias: self.bias,
            time_embedding: None,
            residual: self.residual,
            activation: self.activation,
            out,
            out_dtype: self.out_dtype.unwrap_or(self.x.dtype),
            taps: 1,
            defines: Vec::new(),
            immediates: Vec::new(),
        };
        product.record(plan)
    }
}

/// One of every kind of kernel that linear layers lead to.
pub(crate) fn variants() -> Vec<Variant> {
    super::check::recorded(|plan| {
        for (dtype, out) in [
            (DType::F32, DType::F32),
            (DType::F16, DType::F16),
            (DType::F32, DType::F16),
            (DType::F16, DType::F32),
        ] {
            for rows in [2, 64] {
                let x = plan.input("x", Shape::tokens(1, rows, 8), dtype);
                let plain = Linear::new(x, Param::new("w", &[12, 8]));
                let joined = Linear::new(x, Param::new("w2", &[12, 16]));
                let residual = Linear { out_dtype: Some(out), ..plain.clone() }.record(plan)?;
                Linear {
                    residual: Some(residual),
                    bias: Some(Param::new("b", &[12])),
                    activation: Activation::Gelu,
                    ..plain
                }
                .record(plan)?;
                Linear { x2: Some(x), activation: Activation::QuickGelu, ..joined }.record(plan)?;
                // Wide enough for two and three quads of columns a lane.
                Linear::new(x, Param::new("w3", &[128, 8])).record(plan)?;
                Linear::new(x, Param::new("w4", &[192, 8])).record(plan)?;
            }
        }
        Ok(())
    })
}
