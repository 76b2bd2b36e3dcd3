//! Pictures in and out: RGBA8 words to tensors and back.

use crate::error::KernelError;
use crate::plan::PlanBuilder;
use crate::tensor::{DType, Tensor};

/// Resizes a region of an RGBA8 picture to `[1,H,W,3]` in [−1, 1].
///
/// Formula: output pixel centres map linearly into the region (half-pixel centres); bilinear
/// where enlarging, a triangle filter as wide as the scale where shrinking (antialiased),
/// normalised, clamped to the picture at its edges; then `2·v/255 − 1`.
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
        let _ = plan;
        Err(KernelError::Unsupported { op: "picture_in".into(), what: "not written yet".into() })
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
        let _ = plan;
        Err(KernelError::Unsupported { op: "picture_out".into(), what: "not written yet".into() })
    }
}
