//! Layer normalisation.

use crate::error::KernelError;
use crate::ops::check;
use crate::plan::{Define, Dispatch, PlanBuilder, Variant};
use crate::target::Tier;
use crate::tensor::{DType, Shape, Tensor};
use crate::weight::{Layout, Param};

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
        let x = self.x;
        check::float("layer_norm", x)?;
        check::vector("layer_norm weight", &self.weight, x.shape.c)?;
        check::vector("layer_norm bias", &self.bias, x.shape.c)?;
        let layout = Layout::Vector { padded: x.shape.pitch() };
        let weight = plan.weight(&self.weight, layout.clone(), DType::F32);
        let bias = plan.weight(&self.bias, layout, DType::F32);
        let y = plan.slot(x.shape, x.dtype);
        let tier = plan.target().tier;
        let rows = x.shape.rows();
        let (grid, width) = match tier {
            Tier::Lane => check::cover(plan, rows),
            Tier::Tile => check::fold(plan, rows),
        };
        let defines = vec![("x_dtype", check::define(x.dtype)), ("tier", Define::Str(tier.name()))];
        plan.dispatch(Dispatch {
            label: "layer_norm".into(),
            variant: Variant { stem: "layer_norm", defines },
            bindings: vec![
                ("x", x.operand(), false),
                ("weight", weight, false),
                ("bias", bias, false),
                ("y", y.operand(), true),
            ],
            immediates: vec![rows, x.shape.c, x.shape.pitch() / 4, width, self.eps.to_bits()],
            grid,
            // Mean 1, variance 3, application 4.
            flops: 8 * x.shape.elements(),
        })?;
        Ok(y)
    }
}

/// Every kind of variant that this op records.
pub(crate) fn variants() -> Vec<Variant> {
    check::recorded(|plan| {
        for dtype in [DType::F16, DType::F32] {
            let x = plan.input(dtype.name(), Shape::tokens(1, 8, 16), dtype);
            let vector = |name| Param::new(name, &[16]);
            LayerNorm { x, weight: vector("weight"), bias: vector("bias"), eps: 1e-5 }.record(plan)?;
        }
        Ok(())
    })
}
