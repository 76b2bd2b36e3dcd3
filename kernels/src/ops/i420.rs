//! RGBA8 pictures as planes for video encoders.

use super::check;
use crate::error::{KernelError, shape_error};
use crate::plan::{Dispatch, PlanBuilder, Variant};
use crate::tensor::{DType, Shape, Tensor};

/// A picture as I420: a plane of luma, then two of chroma at half the sides, a byte a sample.
///
/// BT.601 in studio range with integer factors in 1/256, as video encoders expect: Y = 16 + (66 R +
/// 129 G + 25 B)/256 of every pixel, U = 128 + (−38 R − 74 G + 112 B)/256 and V = 128 + (112 R − 94 G −
/// 18 B)/256 of the mean of 2×2 pixels, each rounded.
///
/// `pixels` is u32 `[1,H,W,1]`, red in the low byte, alpha ignored; the result is u32
/// `[1,1,1,3·H·W/8]`, four samples a word, the first in the low byte.
///
/// # Errors
/// [`KernelError::Shape`] unless W is a multiple of 8 and H of 2; [`KernelError::DType`] for other
/// words than u32.
#[derive(Debug, Clone, Copy)]
pub struct I420 {
    /// The picture.
    pub pixels: Tensor,
}

impl I420 {
    /// Records it.
    ///
    /// # Errors
    /// See [`I420`].
    pub fn record(self, plan: &mut PlanBuilder) -> Result<Tensor, KernelError> {
        let op = "i420";
        let Shape { n, h, w, c } = self.pixels.shape;
        check::dtype(op, self.pixels, DType::U32)?;
        if n != 1 || c != 1 || !w.is_multiple_of(8) || !h.is_multiple_of(2) {
            return Err(shape_error(op, "[1,2i,8j,1]", self.pixels));
        }
        let (count, columns) = (h / 2 * (w / 8), w / 8);
        let y = plan.slot(Shape::new(1, 1, 1, 6 * count), DType::U32);
        let (grid, width) = check::cover(plan, count);
        plan.dispatch(Dispatch {
            label: op.into(),
            variant: Variant { stem: op, defines: Vec::new() },
            bindings: vec![("pixels", self.pixels.operand(), false), ("y", y.operand(), true)],
            immediates: vec![count, width, columns],
            grid,
            flops: 14 * u64::from(h) * u64::from(w),
        })?;
        Ok(y)
    }
}

/// Every kind of variant that this op records.
pub(crate) fn variants() -> Vec<Variant> {
    check::recorded(|plan| {
        let pixels = plan.input("pixels", Shape::new(1, 8, 8, 1), DType::U32);
        I420 { pixels }.record(plan).map(|_| ())
    })
}
