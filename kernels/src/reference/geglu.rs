//! The gated unit in f64.

use super::activation::activate;
use crate::ops::Activation;

/// `x[…, :C]·gelu(x[…, C:])`: x `[rows,2C]`, result `[rows,C]`.
pub fn geglu(x: &[f64], c: usize) -> Vec<f64> {
    let gated = |row: &[f64]| -> Vec<f64> {
        row[..c].iter().zip(&row[c..]).map(|(v, g)| v * activate(Activation::Gelu, *g)).collect()
    };
    x.chunks_exact(2 * c).flat_map(gated).collect()
}
