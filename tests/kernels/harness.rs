//! Runs a recorded plan on the default adapter in every tier and every way it can: from poisoned memory, twice,
//! with guard words behind every tensor, and with the shaders' runtime checks on.

use std::collections::HashMap;
use std::sync::OnceLock;

use dreamglass_kernels::choice::Tuning;
use dreamglass_kernels::exec::{Executable, GpuTensor, WeightCache};
use dreamglass_kernels::gpu::{Gpu, GpuOptions};
use dreamglass_kernels::{DType, KernelError, Plan, PlanBuilder, Shape, Tensor, Tier, WeightSource};

/// NaN as f32 and as two halves; the second differs in every byte that may be wrong.
const POISONS: [u32; 2] = [0xffff_ffff, 0x7fc0_7e00];
/// As many ways to run a plan as there are.
pub const EVERY_WAY: usize = usize::MAX;
/// Name of the plan's output.
const RESULT: &str = "result";

/// One device for each tier that the default adapter runs, with and without its matrix units, shared by all tests.
fn devices() -> &'static [Gpu] {
    static DEVICES: OnceLock<Vec<Gpu>> = OnceLock::new();
    DEVICES.get_or_init(|| {
        let open = |tier, without_matrices| {
            let options =
                GpuOptions { runtime_checks: true, tier, without_matrices, ..GpuOptions::default() };
            Gpu::open(&options).unwrap_or_else(|e| panic!("these tests need an adapter: {e}"))
        };
        let mut devices = vec![open(None, true)];
        if devices[0].target().tier == Tier::Lane {
            devices.push(open(Some(Tier::Tile), true));
        }
        let with_matrices = open(Some(Tier::Tile), false);
        match with_matrices.matrices() {
            Ok(_) => devices.push(with_matrices),
            Err(why) => eprintln!("no test of matrix units: {why}"),
        }
        devices
    })
}

/// Values of a tensor, unpadded NHWC.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    Floats(&'a [f32]),
    Words(&'a [u32]),
}

/// A device of the test's own, whose counters nobody else moves.
pub fn own_device() -> Gpu {
    let options = GpuOptions { runtime_checks: true, ..GpuOptions::default() };
    Gpu::open(&options).unwrap_or_else(|e| panic!("these tests need an adapter: {e}"))
}

/// A prepared plan without weights, whose inputs may be given as `externals`; its result is
/// called `result`.
pub fn prepared(
    gpu: &Gpu,
    externals: &[(&str, GpuTensor)],
    record: impl Fn(&mut PlanBuilder) -> Result<Tensor, KernelError>,
) -> Executable {
    let prepare = || {
        let mut plan = PlanBuilder::new(gpu.target());
        let result = record(&mut plan)?;
        plan.output(RESULT, result)?;
        let weights = Weights(HashMap::new());
        Executable::new(gpu, plan.finish(), &weights, &WeightCache::default(), externals)
    };
    prepare().unwrap_or_else(|e| panic!("{e}"))
}

struct Weights<'a>(HashMap<&'a str, &'a [f32]>);

impl WeightSource for Weights<'_> {
    fn read(&self, name: &str, _: &[u32]) -> Result<Vec<f32>, KernelError> {
        let message = "the test gives no such weight".to_owned();
        let missing = || KernelError::Weight { name: name.to_owned(), message };
        self.0.get(name).map(|v| v.to_vec()).ok_or_else(missing)
    }
}

/// Records a plan with `record` for each tier, runs it on `inputs` and `weights` and hands the
/// result to `check`.
pub fn on_tiers(
    inputs: &[(&str, &[f32])],
    weights: &[(&str, &[f32])],
    record: impl Fn(&mut PlanBuilder) -> Result<Tensor, KernelError>,
    check: impl Fn(Tier, &[f32]),
) {
    on_tiers_in(Ways::default(), inputs, weights, record, check);
}

/// [`on_tiers`] in the first `ways`: each is a kernel more to compile, and how a tile is shared out has little to do
/// with how tensors are stored.
pub fn some_on_tiers(
    ways: usize,
    inputs: &[(&str, &[f32])],
    weights: &[(&str, &[f32])],
    record: impl Fn(&mut PlanBuilder) -> Result<Tensor, KernelError>,
    check: impl Fn(Tier, &[f32]),
) {
    on_tiers_in(Ways { most: ways, ..Ways::default() }, inputs, weights, record, check);
}

/// [`some_on_tiers`] with the weights of products as bytes, at least one product's.
pub fn int8_on_tiers(
    ways: usize,
    inputs: &[(&str, &[f32])],
    weights: &[(&str, &[f32])],
    record: impl Fn(&mut PlanBuilder) -> Result<Tensor, KernelError>,
    check: impl Fn(Tier, &[f32]),
) {
    on_tiers_in(Ways { most: ways, has_bytes: true }, inputs, weights, record, check);
}

/// In which ways a plan runs.
#[derive(Debug, Clone, Copy)]
struct Ways {
    /// How many of them.
    most: usize,
    /// With the weights of products as bytes.
    has_bytes: bool,
}

impl Default for Ways {
    fn default() -> Self {
        Self { most: EVERY_WAY, has_bytes: false }
    }
}

fn on_tiers_in(
    ways: Ways,
    inputs: &[(&str, &[f32])],
    weights: &[(&str, &[f32])],
    record: impl Fn(&mut PlanBuilder) -> Result<Tensor, KernelError>,
    check: impl Fn(Tier, &[f32]),
) {
    let inputs: Vec<_> = inputs.iter().map(|(name, values)| (*name, Values::Floats(values))).collect();
    for gpu in devices() {
        for (shape, dtype, bytes) in run(gpu, &inputs, weights, &record, ways) {
            check(gpu.target().tier, &unpadded(shape, dtype, &bytes));
        }
    }
}

/// [`on_tiers`] with inputs of any type and a result of words.
pub fn words_on_tiers(
    inputs: &[(&str, Values)],
    record: impl Fn(&mut PlanBuilder) -> Result<Tensor, KernelError>,
    check: impl Fn(Tier, &[u32]),
) {
    for gpu in devices() {
        for (_, _, bytes) in run(gpu, inputs, &[], &record, Ways::default()) {
            check(gpu.target().tier, &bytemuck::pod_collect_to_vec(&bytes));
        }
    }
}

/// [`on_tiers`] with inputs of any type.
pub fn values_on_tiers(
    inputs: &[(&str, Values)],
    weights: &[(&str, &[f32])],
    record: impl Fn(&mut PlanBuilder) -> Result<Tensor, KernelError>,
    check: impl Fn(Tier, &[f32]),
) {
    for gpu in devices() {
        for (shape, dtype, bytes) in run(gpu, inputs, weights, &record, Ways::default()) {
            check(gpu.target().tier, &unpadded(shape, dtype, &bytes));
        }
    }
}

/// Shape, storage and bytes of the result of every way to do the plan, the same from either poison.
fn run(
    gpu: &Gpu,
    inputs: &[(&str, Values)],
    weights: &[(&str, &[f32])],
    record: &impl Fn(&mut PlanBuilder) -> Result<Tensor, KernelError>,
    Ways { most, has_bytes }: Ways,
) -> Vec<(Shape, DType, Vec<u8>)> {
    let results = || -> Result<_, KernelError> {
        let mut plan = PlanBuilder::new(gpu.target());
        let result = record(&mut plan)?;
        plan.output(RESULT, result)?;
        let mut plan = plan.finish();
        if has_bytes {
            plan = plan.with_int8_weights();
            assert!(plan.weights.iter().any(|weight| weight.dtype == DType::I8), "no bytes:\n{plan}");
        }
        let weights = Weights(weights.iter().copied().collect());
        let mut results = Vec::new();
        for plan in ways(&plan).take(most) {
            let executable = Executable::new(gpu, plan, &weights, &WeightCache::default(), &[])?;
            for (name, values) in inputs {
                let tensor = executable.tensor(name)?;
                match values {
                    Values::Floats(values) => tensor.write_f32(values)?,
                    Values::Words(values) => tensor.write_u32(values)?,
                }
            }
            let [first, second] = POISONS.map(|poison| run_poisoned(&executable, poison));
            let (first, second) = (first?, second?);
            assert_eq!(first, second, "two runs from different poison differ:\n{}", executable.plan());
            results.push((result.shape, result.dtype, first));
        }
        Ok(results)
    };
    results().unwrap_or_else(|e| panic!("{:?}: {e}", gpu.target().tier))
}

/// The plan with the first candidate of every dispatch, with the second of all that have two, and so on.
fn ways(plan: &Plan) -> impl Iterator<Item = Plan> {
    let most = plan.choices.values().map(|choices| choices.candidates.len()).max().unwrap_or(1);
    (0..most).map(|way| {
        let mut tuning = Tuning::default();
        for choices in plan.choices.values() {
            let candidate = &choices.candidates[way % choices.candidates.len()];
            tuning.set(&*choices.class, &*candidate.name);
        }
        plan.clone().tuned(&tuning)
    })
}

fn run_poisoned(executable: &Executable, poison: u32) -> Result<Vec<u8>, KernelError> {
    executable.poison(poison)?;
    executable.run()?;
    let bytes = executable.tensor(RESULT)?.read_raw()?;
    assert!(executable.guards_intact(poison)?, "a write past a tensor:\n{}", executable.plan());
    Ok(bytes)
}

/// The channels of each row without their padding, which must be zero.
fn unpadded(shape: Shape, dtype: DType, bytes: &[u8]) -> Vec<f32> {
    let values: Vec<f32> = match dtype {
        DType::F16 => {
            bytemuck::pod_collect_to_vec::<u8, half::f16>(bytes).into_iter().map(half::f16::to_f32).collect()
        }
        _ => bytemuck::pod_collect_to_vec(bytes),
    };
    let rows = values.chunks_exact(shape.pitch() as usize).map(|row| row.split_at(shape.c as usize));
    rows.flat_map(|(row, padding)| {
        assert!(padding.iter().all(|&v| v == 0.0), "padding channels are {padding:?}");
        row
    })
    .copied()
    .collect()
}

/// Fails where a value is farther from the reference than its bound.
pub fn assert_close(what: &str, got: &[f32], want: &[f64], bound: impl Fn(usize) -> f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (ix, (&g, &w)) in got.iter().zip(want).enumerate() {
        let bound = bound(ix);
        // A NaN is not below the bound.
        assert!((f64::from(g) - w).abs() <= bound, "{what} at {ix}: expected {w} ± {bound:.2e}, got {g}");
    }
}

/// Error of storing `y`: half a step of f16 and of its subnormals, doubled because drivers may
/// truncate, or a few steps of f32.
pub fn rounding(dtype: DType, y: f64) -> f64 {
    match dtype {
        DType::F16 => y.abs() / 1024.0 + 6e-8,
        _ => y.abs() * 4.8e-7 + 1e-30,
    }
}

pub fn to_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// Seeded numbers (PCG-XSH-RR, O'Neill 2014).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_add(0x14057b7ef767814f));
        random.word();
        random
    }
    pub fn word(&mut self) -> u32 {
        let state = self.0;
        self.0 = state.wrapping_mul(0x5851f42d4c957f2d).wrapping_add(0x14057b7ef767814f);
        let shifted = (((state >> 18) ^ state) >> 27) as u32;
        shifted.rotate_right((state >> 59) as u32)
    }
    /// Evenly from `from` to `to`, rounded to f16 so that every storage holds the same value.
    pub fn between(&mut self, from: f32, to: f32) -> f32 {
        let unit = self.word() as f32 / u32::MAX as f32;
        half::f16::from_f32(from + (to - from) * unit).to_f32()
    }
    /// `count` values between −1 and 1 that f16 holds exactly.
    pub fn halves(&mut self, count: usize) -> Vec<f32> {
        self.range(count, -1.0, 1.0)
    }
    /// `count` values between `from` and `to` that f16 holds exactly.
    pub fn range(&mut self, count: usize, from: f32, to: f32) -> Vec<f32> {
        (0..count).map(|_| self.between(from, to)).collect()
    }
}
