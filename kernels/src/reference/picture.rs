//! Pictures in and out in f64.

use crate::ops::Orientation;

/// The region `[x, y, width, height]` of a picture of `width` × `height` RGBA8 words resized to
/// `[H, W]`, `[H,W,3]` in [−1, 1]: a triangle filter as wide as the scale, at least one pixel,
/// normalised; pixels outside are those on the edge. The result is turned by `orientation`.
pub fn picture_in(
    pixels: &[u32],
    source: [usize; 2],
    region: [f64; 4],
    orientation: Orientation,
    size: [usize; 2],
) -> Vec<f64> {
    let upright = if orientation.is_on_side() { [size[1], size[0]] } else { size };
    let picture = resize(pixels, source, region, upright);
    let [h, w] = size;
    let mut y = Vec::with_capacity(picture.len());
    for row in 0..h {
        for column in 0..w {
            let column = if orientation.mirror { w - 1 - column } else { column };
            let (from_row, from_column) = match orientation.quarter_turns % 4 {
                0 => (row, column),
                1 => (w - 1 - column, row),
                2 => (h - 1 - row, w - 1 - column),
                _ => (column, h - 1 - row),
            };
            y.extend_from_slice(&picture[(from_row * upright[1] + from_column) * 3..][..3]);
        }
    }
    y
}

fn resize(pixels: &[u32], [width, height]: [usize; 2], region: [f64; 4], size: [usize; 2]) -> Vec<f64> {
    let columns: Vec<_> =
        (0..size[1]).map(|o| taps(o, region[0], region[2] / size[1] as f64, width)).collect();
    let rows: Vec<_> = (0..size[0]).map(|o| taps(o, region[1], region[3] / size[0] as f64, height)).collect();
    let mut y = Vec::with_capacity(size[0] * size[1] * 3);
    for row in &rows {
        for column in &columns {
            for channel in 0..3 {
                let mut sum = 0.0;
                for &(j, weight_y) in row {
                    for &(i, weight_x) in column {
                        let byte = pixels[j * width + i].to_le_bytes()[channel];
                        sum += weight_y * weight_x * f64::from(byte);
                    }
                }
                y.push(2.0 * sum / 255.0 - 1.0);
            }
        }
    }
    y
}

/// Source pixels of one output pixel along one axis, with their normalised weights.
fn taps(out: usize, start: f64, scale: f64, length: usize) -> Vec<(usize, f64)> {
    let (centre, reach) = (start + (out as f64 + 0.5) * scale, scale.max(1.0));
    let (first, last) = ((centre - reach).floor() as i64 - 1, (centre + reach).ceil() as i64 + 1);
    let weight = |i: i64| (1.0 - (i as f64 + 0.5 - centre).abs() / reach).max(0.0);
    let total: f64 = (first..=last).map(weight).sum();
    (first..=last).map(|i| (i.clamp(0, length as i64 - 1) as usize, weight(i) / total)).collect()
}

/// `round(clamp((x+1)/2, 0, 1)·255)` of `[pixels,3]` as RGBA8 words with alpha 255. NaN gives 0.
pub fn picture_out(x: &[f64]) -> Vec<u32> {
    let byte =
        |v: f64| if v.is_nan() { 0 } else { (((v + 1.0) / 2.0).clamp(0.0, 1.0) * 255.0).round() as u8 };
    x.chunks_exact(3).map(|p| u32::from_le_bytes([byte(p[0]), byte(p[1]), byte(p[2]), 255])).collect()
}
