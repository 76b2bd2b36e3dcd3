//! What the behaviour tests share: seeded inputs, weights from memory, and a run of a small plan
//! on every tier with poisoned memory and guard words.

#[path = "../goldens/weights.rs"]
pub mod weights;

use std::collections::HashMap;
use std::sync::OnceLock;

use dreamglass_kernels::exec::{Executable, WeightCache};
use dreamglass_kernels::gpu::{Gpu, GpuOptions};
use dreamglass_kernels::{KernelError, PlanBuilder, Tensor, Tier, WeightSource};

/// Two different NaNs of both storage types: what unwritten memory holds.
const POISONS: [u32; 2] = [0xFFFF_FFFF, 0x7FFF_7FFF];

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

/// Weights by name, from memory.
#[derive(Debug, Default)]
pub struct Weights(pub HashMap<String, Vec<f32>>);

impl WeightSource for Weights {
    fn read(&self, name: &str, _: &[u32]) -> Result<Vec<f32>, KernelError> {
        let missing = || KernelError::Weight { name: name.into(), message: "not in this test".into() };
        self.0.get(name).cloned().ok_or_else(missing)
    }
}

/// The default adapter with runtime checks and without matrix units, opened once per tier.
///
/// # Panics
/// When there is no adapter: these tests need a Vulkan driver, which `make test` installs.
pub fn gpu(tier: Tier) -> Gpu {
    static GPUS: [OnceLock<Gpu>; 2] = [OnceLock::new(), OnceLock::new()];
    GPUS[usize::from(tier == Tier::Tile)].get_or_init(|| open(tier, true)).clone()
}

/// A device for each tier that the default adapter runs, and one with its matrix units, where it has any.
fn devices() -> Vec<Gpu> {
    static MATRICES: OnceLock<Gpu> = OnceLock::new();
    let with_matrices = MATRICES.get_or_init(|| open(Tier::Tile, false)).clone();
    let mut devices: Vec<Gpu> = tiers().into_iter().map(gpu).collect();
    devices.extend(with_matrices.matrices().is_ok().then_some(with_matrices.clone()));
    devices
}

fn open(tier: Tier, without_matrices: bool) -> Gpu {
    let options =
        GpuOptions { runtime_checks: true, tier: Some(tier), without_matrices, ..Default::default() };
    Gpu::open(&options).unwrap_or_else(|e| panic!("{tier:?}: {e}"))
}

/// The tiers that the default adapter runs.
pub fn tiers() -> Vec<Tier> {
    let adapters = dreamglass_kernels::gpu::adapters();
    match adapters.first().map(|a| a.tier) {
        Some(Tier::Lane) => vec![Tier::Lane, Tier::Tile],
        _ => vec![Tier::Tile],
    }
}

/// Records one result on every tier, runs it twice over different poison, checks that both runs
/// agree to the bit and that no guard word changed, and hands the result to `check`.
///
/// # Panics
/// When anything fails.
pub fn on_tiers(
    inputs: &[(&str, &[f32])],
    weights: &[(&str, &[f32])],
    record: impl Fn(&mut PlanBuilder) -> Result<Tensor, KernelError>,
    check: impl Fn(Tier, &[f32]),
) {
    let weights = Weights(weights.iter().map(|(n, v)| ((*n).to_string(), v.to_vec())).collect());
    for gpu in devices() {
        let tier = gpu.target().tier;
        let run = || -> Result<Vec<Vec<f32>>, KernelError> {
            let mut plan = PlanBuilder::new(gpu.target());
            let result = record(&mut plan)?;
            plan.output("result", result)?;
            let executable = Executable::new(&gpu, plan.finish(), &weights, &WeightCache::default(), &[])?;
            for (name, values) in inputs {
                executable.tensor(name)?.write_f32(values)?;
            }
            let mut results = Vec::new();
            for poison in POISONS {
                executable.poison(poison)?;
                executable.run()?;
                results.push(executable.tensor("result")?.read_f32()?);
                assert!(executable.guards_intact(poison)?, "{tier:?}: a guard word was overwritten");
            }
            Ok(results)
        };
        let results = run().unwrap_or_else(|e| panic!("{tier:?}: {e}"));
        let bits = |r: &[f32]| r.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&results[0]), bits(&results[1]), "{tier:?}: two runs differ");
        check(tier, &results[0]);
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
