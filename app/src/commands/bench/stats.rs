//! Percentiles.

use serde::{Deserialize, Serialize};

/// How the values of a series lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// How many values there are.
    pub count: usize,
    pub mean: f64,
    /// Standard deviation of the values, not of an estimate.
    pub stddev: f64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let max = *sorted.last()?;
        let count = sorted.len();
        let mean = sorted.iter().sum::<f64>() / count as f64;
        let variance = sorted.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count as f64;
        let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|share| percentile(&sorted, share));
        Some(Self { count, mean, stddev: variance.sqrt(), p50, p95, p99, max })
    }
    /// How far the slow ones are from the middle.
    pub fn jitter(&self) -> f64 {
        self.p95 - self.p50
    }
}

/// The value below which `share` of `sorted` lies, between neighbours on a straight line.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

/// The middle of a series; 0 where it is empty.
pub fn median(values: &[f64]) -> f64 {
    Spread::of(values).map_or(0.0, |s| s.p50)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn percentiles_lie_between_neighbours() {
        let values: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        let spread = Spread::of(&values).unwrap();
        assert_eq!([spread.p50, spread.p95, spread.p99, spread.max], [50.0, 95.0, 99.0, 100.0]);
        assert_eq!((spread.count, spread.mean, spread.jitter()), (101, 50.0, 45.0));
        let two = Spread::of(&[10.0, 20.0]).unwrap();
        assert_eq!([two.p50, two.p95, two.stddev], [15.0, 19.5, 5.0]);
    }

    #[test]
    fn short_series() {
        assert_eq!(Spread::of(&[]), None);
        let one = Spread::of(&[3.0]).unwrap();
        assert_eq!([one.p50, one.p95, one.p99, one.max, one.stddev], [3.0, 3.0, 3.0, 3.0, 0.0]);
        assert_eq!((median(&[]), median(&[2.0, 1.0, 9.0])), (0.0, 2.0));
    }
}
