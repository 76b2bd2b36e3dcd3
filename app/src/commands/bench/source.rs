//! Pictures that a benchmark shows: the same in every run.

use std::path::Path;

use anyhow::Result;
use dreamglass_engine::{Picture, Size};

use crate::source::picture;

/// Size of the made pictures.
const SIZE: Size = Size::new(512, 512);
/// Pictures after which the motion repeats: drawn before anything is measured.
const PERIOD: u32 = 16;

/// Pictures without end.
pub struct Source {
    /// What the user called it.
    pub name: String,
    pictures: Vec<Picture>,
    next: usize,
}

impl Source {
    /// `synthetic`, `still` or the picture of a file.
    pub fn open(name: &Path) -> Result<Self> {
        let pictures = match name.to_str() {
            Some("synthetic") => (0..PERIOD).map(draw).collect::<Result<_>>()?,
            Some("still") => vec![draw(0)?],
            _ => vec![picture::read(name)?],
        };
        Ok(Self { name: name.display().to_string(), pictures, next: 0 })
    }
    /// Size of every picture.
    pub fn size(&self) -> Size {
        self.pictures[0].size()
    }
    /// The next picture.
    pub fn next(&mut self) -> Picture {
        let picture = self.pictures[self.next].clone();
        self.next = (self.next + 1) % self.pictures.len();
        picture
    }
}

/// A gradient that wanders, and a disc on a circle before it.
fn draw(phase: u32) -> Result<Picture> {
    let Size { width, height } = SIZE;
    let turn = f64::from(phase) / f64::from(PERIOD) * std::f64::consts::TAU;
    let centre =
        [f64::from(width) * (0.5 + 0.25 * turn.cos()), f64::from(height) * (0.5 + 0.25 * turn.sin())];
    let radius = f64::from(height) / 8.0;
    let mut rgba = Vec::with_capacity((width * height * 4) as usize);
    for y in 0..height {
        for x in 0..width {
            let [dx, dy] = [f64::from(x) - centre[0], f64::from(y) - centre[1]];
            let shade = ((x + phase * width / PERIOD) % width * 255 / width) as u8;
            let colour = match dx.hypot(dy) < radius {
                true => [240, 80, 30],
                false => [shade, (y * 255 / height) as u8, 255 - shade],
            };
            rgba.extend(colour);
            rgba.push(255);
        }
    }
    Ok(Picture::new(SIZE, rgba)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn one_moves_and_repeats_and_the_other_is_still() {
        let mut source = Source::open(Path::new("synthetic")).unwrap();
        let first = source.next();
        assert_ne!(source.next(), first);
        assert_eq!((2..PERIOD).map(|_| source.next()).filter(|p| *p == first).count(), 0);
        assert_eq!(source.next(), first);
        let mut still = Source::open(Path::new("still")).unwrap();
        assert_eq!(still.next(), still.next());
        assert!(Source::open(Path::new("/nonexistent.png")).is_err());
    }
}
