//! Seeded Gaussian noise that depends on nothing but its seed and index.
//!
//! A counter-based generator: word `i` of stream `s` of a seed is SplitMix64's finaliser (Steele,
//! Lea, Flood 2014) of a counter started from both, so any value can be computed alone and the
//! same seed gives the same noise on every machine. Pairs become normal by Box–Muller in f64.

/// SplitMix64's increment: 2⁶⁴ divided by the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Word `counter` of the stream that starts at `key`.
fn word(key: u64, counter: u64) -> u64 {
    mix(key.wrapping_add((counter + 1).wrapping_mul(GOLDEN)))
}

/// A number in (0, 1] from the top 53 bits.
fn unit(word: u64) -> f64 {
    ((word >> 11) + 1) as f64 / (1u64 << 53) as f64
}

/// A number in (0, 1]: number `index` of `seed`.
pub(crate) fn uniform(seed: u64, index: u64) -> f64 {
    unit(word(mix(seed), index))
}

/// `n` values of unit Gaussian noise from `seed`; `stream` separates independent noises of one
/// seed (0 is the first sample's, `k` that of step `k`). A longer noise starts with a shorter one.
pub fn gaussian(seed: u64, stream: u64, n: usize) -> Vec<f32> {
    let key = mix(seed ^ mix(stream.wrapping_mul(GOLDEN).wrapping_add(GOLDEN)));
    let mut values = Vec::with_capacity(n + 1);
    for pair in 0..n.div_ceil(2) as u64 {
        let radius = (-2.0 * unit(word(key, 2 * pair)).ln()).sqrt();
        let angle = std::f64::consts::TAU * unit(word(key, 2 * pair + 1));
        values.push((radius * angle.cos()) as f32);
        values.push((radius * angle.sin()) as f32);
    }
    values.truncate(n);
    values
}

#[cfg(test)]
mod tests {
    use super::gaussian;

    #[test]
    fn the_moments_are_those_of_a_unit_gaussian() {
        let n = 1 << 18;
        let values = gaussian(7, 0, n);
        let moment = |p: i32| values.iter().map(|&v| f64::from(v).powi(p)).sum::<f64>() / n as f64;
        // Five standard errors: sqrt(1/n), sqrt(2/n), sqrt(15/n), sqrt(96/n).
        let bound = |variance: f64| 5.0 * (variance / n as f64).sqrt();
        assert!(moment(1).abs() < bound(1.0));
        assert!((moment(2) - 1.0).abs() < bound(2.0));
        assert!(moment(3).abs() < bound(15.0));
        assert!((moment(4) - 3.0).abs() < bound(96.0));
    }

    #[test]
    fn a_seed_fixes_the_noise_and_streams_differ() {
        assert_eq!(gaussian(1, 0, 9), gaussian(1, 0, 16)[..9]);
        assert_ne!(gaussian(1, 0, 8), gaussian(1, 1, 8));
        assert_ne!(gaussian(1, 0, 8), gaussian(2, 0, 8));
        let (a, b) = (gaussian(3, 0, 4096), gaussian(3, 1, 4096));
        let dot: f32 = a.iter().zip(&b).map(|(x, y)| x * y).sum();
        assert!(dot.abs() < 5.0 * 64.0, "streams are correlated: {dot}");
    }
}
