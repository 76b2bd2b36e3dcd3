//! Picture files, the format chosen by the extension.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use dreamglass_engine::Picture;
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageFormat, RgbaImage};

use super::unfinished::Unfinished;
use crate::failure::bad_input;

/// JPEG quality: no visible loss beside what the model changes.
const JPEG_QUALITY: u8 = 95;

const FORMATS: [ImageFormat; 6] = [
    ImageFormat::Png,
    ImageFormat::Jpeg,
    ImageFormat::WebP,
    ImageFormat::Bmp,
    ImageFormat::Gif,
    ImageFormat::Tiff,
];

/// A picture file to be written.
#[derive(Debug)]
pub struct PictureFile {
    format: ImageFormat,
    file: Unfinished,
}

impl PictureFile {
    /// Checks name and folder; nothing is written yet.
    pub fn new(path: &Path) -> Result<Self> {
        Ok(Self { format: Self::check_name(path)?, file: Unfinished::new(path)? })
    }
    /// The format that a name asks for.
    pub fn check_name(path: &Path) -> Result<ImageFormat> {
        ImageFormat::from_path(path).ok().filter(|f| FORMATS.contains(f)).ok_or_else(|| {
            bad_input(format!("{}: expected the extension png, jpg, webp, bmp, gif or tiff", path.display()))
        })
    }
    /// Writes the picture.
    pub fn write(self, picture: Picture) -> Result<()> {
        let size = picture.size();
        let pixels = RgbaImage::from_raw(size.width, size.height, picture.into_rgba())
            .context("a picture has fewer bytes than pixels")?;
        // No source has transparency left, and JPEG has none at all.
        let pixels = DynamicImage::ImageRgb8(DynamicImage::ImageRgba8(pixels).into_rgb8());
        let path = self.file.path();
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut out = BufWriter::new(file);
        match self.format {
            ImageFormat::Jpeg => {
                pixels.write_with_encoder(JpegEncoder::new_with_quality(&mut out, JPEG_QUALITY))
            }
            ImageFormat::Gif => DynamicImage::ImageRgba8(pixels.to_rgba8()).write_to(&mut out, self.format),
            format => pixels.write_to(&mut out, format),
        }
        .context("cannot encode the picture")?;
        out.flush().context("cannot write the picture")?;
        self.file.finish()
    }
}
