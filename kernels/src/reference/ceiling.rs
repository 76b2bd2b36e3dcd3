//! The arithmetic probe in f64.

use crate::ops::FmaChain;

/// The sum of the chains after `steps` rounds.
pub fn fma_chain(steps: u32) -> f64 {
    let (factor, shift) = (f64::from(FmaChain::FACTOR), f64::from(FmaChain::SHIFT));
    let chain = |j| (0..steps * FmaChain::UNROLL).fold(f64::from(j), |a, _| a * factor + shift);
    (0..FmaChain::CHAINS).map(chain).sum()
}
