//! Weighted sums in f64.

use super::activation::activate;
use crate::ops::Activation;

/// `act(Σ_k factors[n,k]·x_k + offset)`: each term `[N or 1, row]`, factors `[N or 1, terms]`, result
/// `[N, row]`.
pub fn linear_combination(
    terms: &[&[f64]],
    factors: &[f64],
    n: usize,
    offset: f64,
    activation: Activation,
) -> Vec<f64> {
    let len = terms.iter().map(|t| t.len()).max().unwrap_or(0);
    let row = len / n;
    let value = |ix: usize| {
        let factors = &factors[ix / row * terms.len() % factors.len()..][..terms.len()];
        let sum: f64 = terms.iter().zip(factors).map(|(x, f)| f * x[ix % x.len()]).sum();
        activate(activation, sum + offset)
    };
    (0..len).map(value).collect()
}
