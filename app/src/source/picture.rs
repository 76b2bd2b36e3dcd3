//! Picture files.

use std::path::Path;

use anyhow::{Context, Result};
use dreamglass_engine::Picture;
use dreamglass_engine::frame::{MAX_SIDE, Size};
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbaImage};

use crate::failure::bad_input;

/// Memory that decoding one picture may take: the largest one accepted at 16 bits a channel, twice.
const MAX_DECODED_BYTES: u64 = MAX_SIDE as u64 * MAX_SIDE as u64 * 8 * 2;

/// Reads a picture and turns it upright. Sizes are checked before any pixel is decoded.
pub fn read(path: &Path) -> Result<Picture> {
    decode(path).with_context(|| path.display().to_string())
}

fn decode(path: &Path) -> Result<Picture> {
    let reader = ImageReader::open(path).map_err(|e| bad_input(format!("cannot be read: {e}")))?;
    let mut reader = reader.with_guessed_format()?;
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
