//! Pictures in and out: RGBA8 words to tensors and back.

use crate::error::{KernelError, shape_error};
use crate::ops::check;
use crate::plan::{Dispatch, PlanBuilder, Variant};
use crate::tensor::{DType, Shape, Tensor};

/// Largest region of a [`PictureIn`] in sides of the picture: what a letterbox of extreme shapes takes.
pub const MAX_REGION: f32 = 64.0;

/// How a picture is turned: clockwise first, then mirrored left to right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Orientation {
    /// Clockwise quarter turns.
    pub quarter_turns: u32,
    /// Whether left and right change places afterwards.
    pub mirror: bool,
}

impl Orientation {
    /// Whether width and height change places.
    pub fn is_on_side(self) -> bool {
        self.quarter_turns % 2 == 1
    }
    /// `[x, y]` of the result's upper left corner in the source, the way `[x, y]` of one column and
    /// that of one row; the result is `[W, H]` pixels of `region`.
    fn steps(self, region: [f32; 4], size: [f32; 2]) -> [f32; 6] {
        let [x, y, width, height] = region;
        // A corner of the unit square in the source for one in the result.
        let source = |u: f32, v: f32| {
            let u = if self.mirror { 1.0 - u } else { u };
            let (a, b) = match self.quarter_turns % 4 {
                0 => (u, v),
                1 => (v, 1.0 - u),
                2 => (1.0 - u, 1.0 - v),
                _ => (1.0 - v, u),
            };
            [x + a * width, y + b * height]
        };
        let (corner, right, down) = (source(0.0, 0.0), source(1.0, 0.0), source(0.0, 1.0));
        let way = |to: [f32; 2], n: f32| [(to[0] - corner[0]) / n, (to[1] - corner[1]) / n];
        let (column, row) = (way(right, size[0]), way(down, size[1]));
        [corner[0], corner[1], column[0], column[1], row[0], row[1]]
    }
}

/// Resizes a region of an RGBA8 picture to `[1,H,W,3]` in [−1, 1].
///
/// Formula: with `s = region width/W`, column `o` of the result is centred on `u = x + (o + ½)·s`
/// in the source, whose pixel `i` is centred on `i + ½`. Pixel `i` counts
/// `max(0, 1 − |i + ½ − u|/max(s, 1))`, normalised: bilinear where enlarging, a triangle filter as
/// wide as the scale where shrinking (antialiased). Rows alike. Pixels outside the picture are
/// those on its edge; the region may reach over it. Then `2·v/255 − 1`, turned and mirrored.
///
/// Shapes: pixels `[1,H₀,W₀,1]` [`DType::U32`] (red in the low byte), result `[1,H,W,3]`.
///
/// # Errors
/// [`KernelError::Shape`] when the region is empty, misses the picture or is more than
/// [`MAX_REGION`] times as large, [`KernelError::DType`].
#[derive(Debug, Clone)]
pub struct PictureIn {
    /// RGBA8 words.
    pub pixels: Tensor,
    /// `[x, y, width, height]` of the region, in pixels of the source.
    pub region: [f32; 4],
    /// How the region is turned.
    pub orientation: Orientation,
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
        let sides = [from.w as f32, from.h as f32];
        let meets = |start: f32, length: f32, side: f32| {
            // Written so that a NaN is refused.
            length > 0.0 && length <= MAX_REGION * side && start < side && start + length > 0.0
        };
        if !(meets(x, width, sides[0]) && meets(y, height, sides[1])) {
            let expected = format!("a region that meets {} x {} pixels", from.w, from.h);
            return Err(shape_error(op, expected, format!("{:?}", self.region)));
        }
        let out = plan.slot(Shape::new(1, h, w, 3), self.out_dtype);
        let steps = self.orientation.steps(self.region, [w as f32, h as f32]);
        let (scale_x, scale_y) = (steps[2].abs() + steps[4].abs(), steps[3].abs() + steps[5].abs());
        // Taps of the triangle filter, each three products and sums.
        let taps = f64::from(2.0 * scale_x.max(1.0)) * f64::from(2.0 * scale_y.max(1.0));
        let mut immediates = vec![from.w, from.h, w, h];
        immediates.extend(steps.map(f32::to_bits));
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
        let (region, orientation) = ([0.0, 0.0, 8.0, 8.0], Orientation::default());
        for out_dtype in [DType::F16, DType::F32] {
            let x = PictureIn { pixels, region, orientation, size: [4, 4], out_dtype }.record(plan)?;
            PictureOut { x }.record(plan)?;
        }
        Ok(())
    })
}
