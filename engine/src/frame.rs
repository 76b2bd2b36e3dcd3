//! Pictures on the host: sizes, limits, how a source picture is fitted, and tensor layouts.

use crate::error::EngineError;

/// Longest side of a picture that is accepted, in pixels.
pub const MAX_SIDE: u32 = 8192;

/// Longest side of a result whose size follows the source, in short sides.
pub const MAX_ASPECT: u32 = 4;

/// Width and height in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Size {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Size {
    /// `width × height`.
    pub const fn new(width: u32, height: u32) -> Self {
        Self { width, height }
    }
    /// The shape of this size with the short side `side`, in multiples of `factor` and at most
    /// [`MAX_ASPECT`] times as long.
    pub fn natural(self, side: u32, factor: u32) -> Self {
        let (short, long) = (self.width.min(self.height), self.width.max(self.height));
        let ratio = f64::from(long) / f64::from(short.max(1));
        let whole = |pixels: f64| ((pixels / f64::from(factor)).round() as u32).max(1) * factor;
        let short = whole(f64::from(side));
        let long = whole(f64::from(side) * ratio).clamp(short, MAX_ASPECT * short);
        if self.width < self.height { Self::new(short, long) } else { Self::new(long, short) }
    }
    /// Width and height exchanged.
    pub fn turned(self) -> Self {
        Self::new(self.height, self.width)
    }
    /// Checks a size that pictures are made at: multiples of `factor` pixels up to [`MAX_SIDE`].
    ///
    /// # Errors
    /// [`EngineError::Frame`] with the nearest size that would do.
    pub fn check(self, factor: u32) -> Result<(), EngineError> {
        let valid = |side: u32| side > 0 && side <= MAX_SIDE && side.is_multiple_of(factor);
        if valid(self.width) && valid(self.height) {
            return Ok(());
        }
        let largest = MAX_SIDE / factor * factor;
        let nearest = |side: u32| {
            let side = side.min(largest);
            ((side + factor / 2) / factor * factor).clamp(factor, largest)
        };
        Err(error(format!(
            "size {}x{} is not made of multiples of {factor} up to {largest}; the nearest is {}x{}",
            self.width,
            self.height,
            nearest(self.width),
            nearest(self.height)
        )))
    }
}

/// How a source picture is brought to another aspect ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Fit {
    /// Cut the longer side evenly at both ends.
    #[default]
    Crop,
    /// Show all of it, its edge pixels drawn out to the sides.
    Fit,
    /// Scale both sides independently.
    Stretch,
}

impl Fit {
    /// `[x, y, width, height]` of the part of `source` that becomes a picture of `target`; a part of
    /// it is outside the source for [`Fit::Fit`].
    pub fn region(self, source: Size, target: Size) -> [f32; 4] {
        let (w, h) = (f64::from(source.width), f64::from(source.height));
        let (tw, th) = (f64::from(target.width), f64::from(target.height));
        let (rw, rh) = match self {
            Self::Stretch => (w, h),
            Self::Crop => {
                let scale = (w / tw).min(h / th);
                (tw * scale, th * scale)
            }
            Self::Fit => {
                let scale = (w / tw).max(h / th);
                (tw * scale, th * scale)
            }
        };
        [(w - rw) / 2.0, (h - rh) / 2.0, rw, rh].map(|v| v as f32)
    }
}

/// An RGBA8 picture, row by row from the top, alpha ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    size: Size,
    rgba: Vec<u8>,
}

impl Picture {
    /// A picture from its bytes, four per pixel.
    ///
    /// # Errors
    /// [`EngineError::Frame`] when a side is 0 or above [`MAX_SIDE`], or the length does not fit.
    pub fn new(size: Size, rgba: Vec<u8>) -> Result<Self, EngineError> {
        let Size { width, height } = size;
        if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
            return Err(error(format!("{width}x{height} pixels; sides of 1..={MAX_SIDE} are accepted")));
        }
        let expected = width as usize * height as usize * 4;
        if rgba.len() != expected {
            let got = rgba.len();
            return Err(error(format!("{width}x{height} RGBA pixels are {expected} bytes, got {got}")));
        }
        Ok(Self { size, rgba })
    }
    /// A picture from words with red in the low byte.
    ///
    /// # Errors
    /// As [`Picture::new`].
    pub fn from_words(size: Size, words: &[u32]) -> Result<Self, EngineError> {
        Self::new(size, words.iter().flat_map(|w| w.to_le_bytes()).collect())
    }
    /// Width and height.
    pub fn size(&self) -> Size {
        self.size
    }
    /// The bytes, four per pixel.
    pub fn rgba(&self) -> &[u8] {
        &self.rgba
    }
    /// The bytes, given away.
    pub fn into_rgba(self) -> Vec<u8> {
        self.rgba
    }
    /// One word per pixel with red in the low byte.
    pub fn words(&self) -> Vec<u32> {
        self.rgba.chunks_exact(4).map(|p| u32::from_le_bytes([p[0], p[1], p[2], p[3]])).collect()
    }
}

/// `[N,C,H,W]` (PyTorch) to `[N,H,W,C]` (ours); `shape` is the former.
pub fn nhwc_from_nchw(values: &[f32], shape: [usize; 4]) -> Vec<f32> {
    let [n, c, h, w] = shape;
    transpose_planes(values, n, c, h * w)
}

/// `[N,H,W,C]` (ours) to `[N,C,H,W]` (PyTorch); `shape` is the former.
pub fn nchw_from_nhwc(values: &[f32], shape: [usize; 4]) -> Vec<f32> {
    let [n, h, w, c] = shape;
    transpose_planes(values, n, h * w, c)
}

/// `n` matrices of `rows × columns`, each transposed.
fn transpose_planes(values: &[f32], n: usize, rows: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for plane in values.chunks_exact((rows * columns).max(1)).take(n) {
        for column in 0..columns {
            out.extend((0..rows).map(|row| plane[row * columns + column]));
        }
    }
    out
}

pub(crate) fn error(message: impl Into<String>) -> EngineError {
    EngineError::Frame { message: message.into() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn layouts_are_each_others_inverse() {
        let nchw: Vec<f32> = (0..2 * 3 * 2 * 5).map(|v| v as f32).collect();
        let nhwc = nhwc_from_nchw(&nchw, [2, 3, 2, 5]);
        assert_eq!(nhwc[..4], [0.0, 10.0, 20.0, 1.0]);
        assert_eq!(nchw_from_nhwc(&nhwc, [2, 2, 5, 3]), nchw);
    }

    #[test]
    fn sizes_name_their_nearest_neighbour() {
        assert!(Size::new(512, 384).check(8).is_ok());
        let message = |w, h| Size::new(w, h).check(8).unwrap_err().to_string();
        assert!(message(510, 385).contains("512x384"), "{}", message(510, 385));
        assert!(message(0, 8).contains("8x8"));
        assert!(message(u32::MAX, 9000).contains("8192x8192"));
    }

    #[test]
    fn a_natural_size_keeps_the_shape_of_its_source() {
        let size = |w, h| Size::new(w, h).natural(256, 8);
        assert_eq!(size(640, 480), Size::new(344, 256));
        assert_eq!(size(480, 640), Size::new(256, 344));
        assert_eq!(size(100, 100), Size::new(256, 256));
        assert_eq!(size(8000, 1), Size::new(1024, 256));
    }

    #[test]
    fn pictures_are_checked() {
        assert!(Picture::new(Size::new(2, 2), vec![0; 16]).is_ok());
        assert!(Picture::new(Size::new(2, 2), vec![0; 15]).unwrap_err().to_string().contains("16 bytes"));
        assert!(Picture::new(Size::new(0, 2), vec![]).is_err());
        assert!(Picture::new(Size::new(8193, 1), vec![0; 4 * 8193]).is_err());
    }

    #[test]
    fn a_crop_keeps_the_middle() {
        let region = Fit::Crop.region(Size::new(640, 480), Size::new(512, 512));
        assert_eq!(region, [80.0, 0.0, 480.0, 480.0]);
        let region = Fit::Fit.region(Size::new(640, 480), Size::new(512, 512));
        assert_eq!(region, [0.0, -80.0, 640.0, 640.0]);
        let region = Fit::Stretch.region(Size::new(640, 480), Size::new(512, 512));
        assert_eq!(region, [0.0, 0.0, 640.0, 480.0]);
    }
}
