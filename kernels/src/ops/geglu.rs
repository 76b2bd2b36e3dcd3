//! The gated unit of transformer feed-forward blocks.

use crate::error::{KernelError, shape_error};
use crate::ops::check;
use crate::plan::{Dispatch, PlanBuilder, Variant};
use crate::tensor::{DType, Shape, Tensor};

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
        let x = self.x;
        check::float("geglu", x)?;
        let c = x.shape.c / 2;
        if x.shape.c == 0 || !x.shape.c.is_multiple_of(8) {
            return Err(shape_error("geglu", "[N,H,W,2C] with C a multiple of 4", x));
        }
        let y = plan.slot(x.shape.with_c(c), x.dtype);
        let count = x.shape.rows() * (c / 4);
        let (grid, width) = check::cover(plan, count);
        plan.dispatch(Dispatch {
            label: "geglu".into(),
            variant: Variant { stem: "geglu", defines: vec![("x_dtype", check::define(x.dtype))] },
            bindings: vec![("x", x.operand(), false), ("y", y.operand(), true)],
            immediates: vec![count, c / 4, width],
            grid,
            // The error function's polynomial and exponential count eight, the products two.
            flops: 10 * y.shape.elements(),
        })?;
        Ok(y)
    }
}

/// Every kind of variant that this op records.
pub(crate) fn variants() -> Vec<Variant> {
    check::recorded(|plan| {
        for dtype in [DType::F16, DType::F32] {
            let x = plan.input(dtype.name(), Shape::tokens(1, 8, 16), dtype);
            Geglu { x }.record(plan)?;
        }
        Ok(())
    })
}
