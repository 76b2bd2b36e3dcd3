//! Pictures as video codecs take and give them.

use crate::error::EngineError;
use crate::frame::{MAX_SIDE, Picture, Size, error};

/// An I420 picture: a byte of luma for each pixel, row by row from the top, then U and V for each 2×2
/// pixels. BT.601 in studio range: Y 16..=235 from black to white, U and V 128 without colour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planes {
    size: Size,
    bytes: Vec<u8>,
}

impl Planes {
    /// A picture from its bytes.
    ///
    /// # Errors
    /// [`EngineError::Frame`] when a side is odd, 0 or above [`MAX_SIDE`], or the length does not fit.
    pub fn new(size: Size, bytes: Vec<u8>) -> Result<Self, EngineError> {
        let Size { width, height } = size;
        let valid = |side: u32| side > 0 && side <= MAX_SIDE && side.is_multiple_of(2);
        if !valid(width) || !valid(height) {
            return Err(error(format!("{width}x{height} pixels; planes have even sides up to {MAX_SIDE}")));
        }
        let expected = Self::bytes_of(size);
        if bytes.len() != expected {
            let got = bytes.len();
            return Err(error(format!("planes of {width}x{height} are {expected} bytes, got {got}")));
        }
        Ok(Self { size, bytes })
    }
    /// Bytes of a picture of `size`.
    pub fn bytes_of(size: Size) -> usize {
        size.width as usize * size.height as usize * 3 / 2
    }
    /// Converts a picture; the last row or column of odd sides is left out.
    ///
    /// # Errors
    /// [`EngineError::Frame`] when a side has a single pixel.
    pub fn from_picture(picture: &Picture) -> Result<Self, EngineError> {
        let Size { width, height } = picture.size();
        let size = Size::new(width & !1, height & !1);
        let (w, h) = (size.width as usize, size.height as usize);
        let mut bytes = vec![0; Self::bytes_of(size)];
        let (luma, chroma) = bytes.split_at_mut(w * h);
        let (us, vs) = chroma.split_at_mut(w * h / 4);
        for (pair, rows) in picture.rgba().chunks_exact(width as usize * 8).enumerate() {
            let (upper, lower) = rows.split_at(width as usize * 4);
            for x in 0..w / 2 {
                let mut sum = [0; 3];
                for (row, pixels) in [upper, lower].into_iter().enumerate() {
                    for (k, pixel) in pixels[x * 8..x * 8 + 8].chunks_exact(4).enumerate() {
                        let c = [pixel[0], pixel[1], pixel[2]].map(i32::from);
                        luma[(2 * pair + row) * w + 2 * x + k] =
                            (((66 * c[0] + 129 * c[1] + 25 * c[2] + 128) >> 8) + 16) as u8;
                        sum = [sum[0] + c[0], sum[1] + c[1], sum[2] + c[2]];
                    }
                }
                let [r, g, b] = sum;
                us[pair * (w / 2) + x] = (((-38 * r - 74 * g + 112 * b + 512) >> 10) + 128) as u8;
                vs[pair * (w / 2) + x] = (((112 * r - 94 * g - 18 * b + 512) >> 10) + 128) as u8;
            }
        }
        Self::new(size, bytes)
    }
    /// Width and height.
    pub fn size(&self) -> Size {
        self.size
    }
    /// All bytes: Y, U, V.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    /// Y `[H,W]`, U and V `[H/2,W/2]`.
    pub fn planes(&self) -> [&[u8]; 3] {
        let pixels = self.size.width as usize * self.size.height as usize;
        let (luma, chroma) = self.bytes.split_at(pixels);
        let (u, v) = chroma.split_at(pixels / 4);
        [luma, u, v]
    }
    /// As RGBA, each 2×2 pixels of one colour.
    ///
    /// r = 1.164 (Y − 16) + 1.596 (V − 128), g = 1.164 (Y − 16) − 0.392 (U − 128) − 0.813 (V − 128),
    /// b = 1.164 (Y − 16) + 2.017 (U − 128), in 1/65536.
    ///
    /// # Errors
    /// None for planes that were made by [`Planes::new`].
    pub fn to_picture(&self) -> Result<Picture, EngineError> {
        let w = self.size.width as usize;
        let [luma, us, vs] = self.planes();
        let mut rgba = Vec::with_capacity(luma.len() * 4);
        for (y, row) in luma.chunks_exact(w).enumerate() {
            let chroma = y / 2 * (w / 2)..(y / 2 + 1) * (w / 2);
            for ((pair, &u), &v) in row.chunks_exact(2).zip(&us[chroma.clone()]).zip(&vs[chroma]) {
                let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
                let added = [104_597 * v, -25_675 * u - 53_279 * v, 132_201 * u];
                for &luma in pair {
                    let luma = 76_309 * (i32::from(luma) - 16) + (1 << 15);
                    let [r, g, b] = added.map(|c| ((luma + c) >> 16).clamp(0, 255) as u8);
                    rgba.extend_from_slice(&[r, g, b, 255]);
                }
            }
        }
        Picture::new(self.size, rgba)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use dreamglass_kernels::reference::i420::i420;

    use super::*;

    fn picture(width: u32, height: u32) -> Picture {
        let mut word = 1_u32;
        let bytes = (0..width * height * 4).map(|_| {
            word = word.wrapping_mul(0x9e37_79b1).rotate_left(9) ^ 0x1234_5678;
            word as u8
        });
        Picture::new(Size::new(width, height), bytes.collect()).unwrap()
    }

    #[test]
    fn the_host_and_the_kernel_make_the_same_planes() {
        let picture = picture(64, 30);
        let planes = Planes::from_picture(&picture).unwrap();
        assert_eq!(planes.bytes(), i420(&picture.words(), 64));
    }

    #[test]
    fn smooth_pictures_come_back() {
        let rgba = (0..64 * 64).flat_map(|i| {
            let (x, y) = (i % 64, i / 64);
            [(x * 4) as u8, (y * 4) as u8, (252 - x * 4) as u8, 255]
        });
        let before = Picture::new(Size::new(64, 64), rgba.collect()).unwrap();
        let after = Planes::from_picture(&before).unwrap().to_picture().unwrap();
        let most = before.rgba().iter().zip(after.rgba()).map(|(a, b)| a.abs_diff(*b)).max();
        // A step of the gradient between neighbours that share their colour, and the studio range.
        assert!(most.unwrap() <= 7, "{most:?}");
    }

    #[test]
    fn odd_sides_lose_their_edge_and_lies_are_refused() {
        assert_eq!(Planes::from_picture(&picture(7, 5)).unwrap().size(), Size::new(6, 4));
        assert!(Planes::from_picture(&picture(1, 5)).is_err());
        assert!(Planes::new(Size::new(8, 8), vec![0; 95]).unwrap_err().to_string().contains("96"));
        assert!(Planes::new(Size::new(7, 8), vec![0; 84]).is_err());
        assert!(Planes::new(Size::new(1 << 31, 2), Vec::new()).is_err());
    }
}
