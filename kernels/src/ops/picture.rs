//! Pictures in and out: RGBA8 words to tensors and back.

use crate::error::{KernelError, shape_error};
use crate::ops::check;
use crate::plan::{Dispatch, PlanBuilder, Variant};
use crate::tensor::{DType, Shape, Tensor};

/// Resizes a region of an RGBA8 picture to `[1,H,W,3]` in [−1, 1].
///
/// Formula: with `s = region width/W`, column `o` of the result is centred on `u = x + (o + ½)·s`
/// in the source, whose pixel `i` is centred on `i + ½`. Pixel `i` counts
/// `max(0, 1 − |i + ½ − u|/max(s, 1))`, normalised: bilinear where enlarging, a triangle filter as
/// wide as the scale where shrinking (antialiased). Rows alike. Pixels outside the picture are
/// those on its edge. Then `2·v/255 − 1`.
///
/// Shapes: pixels `[1,H₀,W₀,1]` [`DType::U32`] (red in the low byte), result `[1,H,W,3]`.
///
/// # Errors
/// [`KernelError::Shape`] when the region is empty or leaves the picture, [`KernelError::DType`].
#[derive(Debug, Clone)]
pub struct PictureIn {
    /// RGBA8 words.
    pub pixels: Tensor,
    /// `[x, y, width, height]` of the region, in pixels of the source.
    pub region: [f32; 4],
    /// `[H, W]` of the result.
    pub size: [u32; 2],
    /// Storage of the result.
    pub out_dtype: DType,
}

impl PictureIn {
    /// Records it.
    ///
    /// # Errors
    /// See [`PictureIn`].
    pub fn record(self, plan: &mut PlanBuilder) -> Result<Tensor, KernelError> {
        let op = "picture_in";
        check::dtype(op, self.pixels, DType::U32)?;
        check::float_dtype(op, self.out_dtype)?;
        let from = self.pixels.shape;
        let ([x, y, width, height], [h, w]) = (self.region, self.size);
        if from.n != 1 || from.c != 1 || from.elements() == 0 || h == 0 || w == 0 {
            return Err(shape_error(op, "pixels [1,H,W,1] and a size", self.pixels));
        }
        // Written so that a NaN is refused.
        let inside = x >= 0.0 && y >= 0.0 && x + width <= from.w as f32 && y + height <= from.h as f32;
        if !(inside && width > 0.0 && height > 0.0) {
            let expected = format!("a region within {} x {} pixels", from.w, from.h);
            return Err(shape_error(op, expected, format!("{:?}", self.region)));
        }
        let out = plan.slot(Shape::new(1, h, w, 3), self.out_dtype);
        let (scale_x, scale_y) = (width / w as f32, height / h as f32);
        // Taps of the triangle filter, each three products and sums.
        let taps = f64::from(2.0 * scale_x.max(1.0)) * f64::from(2.0 * scale_y.max(1.0));
        let mut immediates = vec![from.w, from.h, w, h];
        immediates.extend([x, y, scale_x, scale_y].map(f32::to_bits));
        plan.dispatch(Dispatch {
            label: op.into(),
            variant: Variant { stem: op, defines: vec![("y_dtype", check::define(self.out_dtype))] },
            bindings: vec![("pixels", self.pixels.operand(), false), ("y", out.operand(), true)],
            immediates,
            grid: [w.div_ceil(8), h.div_ceil(8), 1],
            flops: (6.0 * taps * f64::from(w) * f64::from(h)) as u64,
        })?;
        Ok(out)
    }
}

/// Packs `[1,H,W,3]` in [−1, 1] into RGBA8 words: `round(clamp((x+1)/2, 0, 1)·255)`, alpha 255.
///
/// Shapes: x `[N,H,W,3]`, result `[N,H,W,1]` [`DType::U32`]. NaN becomes 0.
///
/// # Errors
/// [`KernelError::Shape`], [`KernelError::DType`] when recording.
#[derive(Debug, Clone)]
pub struct PictureOut {
    /// The picture.
    pub x: Tensor,
}

impl PictureOut {
    /// Records it.
    ///
    /// # Errors
    /// See [`PictureOut`].
    pub fn record(self, plan: &mut PlanBuilder) -> Result<Tensor, KernelError> {
        let op = "picture_out";
        let x = self.x;
        check::float(op, x)?;
        if x.shape.c != 3 {
            return Err(shape_error(op, "[N,H,W,3]", x));
        }
        let y = plan.slot(x.shape.with_c(1), DType::U32);
        let count = x.shape.rows();
        let (grid, width) = check::cover(plan, count);
        plan.dispatch(Dispatch {
            label: op.into(),
            variant: Variant { stem: op, defines: vec![("x_dtype", check::define(x.dtype))] },
            bindings: vec![("x", x.operand(), false), ("y", y.operand(), true)],
            immediates: vec![count, width],
            grid,
            flops: 4 * x.shape.elements(),
        })?;
        Ok(y)
    }
}

/// Every kind of variant that these ops record.
pub(crate) fn variants() -> Vec<Variant> {
    check::recorded(|plan| {
        let pixels = plan.input("pixels", Shape::new(1, 8, 8, 1), DType::U32);
        for out_dtype in [DType::F16, DType::F32] {
            let x =
                PictureIn { pixels, region: [0.0, 0.0, 8.0, 8.0], size: [4, 4], out_dtype }.record(plan)?;
            PictureOut { x }.record(plan)?;
        }
        Ok(())
    })
}
