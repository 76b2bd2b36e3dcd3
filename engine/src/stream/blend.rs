//! Mixing prompts and seeds.

use super::noise::gaussian;
use crate::params::BlendMode;

/// Angle in radians below which an arc is a line.
const SMALLEST_ANGLE: f64 = 1e-6;

/// `(1 − t)·a + t·b`, or the same along the arc: `sin((1−t)θ)/sinθ·a + sin(tθ)/sinθ·b` with θ the
/// angle between the flattened a and b. Both have the same length.
pub fn mix(a: &[f32], b: &[f32], t: f64, mode: BlendMode) -> Vec<f32> {
    let [of_a, of_b] = match mode {
        BlendMode::Linear => [1.0 - t, t],
        BlendMode::Slerp => arc(angle(a, b), t),
    };
    a.iter().zip(b).map(|(&a, &b)| (of_a * f64::from(a) + of_b * f64::from(b)) as f32).collect()
}

fn arc(angle: f64, t: f64) -> [f64; 2] {
    // Opposite vectors have no arc between them either.
    if angle < SMALLEST_ANGLE || std::f64::consts::PI - angle < SMALLEST_ANGLE {
        return [1.0 - t, t];
    }
    [((1.0 - t) * angle).sin() / angle.sin(), (t * angle).sin() / angle.sin()]
}

fn angle(a: &[f32], b: &[f32]) -> f64 {
    let dot =
        |x: &[f32], y: &[f32]| -> f64 { x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum() };
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { (dot(a, b) / lengths).clamp(-1.0, 1.0).acos() } else { 0.0 }
}

/// Which noise a stream has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoiseMix {
    /// The seed.
    pub seed: u64,
    /// A second seed.
    pub second: u64,
    /// Its share, 0 to 1.
    pub share: f64,
}

impl NoiseMix {
    /// `n` values of noise `stream`: `Σ w·noise/√(Σ w²)`, so that the mix is unit noise again.
    pub fn values(&self, stream: u64, n: usize) -> Vec<f32> {
        let first = gaussian(self.seed, stream, n);
        if self.share == 0.0 || self.second == self.seed {
            return first;
        }
        let second = gaussian(self.second, stream, n);
        let weights = [1.0 - self.share, self.share];
        let length = weights[0].hypot(weights[1]);
        let sum = |(a, b): (f32, f32)| (weights[0] * f64::from(a) + weights[1] * f64::from(b)) / length;
        first.into_iter().zip(second).map(|pair| sum(pair) as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arcs_keep_the_length_and_meet_both_ends() {
        let (a, b) = ([3.0, 0.0, 0.0], [0.0, 3.0, 0.0]);
        let half = mix(&a, &b, 0.5, BlendMode::Slerp);
        let length = half.iter().map(|v| v * v).sum::<f32>().sqrt();
        assert!((length - 3.0).abs() < 1e-6 && (half[0] - half[1]).abs() < 1e-6);
        assert_eq!(mix(&a, &b, 0.25, BlendMode::Linear), [2.25, 0.75, 0.0]);
        for mode in [BlendMode::Linear, BlendMode::Slerp] {
            assert_eq!(mix(&a, &b, 0.0, mode), a);
            let end = mix(&a, &b, 1.0, mode);
            assert!(end.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-6));
            assert!(mix(&a, &a, 0.3, mode).iter().zip(a).all(|(x, y)| (x - y).abs() < 1e-6));
            assert!(mix(&[0.0; 3], &a, 0.5, mode).iter().all(|v| v.is_finite()));
            assert!(mix(&a, &[-3.0, 0.0, 0.0], 0.5, mode).iter().all(|v| v.is_finite()));
        }
    }

    #[test]
    fn mixed_noise_has_unit_variance() {
        let n = 1 << 16;
        let values = NoiseMix { seed: 1, second: 2, share: 0.3 }.values(0, n);
        let variance = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / n as f64;
        assert!((variance - 1.0).abs() < 5.0 * (2.0 / n as f64).sqrt(), "{variance}");
        assert_eq!(NoiseMix { seed: 1, second: 2, share: 1.0 }.values(3, 16), gaussian(2, 3, 16));
        assert_eq!(NoiseMix { seed: 1, second: 2, share: 0.0 }.values(3, 16), gaussian(1, 3, 16));
    }
}
