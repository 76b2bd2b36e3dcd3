//! What cameras send, turned into pixels.

use std::io::Cursor;

use dreamglass_engine::frame::MAX_SIDE;
use dreamglass_engine::{Picture, Size};
use image::codecs::jpeg::JpegDecoder;
use image::{DynamicImage, ImageDecoder, Limits};

use super::Format;

/// The beginning of a JPEG out of an AVI file: the decoder then takes the standard's Huffman tables
/// where there are none, which cameras leave out for the same reason.
const AVI_FRAME: [u8; 20] = *b"\xff\xd8\xff\xe0\0\x10AVI1\0\0\0\0\0\0\0\0\0\0";

/// A frame as a camera sends it. Nothing in it is trusted.
#[derive(Debug, Clone)]
pub struct RawFrame {
    pub size: Size,
    pub format: Format,
    pub bytes: Vec<u8>,
}

/// A frame's pixels, or what is wrong with it.
pub fn picture(frame: &RawFrame) -> Result<Picture, String> {
    let RawFrame { size, format, bytes } = frame;
    let Size { width, height } = *size;
    if [width, height].iter().any(|side| !(1..=MAX_SIDE).contains(side)) {
        return Err(format!("{width}x{height} pixels; sides of 1..={MAX_SIDE} are accepted"));
    }
    let (w, h) = (width as usize, height as usize);
    let expected = match format {
        Format::Mjpeg => 1,
        Format::Yuyv => w.div_ceil(2) * 4 * h,
        Format::Nv12 => w * h + w.div_ceil(2) * 2 * h.div_ceil(2),
        Format::Rgb | Format::Bgr => w * h * 3,
        Format::Grey => w * h,
    };
    // Drivers may hand over more than the pixels; never less.
    if bytes.len() < expected {
        return Err(format!("{format:?} of {width}x{height} takes {expected} bytes, got {}", bytes.len()));
    }
    let rgba = match format {
        Format::Mjpeg => from_jpeg(bytes, *size)?,
        Format::Yuyv => from_yuyv(bytes, w, h),
        Format::Nv12 => from_nv12(bytes, w, h),
        Format::Rgb => bytes[..expected].chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect(),
        Format::Bgr => bytes[..expected].chunks_exact(3).flat_map(|p| [p[2], p[1], p[0], 255]).collect(),
        Format::Grey => bytes[..expected].iter().flat_map(|&v| [v, v, v, 255]).collect(),
    };
    Picture::new(*size, rgba).map_err(|e| e.to_string())
}

fn from_jpeg(bytes: &[u8], size: Size) -> Result<Vec<u8>, String> {
    let broken = |e: image::ImageError| format!("a damaged JPEG: {e}");
    let tagged = if has_huffman_tables(bytes) { None } else { Some([&AVI_FRAME, &bytes[2..]].concat()) };
    let bytes = tagged.as_deref().unwrap_or(bytes);
    let mut decoder = JpegDecoder::new(Cursor::new(bytes)).map_err(broken)?;
    let (width, height) = decoder.dimensions();
    // Checked before anything is decoded: a flipped bit must not cost memory.
    if (width, height) != (size.width, size.height) {
        return Err(format!("a JPEG of {width}x{height}, expected {}x{}", size.width, size.height));
    }
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(u64::from(width) * u64::from(height) * 8);
    decoder.set_limits(limits).map_err(broken)?;
    Ok(DynamicImage::from_decoder(decoder).map_err(broken)?.into_rgba8().into_raw())
}

/// Whether a JPEG brings its Huffman tables, as all but those of cameras do. What is no JPEG passes,
/// and the decoder says so.
fn has_huffman_tables(bytes: &[u8]) -> bool {
    let mut rest = match bytes {
        [0xff, 0xd8, rest @ ..] => rest,
        _ => return true,
    };
    // Each segment: marker, and its length with these two bytes.
    while let [0xff, marker, high, low, ..] = *rest {
        match marker {
            0xc4 => return true,
            // The pixels begin.
            0xda => return false,
            _ => {}
        }
        let length = 2 + usize::from(u16::from_be_bytes([high, low]));
        rest = rest.get(length..).unwrap_or_default();
    }
    true
}

fn from_yuyv(bytes: &[u8], width: usize, height: usize) -> Vec<u8> {
    let mut rgba = Vec::with_capacity(width * height * 4);
    for row in bytes.chunks_exact(width.div_ceil(2) * 4).take(height) {
        let end = rgba.len() + width * 4;
        for pair in row.chunks_exact(4) {
            let chroma = Chroma::new(pair[1], pair[3]);
            rgba.extend(chroma.rgba(pair[0]));
            rgba.extend(chroma.rgba(pair[2]));
        }
        rgba.truncate(end);
    }
    rgba
}

fn from_nv12(bytes: &[u8], width: usize, height: usize) -> Vec<u8> {
    let mut rgba = Vec::with_capacity(width * height * 4);
    let (luma, chroma) = bytes.split_at(width * height);
    for (y, row) in luma.chunks_exact(width).enumerate() {
        let chroma = &chroma[y / 2 * width.div_ceil(2) * 2..];
        for (pixels, uv) in row.chunks(2).zip(chroma.chunks_exact(2)) {
            let chroma = Chroma::new(uv[0], uv[1]);
            for &luma in pixels {
                rgba.extend(chroma.rgba(luma));
            }
        }
    }
    rgba
}

/// What U and V add to red, green and blue: BT.601 with 16..=235 as black to white, in 1/65536.
///
/// r = 1.164 (y - 16) + 1.596 (v - 128), g = 1.164 (y - 16) - 0.392 (u - 128) - 0.813 (v - 128),
/// b = 1.164 (y - 16) + 2.017 (u - 128).
#[derive(Debug, Clone, Copy)]
struct Chroma([i32; 3]);

impl Chroma {
    fn new(u: u8, v: u8) -> Self {
        let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
        Self([104_597 * v, -25_675 * u - 53_279 * v, 132_201 * u])
    }
    fn rgba(self, y: u8) -> [u8; 4] {
        let luma = 76_309 * (i32::from(y) - 16) + (1 << 15);
        let [r, g, b] = self.0.map(|c| ((luma + c) >> 16).clamp(0, 255) as u8);
        [r, g, b, 255]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    const PHOTO: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/signing.jpg"));

    fn frame(width: u32, height: u32, format: Format, bytes: &[u8]) -> RawFrame {
        RawFrame { size: Size::new(width, height), format, bytes: bytes.into() }
    }

    /// BT.601 as the standard writes it.
    fn reference(y: u8, u: u8, v: u8) -> [f64; 3] {
        let y = (f64::from(y) - 16.0) * 255.0 / 219.0;
        let (u, v) = ((f64::from(u) - 128.0) * 255.0 / 224.0, (f64::from(v) - 128.0) * 255.0 / 224.0);
        [y + 1.402 * v, y - 0.344_136 * u - 0.714_136 * v, y + 1.772 * u].map(|c| c.clamp(0.0, 255.0))
    }

    #[test]
    fn colours_are_bt601() {
        for (y, u, v, rgb) in [
            (16, 128, 128, [0, 0, 0]),
            (235, 128, 128, [255, 255, 255]),
            (81, 90, 240, [254, 0, 0]),
            (145, 54, 34, [0, 255, 1]),
            (41, 240, 110, [0, 0, 255]),
        ] {
            assert_eq!(Chroma::new(u, v).rgba(y)[..3], rgb, "{y} {u} {v}");
        }
        for y in 0..=255 {
            for (u, v) in (0..=255).step_by(5).flat_map(|u| (0..=255).step_by(5).map(move |v| (u, v))) {
                let ours = Chroma::new(u, v).rgba(y);
                for (ours, exact) in ours.into_iter().zip(reference(y, u, v)) {
                    assert!((f64::from(ours) - exact).abs() < 1.0, "{y} {u} {v}: {ours} {exact}");
                }
            }
        }
    }

    #[test]
    fn layouts_put_pixels_in_their_place() {
        let red = |p: &Picture| p.rgba().chunks_exact(4).map(|p| p[0]).collect::<Vec<u8>>();
        // Odd sides: the last pair of a row, and of rows, is half used.
        let yuyv = [16, 128, 235, 128, 81, 128, 0, 128, 235, 128, 16, 128, 16, 128, 0, 128];
        assert_eq!(red(&picture(&frame(3, 2, Format::Yuyv, &yuyv)).unwrap()), [0, 255, 76, 255, 0, 0]);
        let nv12 = [16, 235, 81, 235, 16, 16, 16, 16, 235, 128, 128, 128, 128, 128, 128, 128, 128];
        let expected = [0, 255, 76, 255, 0, 0, 0, 0, 255];
        assert_eq!(red(&picture(&frame(3, 3, Format::Nv12, &nv12)).unwrap()), expected);
        let coloured = [16, 16, 128, 240];
        let p = picture(&frame(2, 1, Format::Nv12, &coloured)).unwrap();
        assert_eq!(p.rgba()[..4], Chroma::new(128, 240).rgba(16));
        let bytes = [1, 2, 3, 4, 5, 6];
        assert_eq!(picture(&frame(2, 1, Format::Rgb, &bytes)).unwrap().rgba()[4..], [4, 5, 6, 255]);
        assert_eq!(picture(&frame(2, 1, Format::Bgr, &bytes)).unwrap().rgba()[4..], [6, 5, 4, 255]);
        assert_eq!(picture(&frame(2, 1, Format::Grey, &bytes)).unwrap().rgba()[4..], [2, 2, 2, 255]);
    }

    #[test]
    fn jpegs_are_decoded_also_without_their_tables() {
        let whole = picture(&frame(256, 256, Format::Mjpeg, PHOTO)).unwrap();
        assert_eq!(whole.size(), Size::new(256, 256));
        // Cameras leave out the Huffman tables when they are the standard's own.
        let plain = image::load_from_memory(PHOTO).unwrap().to_rgb8();
        let mut jpeg = Vec::new();
        plain.write_with_encoder(image::codecs::jpeg::JpegEncoder::new(&mut jpeg)).unwrap();
        let with = picture(&frame(256, 256, Format::Mjpeg, &jpeg)).unwrap();
        while let Some(at) = jpeg.windows(2).position(|w| w == [0xff, 0xc4]) {
            let length = usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
            jpeg.drain(at..at + 2 + length);
        }
        assert_eq!(picture(&frame(256, 256, Format::Mjpeg, &jpeg)).unwrap(), with);
    }

    #[test]
    fn frames_that_lie_are_refused() {
        let refused = |f: RawFrame| picture(&f).unwrap_err();
        for format in [Format::Yuyv, Format::Nv12, Format::Rgb, Format::Bgr, Format::Grey, Format::Mjpeg] {
            refused(frame(0, 4, format, &[0; 64]));
            refused(frame(u32::MAX, u32::MAX, format, &[0; 64]));
            refused(frame(8192, 8192, format, &[0; 64]));
            refused(frame(4, 4, format, &[]));
        }
        assert!(refused(frame(4, 4, Format::Yuyv, &[0; 31])).contains("takes 32 bytes, got 31"));
        assert!(refused(frame(3, 3, Format::Nv12, &[0; 16])).contains("takes 17 bytes"));
        assert!(refused(frame(640, 480, Format::Mjpeg, PHOTO)).contains("256x256, expected 640x480"));
        // Cut and flipped anywhere: an error or a picture with a smear, never a panic.
        for cut in (0..PHOTO.len()).step_by(97) {
            let _ = picture(&frame(256, 256, Format::Mjpeg, &PHOTO[..cut]));
            let mut flipped = PHOTO.to_vec();
            flipped[cut] ^= 0x5a;
            let _ = picture(&frame(256, 256, Format::Mjpeg, &flipped));
        }
    }
}
