//! Pictures of any size in a frame of one size.

use std::borrow::Cow;

use anyhow::{Context, Result};
use dreamglass_engine::{Picture, Size};
use image::imageops::{self, FilterType};
use image::{ImageBuffer, Rgba, RgbaImage};

/// The smallest size with even sides that holds `size`: video stores colour for two pixels at a time.
pub fn even(size: Size) -> Size {
    Size::new(size.width.next_multiple_of(2), size.height.next_multiple_of(2))
}

/// `picture` scaled as large as it fits into `size`, on black; itself where it has that size.
pub fn fit(picture: &Picture, size: Size) -> Result<Cow<'_, Picture>> {
    let from = picture.size();
    if from == size {
        return Ok(Cow::Borrowed(picture));
    }
    let view: ImageBuffer<Rgba<u8>, &[u8]> =
        ImageBuffer::from_raw(from.width, from.height, picture.rgba()).context("too few bytes")?;
    let inner = inner_size(from, size);
    let mut frame = RgbaImage::from_pixel(size.width, size.height, Rgba([0, 0, 0, 255]));
    let place = |outer: u32, inner: u32| i64::from((outer - inner) / 2);
    let (x, y) = (place(size.width, inner.width), place(size.height, inner.height));
    if inner == from {
        imageops::replace(&mut frame, &view, x, y);
    } else {
        let scaled = imageops::resize(&view, inner.width, inner.height, FilterType::Triangle);
        imageops::replace(&mut frame, &scaled, x, y);
    }
    Ok(Cow::Owned(Picture::new(size, frame.into_raw())?))
}

/// The largest size within `size` that has the shape of `from`. A pixel more or less counts as the
/// same, so that odd sizes are not scaled.
fn inner_size(from: Size, size: Size) -> Size {
    if even(from) == size {
        return from;
    }
    let (w, h) = (f64::from(from.width), f64::from(from.height));
    let scale = (f64::from(size.width) / w).min(f64::from(size.height) / h);
    let side = |length: f64, most: u32| ((length * scale).round() as u32).clamp(1, most);
    Size::new(side(w, size.width), side(h, size.height))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    fn white(width: u32, height: u32) -> Picture {
        Picture::new(Size::new(width, height), vec![255; (width * height * 4) as usize]).unwrap()
    }

    /// Columns and rows that are not all black.
    fn extent(picture: &Picture) -> (usize, usize) {
        let Size { width, height } = picture.size();
        let lit = |x: u32, y: u32| picture.rgba()[((y * width + x) * 4) as usize] > 127;
        let columns = (0..width).filter(|&x| (0..height).any(|y| lit(x, y))).count();
        (columns, (0..height).filter(|&y| (0..width).any(|x| lit(x, y))).count())
    }

    #[test]
    fn shapes_are_kept() {
        let fitted = |w, h, size| extent(&fit(&white(w, h), size).unwrap());
        assert_eq!(fitted(100, 50, Size::new(100, 50)), (100, 50));
        assert_eq!(fitted(100, 50, Size::new(64, 64)), (64, 32));
        assert_eq!(fitted(10, 40, Size::new(64, 64)), (16, 64));
        assert_eq!(fitted(1, 8192, Size::new(64, 64)), (1, 64));
        assert_eq!(fitted(33, 31, Size::new(34, 32)), (33, 31), "an odd size is not scaled");
        assert_eq!(even(Size::new(33, 32)), Size::new(34, 32));
    }
}
