//! A number as black and white cells, for machines to read back: a frame's, or when it was taken.
//!
//! 32 cells of the number and 32 of its check word, high bit first, fill rows from the top left.

#[cfg(test)]
use dreamglass_engine::Picture;
use dreamglass_engine::Size;

/// Side of a cell in pixels: larger than what a codec or a model smears. Small pictures have smaller
/// ones.
const CELLS: [u32; 3] = [16, 8, 4];

/// Bits of the number and of its check word.
const BITS: u32 = 64;

/// The cells of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Barcode {
    cell: u32,
    columns: u32,
}

impl Barcode {
    /// The largest cells that leave most of a picture of `size` free; none where none do.
    pub fn of(size: Size) -> Option<Self> {
        CELLS.into_iter().find_map(|cell| {
            let columns = size.width / cell;
            let fits = columns > 0 && BITS.div_ceil(columns) * cell <= size.height / 3;
            fits.then_some(Self { cell, columns })
        })
    }
    /// Whether a second one below it leaves most of a picture of `height` free, too.
    pub fn fits_twice(self, height: u32) -> bool {
        2 * self.height() <= height / 3
    }
    /// Rows of pixels that it takes.
    pub fn height(self) -> u32 {
        BITS.div_ceil(self.columns) * self.cell
    }
    /// Draws the low 32 bits of `number` from row `top` on.
    pub fn draw(self, rgba: &mut [u8], width: u32, top: u32, number: u64) {
        let word = number as u32;
        let bits = u64::from(word) << 32 | u64::from(check(word));
        for bit in 0..BITS {
            let value = if bits >> (BITS - 1 - bit) & 1 == 1 { 255 } else { 0 };
            let (x, y) = self.corner(bit);
            for row in top + y..top + y + self.cell {
                let start = (row * width + x) as usize * 4;
                for pixel in rgba[start..start + self.cell as usize * 4].chunks_exact_mut(4) {
                    pixel.copy_from_slice(&[value, value, value, 255]);
                }
            }
        }
    }
    #[cfg(test)]
    fn read(self, picture: &Picture, top: u32) -> Option<u64> {
        let bit = |bit| u64::from(self.brightness(picture, top, bit) > 127);
        let bits = (0..BITS).fold(0, |bits, place| bits << 1 | bit(place));
        let word = (bits >> 32) as u32;
        (check(word) == bits as u32).then_some(word.into())
    }
    fn corner(self, bit: u32) -> (u32, u32) {
        (bit % self.columns * self.cell, bit / self.columns * self.cell)
    }
    #[cfg(test)]
    /// Brightness of the inner half of a cell, 0..=255.
    fn brightness(self, picture: &Picture, top: u32, bit: u32) -> u32 {
        let (x, y) = self.corner(bit);
        let y = top + y;
        let (edge, inner) = (self.cell / 4, self.cell / 2);
        let mut sum = 0;
        for row in y + edge..y + edge + inner {
            let start = (row * picture.size().width + x + edge) as usize * 4;
            let pixels = picture.rgba()[start..start + inner as usize * 4].chunks_exact(4);
            sum += pixels.map(|p| (u32::from(p[0]) + u32::from(p[1]) + u32::from(p[2])) / 3).sum::<u32>();
        }
        sum / (inner * inner)
    }
}

#[cfg(test)]
/// The number that a test card carries, none where there is no card.
pub fn decode_counter(picture: &Picture) -> Option<u64> {
    Barcode::of(picture.size())?.read(picture, 0)
}

#[cfg(test)]
/// When a test card was taken, in the low 32 bits of Unix milliseconds.
pub fn decode_time(picture: &Picture) -> Option<u64> {
    let code = Barcode::of(picture.size())?;
    code.read(picture, code.height())
}

/// Differs in many bits for neighbours, and neither an all-black nor an all-white row fits.
fn check(word: u32) -> u32 {
    word.wrapping_mul(0x9e37_79b1).rotate_left(7) ^ 0xa5c3_5a3c
}
