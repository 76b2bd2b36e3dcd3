//! Weights as signed bytes: symmetric, with one scale for each output channel.
//!
//! `w ≈ scale[o]·q`, `scale[o] = max|w[o,…]| / 127`, `q` the whole number in −127..=127 nearest to `w / scale[o]`, the
//! even one of two. A channel of zeros, or of values so small that their scale is zero, has the scale 0 and zeros.

/// Largest whole number that is stored; −128 is left out, so that the negative of every value has one too.
const LARGEST: f32 = 127.0;

/// Added to a number below 2²² and taken off again, it leaves the nearest whole one: f32 has no bits for more.
const ROUNDING: f32 = 12_582_912.0;

/// Raises the largest magnitude of each row to that of one of `rows`.
pub(super) fn raise<'a>(largest: &mut [f32], rows: impl IntoIterator<Item = &'a [f32]>) {
    for (largest, row) in largest.iter_mut().zip(rows) {
        *largest = row.iter().fold(*largest, |largest, v| largest.max(v.abs()));
    }
}

/// The scale of a channel with this largest magnitude.
pub(super) fn scale(largest: f32) -> f32 {
    largest / LARGEST
}

/// Makes whole numbers of the values of `rows`, those of each times its scale being what is meant.
pub(super) fn quantise<'a>(rows: impl IntoIterator<Item = &'a mut [f32]>, scales: &[f32]) {
    for (row, &scale) in rows.into_iter().zip(scales) {
        if scale == 0.0 {
            row.fill(0.0);
            continue;
        }
        for value in row {
            // A scale that is rounded to a subnormal may leave more than the largest.
            let whole = (*value / scale).clamp(-LARGEST, LARGEST);
            *value = (whole + ROUNDING) - ROUNDING;
        }
    }
}
