//! Matrix multiplication with a weight: the linear layer.

use crate::error::{KernelError, shape_error};
use crate::ops::matmul::{Form, Matmul};
use crate::ops::{Activation, Norm};
use crate::plan::{PlanBuilder, Variant};
use crate::tensor::{DType, Shape, Tensor};
use crate::weight::Param;

/// `y = act(norm(concat(x, x2))·Wᵀ + bias + residual)` on every row of `[N·H·W, C]`.
///
/// Shapes: x `[N,H,W,C1]`, x2 `[N,H,W,C2]`, weight `[O, C1+C2]` (or `[O,I,1,1]`), bias `[O]`,
/// residual and result `[N,H,W,O]`. f16 or f32 storage, f32 accumulation.
///
/// Gated, the result is `v·gelu(g)` `[N,H,W,O/2]` of the product's halves v and g (GEGLU, exact GELU).
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
    /// What is done to the joined input first.
    pub norm: Option<Norm>,
    /// Bias `[O]`.
    pub bias: Option<Param>,
    /// Added per element.
    pub residual: Option<Tensor>,
    /// Applied last.
    pub activation: Activation,
    /// Whether the second half of the outputs gates the first; O is a multiple of 8, and neither
    /// residual nor activation goes with it.
    pub is_gated: bool,
    /// Whether a group norm reads the result: the kernel leaves its mean and variance where it can.
    pub statistics: bool,
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
            norm: None,
            bias: None,
            residual: None,
            activation: Activation::None,
            is_gated: false,
            statistics: false,
            out_dtype: None,
        }
    }
    /// Records it.
    ///
    /// # Errors
    /// See [`Linear`].
    pub fn record(self, plan: &mut PlanBuilder) -> Result<Tensor, KernelError> {
        let o = self.weight.outer();
        if self.is_gated {
            if self.residual.is_some() || self.activation != Activation::None {
                let what = "a gate with a residual or an activation".into();
                return Err(KernelError::Unsupported { op: "linear".into(), what });
            }
            if o == 0 || !o.is_multiple_of(8) {
                return Err(shape_error("linear", "a multiple of 8 gated outputs", o));
            }
        }
        let out = self.x.shape.with_c(if self.is_gated { o / 2 } else { o });
        let product = Matmul {
            op: "linear",
            form: Form::Product,
            x: self.x,
            x2: self.x2,
            norm: self.norm,
            weight: self.weight,
            bias: self.bias,
            shortcut: None,
            time_embedding: None,
            residual: self.residual,
            activation: self.activation,
            is_gated: self.is_gated,
            statistics: self.statistics,
            strip: None,
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
                let layer = |c| Norm::Layer {
                    weight: Param::new("scale", &[c]),
                    bias: Param::new("shift", &[c]),
                    eps: 1e-5,
                };
                let normed = Linear { norm: Some(layer(8)), ..Linear::new(x, Param::new("w5", &[128, 8])) };
                Linear { out_dtype: Some(out), ..normed.clone() }.record(plan)?;
                Linear { is_gated: true, out_dtype: Some(out), ..normed }.record(plan)?;
                // Wide enough for two and three quads of columns a lane.
                Linear::new(x, Param::new("w3", &[128, 8])).record(plan)?;
                Linear::new(x, Param::new("w4", &[192, 8])).record(plan)?;
            }
            let x = plan.input("x", Shape::tokens(1, 64, 8), dtype);
            let statistics = true;
            let x = Linear { statistics, ..Linear::new(x, Param::new("w6", &[64, 8])) }.record(plan)?;
            let norm = Norm::Group {
                weight: Param::new("scale", &[64]),
                bias: Param::new("shift", &[64]),
                groups: 16,
                eps: 1e-6,
                silu: false,
            };
            let product = Linear { norm: Some(norm), ..Linear::new(x, Param::new("w7", &[64, 64])) };
            Linear { out_dtype: Some(out), ..product }.record(plan)?;
            if dtype == out {
                // Long enough for slices.
                let x = plan.input("long", Shape::tokens(1, 64, 1024), dtype);
                let product = Linear::new(x, Param::new("w8", &[64, 1024]));
                Linear { statistics: true, ..product.clone() }.record(plan)?;
                product.record(plan)?;
            }
        }
        Ok(())
    })
}
