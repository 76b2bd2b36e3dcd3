//! What the behaviour tests share: seeded inputs, devices for each tier, and how far results are apart.

#[path = "../goldens/weights.rs"]
pub mod weights;

use std::sync::OnceLock;

use dreamglass_kernels::Tier;
use dreamglass_kernels::gpu::{Gpu, GpuOptions};

/// A seeded generator (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator for one test case.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
    /// Uniform in [−1, 1).
    pub fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
    /// `n` uniform values that f16 holds exactly, so that storage rounds none of them.
    pub fn halves(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| half::f16::from_f32(self.uniform()).to_f32()).collect()
    }
}

/// The default adapter with runtime checks and without matrix units, opened once per tier.
///
/// # Panics
/// When there is no adapter: these tests need a Vulkan driver, which `make test` installs.
pub fn gpu(tier: Tier) -> Gpu {
    static GPUS: [OnceLock<Gpu>; 2] = [OnceLock::new(), OnceLock::new()];
    let open = || {
        let options = GpuOptions {
            runtime_checks: true,
            tier: Some(tier),
            without_matrices: true,
            ..GpuOptions::default()
        };
        Gpu::open(&options).unwrap_or_else(|e| panic!("{tier:?}: {e}"))
    };
    GPUS[usize::from(tier == Tier::Tile)].get_or_init(open).clone()
}

/// The tiers that the default adapter runs.
pub fn tiers() -> Vec<Tier> {
    let adapters = dreamglass_kernels::gpu::adapters();
    match adapters.first().map(|a| a.tier) {
        Some(Tier::Lane) => vec![Tier::Lane, Tier::Tile],
        _ => vec![Tier::Tile],
    }
}

/// `‖a − b‖ / ‖b‖`; infinite when lengths differ or a value is not finite.
pub fn distance(ours: &[f32], golden: &[f32]) -> f64 {
    if ours.len() != golden.len() || ours.iter().any(|v| !v.is_finite()) {
        return f64::INFINITY;
    }
    let square = |v: f32| f64::from(v) * f64::from(v);
    let difference: f64 = ours.iter().zip(golden).map(|(a, b)| square(a - b)).sum();
    let norm: f64 = golden.iter().map(|&b| square(b)).sum();
    (difference / norm).sqrt()
}
