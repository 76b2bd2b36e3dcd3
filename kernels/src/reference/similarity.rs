//! Cosine similarity in f64.

use crate::ops::Similarity;

/// `a·b / max(|a|·|b|, LEAST)` of two vectors of the same length.
pub fn similarity(a: &[f64], b: &[f64]) -> f64 {
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let length = dot(a, a).sqrt() * dot(b, b).sqrt();
    dot(a, b) / length.max(f64::from(Similarity::LEAST))
}
