//! Picture files.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result};
use dreamglass_engine::Picture;
use dreamglass_engine::frame::{MAX_SIDE, Size};
use image::codecs::gif::GifDecoder;
use image::{AnimationDecoder, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbaImage};

use crate::failure::bad_input;

/// Memory that decoding one picture may take: the largest one accepted at 16 bits a channel, twice.
const MAX_DECODED_BYTES: u64 = MAX_SIDE as u64 * MAX_SIDE as u64 * 8 * 2;

/// Reads a picture and turns it upright. Sizes are checked before any pixel is decoded.
pub fn read(path: &Path) -> Result<Picture> {
    decode(path).with_context(|| path.display().to_string())
}

/// Whether a file's contents are a picture that [`read`] accepts; an animation is none.
pub fn is_still(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let reader = ImageReader::new(BufReader::new(file)).with_guessed_format().ok();
    let format = reader.as_ref().and_then(ImageReader::format).filter(ImageFormat::reading_enabled);
    match (format, reader) {
        (Some(ImageFormat::Gif), Some(reader)) => {
            // One that cannot be decoded is reported as a broken picture.
            let frames = GifDecoder::new(reader.into_inner()).map(|d| d.into_frames().take(2).count());
            frames.map_or(true, |count| count < 2)
        }
        (format, _) => format.is_some(),
    }
}

fn decode(path: &Path) -> Result<Picture> {
    let unreadable = |e: std::io::Error| bad_input(format!("cannot be read: {e}"));
    // The contents decide the format: an extension may lie.
    let file = BufReader::new(File::open(path).map_err(unreadable)?);
    let mut reader = ImageReader::new(file).with_guessed_format().map_err(unreadable)?;
    reader.no_limits();
    if reader.format().is_none() {
        return Err(bad_input("is not a picture: expected PNG, JPEG, WebP, BMP, GIF or TIFF"));
    }
    let mut decoder = reader.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    if [width, height].iter().any(|side| !(1..=MAX_SIDE).contains(side)) {
        return Err(bad_input(format!("has {width}x{height} pixels; sides of 1..={MAX_SIDE} are accepted")));
    }
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    decoder.set_limits(limits).map_err(broken)?;
    let orientation = decoder.orientation().map_err(broken)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(broken)?;
    picture.apply_orientation(orientation);
    let pixels = on_white(picture.to_rgba8());
    let (width, height) = pixels.dimensions();
    Ok(Picture::new(Size::new(width, height), pixels.into_raw())?)
}

fn broken(error: image::ImageError) -> anyhow::Error {
    bad_input(format!("is damaged or not supported: {error}"))
}

/// Transparent pixels over white, as paper is.
fn on_white(mut picture: RgbaImage) -> RgbaImage {
    for pixel in picture.pixels_mut() {
        let [r, g, b, a] = pixel.0;
        let over = |c: u8| ((u32::from(c) * u32::from(a) + 255 * (255 - u32::from(a)) + 127) / 255) as u8;
        pixel.0 = [over(r), over(g), over(b), 255];
    }
    picture
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use image::codecs::jpeg::JpegEncoder;
    use image::{ExtendedColorType, ImageEncoder, Rgba};

    use super::*;

    /// A little-endian TIFF header with one entry: tag 0x0112, orientation 6, a quarter turn right.
    const TURNED: [u8; 26] = *b"II\x2a\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";

    #[test]
    fn pictures_stand_upright() {
        let file = tempfile::Builder::new().suffix(".jpg").tempfile().unwrap();
        let mut encoder = JpegEncoder::new(file.as_file());
        encoder.set_exif_metadata(TURNED.to_vec()).unwrap();
        encoder.write_image(&[128; 3 * 5 * 3], 5, 3, ExtendedColorType::Rgb8).unwrap();
        assert_eq!(read(file.path()).unwrap().size(), Size::new(3, 5));
    }

    #[test]
    fn transparency_shows_white() {
        let picture = RgbaImage::from_pixel(1, 1, Rgba([0, 100, 255, 0]));
        assert_eq!(on_white(picture).get_pixel(0, 0).0, [255; 4]);
        let half = on_white(RgbaImage::from_pixel(1, 1, Rgba([0, 0, 0, 127])));
        assert_eq!(half.get_pixel(0, 0).0, [128, 128, 128, 255]);
    }
}
