//! A moving picture that shows what becomes of colours, gradients, edges and time.

use dreamglass_engine::{Picture, Size};

use super::barcode::Barcode;

/// White, yellow, cyan, green, magenta, red, blue, black at three quarters of full brightness.
const BARS: [[u8; 3]; 8] = [
    [191, 191, 191],
    [191, 191, 0],
    [0, 191, 191],
    [0, 191, 0],
    [191, 0, 191],
    [191, 0, 0],
    [0, 0, 191],
    [0, 0, 0],
];

/// Grey, red, green and blue, each from black to full.
const GRADIENTS: [[u8; 3]; 4] = [[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]];

/// Digits of 3x5 pixels, a row of three bits at a time from the top.
const DIGITS: [u16; 10] = [
    0b111_101_101_101_111,
    0b010_110_010_010_111,
    0b111_001_111_100_111,
    0b111_001_111_001_111,
    0b101_101_111_001_001,
    0b111_100_111_001_111,
    0b111_100_111_101_111,
    0b111_001_010_010_010,
    0b111_101_111_101_111,
    0b111_101_111_001_111,
];

/// Frames that the disc takes from left to right, and from top to bottom.
const DISC_FRAMES: [u64; 2] = [67, 41];

/// The card without what moves.
#[derive(Debug, Clone)]
pub struct TestCard {
    size: Size,
    background: Vec<u8>,
    barcode: Option<Barcode>,
}

#[cfg(test)]
/// Card number `index` of `size`, always the same one.
pub fn test_card(size: Size, index: u64) -> anyhow::Result<Picture> {
    TestCard::new(size).draw(index)
}

impl TestCard {
    /// Bars above gradients; the barcode's band on top stays black.
    pub fn new(size: Size) -> Self {
        let barcode = Barcode::of(size);
        let top = barcode.map_or(0, Barcode::height);
        let middle = top + (size.height - top) / 2;
        let mut background = Vec::with_capacity(size.width as usize * size.height as usize * 4);
        for y in 0..size.height {
            for x in 0..size.width {
                let [r, g, b] = match y {
                    y if y < top => [0; 3],
                    y if y < middle => BARS[(x * 8 / size.width) as usize],
                    y => gradient(x, size.width, (y - middle) * 4 / (size.height - middle)),
                };
                background.extend([r, g, b, 255]);
            }
        }
        Self { size, background, barcode }
    }
    /// Card number `index` that was taken at `unix_ms` milliseconds since 1970, which the larger cards
    /// carry below their number.
    pub fn draw_at(&self, index: u64, unix_ms: u64) -> anyhow::Result<Picture> {
        let mut rgba = self.draw(index)?.into_rgba();
        if let Some(barcode) = self.barcode.filter(|code| code.fits_twice(self.size.height)) {
            barcode.draw(&mut rgba, self.size.width, barcode.height(), unix_ms);
        }
        Ok(Picture::new(self.size, rgba)?)
    }
    /// Card number `index`.
    pub fn draw(&self, index: u64) -> anyhow::Result<Picture> {
        let mut rgba = self.background.clone();
        self.draw_disc(&mut rgba, index);
        self.draw_digits(&mut rgba, index);
        if let Some(barcode) = self.barcode {
            barcode.draw(&mut rgba, self.size.width, 0, index);
        }
        Ok(Picture::new(self.size, rgba)?)
    }
    fn draw_disc(&self, rgba: &mut [u8], index: u64) {
        let top = self.barcode.map_or(0, Barcode::height);
        let Size { width, height } = self.size;
        let radius = width.min(height) / 10;
        let x = radius + bounce(index, DISC_FRAMES[0], width - 2 * radius);
        let y = top + radius + bounce(index, DISC_FRAMES[1], (height - top).saturating_sub(2 * radius));
        for row in y - radius..(y + radius).min(height) {
            let dy = i64::from(row) - i64::from(y);
            let half = (i64::from(radius).pow(2) - dy * dy).max(0).isqrt() as u32;
            fill(rgba, width, row, x - half..(x + half).min(width), [255, 128, 0]);
        }
    }
    fn draw_digits(&self, rgba: &mut [u8], index: u64) {
        let Size { width, height } = self.size;
        // Eight digits take a third of the width, and little of the height.
        let dot = (width / 96).min(height / 32).max(1);
        let digits = format!("{:08}", index % 100_000_000);
        let top = height - 7 * dot;
        for row in top..height {
            fill(rgba, width, row, 0..(33 * dot).min(width), [0; 3]);
        }
        for (place, digit) in (0..).zip(digits.bytes().map(|d| DIGITS[usize::from(d - b'0')])) {
            for bit in (0..15).filter(|bit| digit >> (14 - bit) & 1 == 1) {
                let x = (1 + place * 4 + bit % 3) * dot;
                let y = top + (1 + bit / 3) * dot;
                for row in y..y + dot {
                    fill(rgba, width, row, x.min(width)..(x + dot).min(width), [255; 3]);
                }
            }
        }
    }
}

fn gradient(x: u32, width: u32, which: u32) -> [u8; 3] {
    let full = GRADIENTS[which.min(3) as usize];
    full.map(|c| (u32::from(c) * x / (width - 1).max(1)) as u8)
}

/// There and back again: 0..=`room` within `frames`, then back.
fn bounce(index: u64, frames: u64, room: u32) -> u32 {
    let phase = index % (2 * frames);
    let place = phase.min(2 * frames - phase);
    (place * u64::from(room) / frames) as u32
}

fn fill(rgba: &mut [u8], width: u32, row: u32, columns: std::ops::Range<u32>, [r, g, b]: [u8; 3]) {
    let at = |x: u32| (row as usize * width as usize + x as usize) * 4;
    for pixel in rgba[at(columns.start)..at(columns.end)].chunks_exact_mut(4) {
        pixel.copy_from_slice(&[r, g, b, 255]);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::super::barcode::{decode_counter, decode_time};
    use super::*;

    #[test]
    fn the_counter_reads_back() {
        let sizes = [(512, 512), (640, 480), (64, 64), (65, 333), (1920, 1080), (333, 65)];
        for (width, height) in sizes {
            let card = TestCard::new(Size::new(width, height));
            for index in [0, 1, 2, 255, 12345, u64::from(u32::MAX)] {
                let read = decode_counter(&card.draw(index).unwrap());
                assert_eq!(read, Some(index), "{width}x{height}");
            }
            assert_eq!(decode_counter(&card.draw(7 + (1 << 32)).unwrap()), Some(7));
        }
    }

    #[test]
    fn large_cards_tell_when_they_were_taken() {
        let taken = |width, height| {
            let card = TestCard::new(Size::new(width, height)).draw_at(9, 0x1_89ab_cdef).unwrap();
            assert_eq!(decode_counter(&card), Some(9));
            decode_time(&card)
        };
        assert_eq!(taken(512, 512), Some(0x89ab_cdef));
        assert_eq!(taken(1920, 1080), Some(0x89ab_cdef));
        assert_eq!(taken(256, 256), None);
    }

    #[test]
    fn other_pictures_have_no_counter() {
        for value in [0, 127, 255] {
            let flat = Picture::new(Size::new(512, 512), vec![value; 512 * 512 * 4]).unwrap();
            assert_eq!(decode_counter(&flat), None);
        }
        assert_eq!(decode_counter(&Picture::new(Size::new(1, 1), vec![0; 4]).unwrap()), None);
        let mut rgba = test_card(Size::new(512, 512), 3).unwrap().into_rgba();
        rgba[..16 * 512 * 4].rotate_right(16 * 4);
        assert_eq!(decode_counter(&Picture::new(Size::new(512, 512), rgba).unwrap()), None, "moved");
    }

    #[test]
    fn the_counter_survives_noise_and_grey() {
        let mut rgba = test_card(Size::new(512, 512), 98765).unwrap().into_rgba();
        for (ix, value) in rgba.iter_mut().enumerate() {
            let noise = (ix as u32).wrapping_mul(0x9e37_79b1) >> 25;
            *value = (u32::from(*value) / 2 + noise).min(255) as u8;
        }
        assert_eq!(decode_counter(&Picture::new(Size::new(512, 512), rgba).unwrap()), Some(98765));
    }

    #[test]
    fn cards_are_the_same_for_a_number_and_differ_between_numbers() {
        let size = Size::new(160, 120);
        assert_eq!(test_card(size, 5).unwrap(), test_card(size, 5).unwrap());
        assert_ne!(test_card(size, 5).unwrap(), test_card(size, 6).unwrap());
    }

    #[test]
    fn every_accepted_size_can_be_drawn() {
        for (width, height) in [(64, 64), (64, 8192), (8192, 64), (65, 67), (97, 64)] {
            for index in [0, 40, 41, 67, 133, u64::MAX] {
                assert!(test_card(Size::new(width, height), index).is_ok());
            }
        }
    }

    #[test]
    fn digits_can_be_read() {
        let card = test_card(Size::new(960, 540), 40_000_001).unwrap();
        // The 4's corner is lit, its missing bottom left is not.
        let at = |x: u32, y: u32| card.rgba()[((y * 960 + x) * 4) as usize];
        let top = 540 - 70;
        assert_eq!((at(15, top + 15), at(15, top + 55), at(35, top + 55)), (255, 0, 255));
    }
}
