//! One candidate of a class, ready to run.

use std::collections::BTreeSet;

use super::Job;
use crate::choice::{Bound, Candidate, Choices};
use crate::counters::Clock;
use crate::error::KernelError;
use crate::exec::{Executable, GpuTensor, WeightCache};
use crate::gpu::Gpu;
use crate::plan::PlanBuilder;
use crate::submit::Submission;
use crate::tensor::DType;
use crate::weight::WeightSource;

/// Shortest time that a sample takes, in milliseconds: beside it, handing work to the device is little.
const SAMPLE_MS: f64 = 20.0;
/// Bytes of weights that copies take turns with: more than caches hold.
const ROTATED_BYTES: u64 = 64 << 20;
/// Most copies of the weights.
const MAX_COPIES: u64 = 8;

/// A candidate, once for each copy of its weights.
pub(super) struct Trial {
    gpu: Gpu,
    copies: Vec<Executable>,
    outputs: Vec<GpuTensor>,
    /// Milliseconds of one run, by the first ones.
    guess_ms: f64,
    next: usize,
}

/// Tensors that the candidates of a class bind.
pub(super) fn tensors(choices: &Choices) -> impl Iterator<Item = u32> {
    let bindings = choices.candidates.iter().flat_map(|candidate| &candidate.bindings);
    let ids: BTreeSet<u32> = bindings
        .filter_map(|(_, bound, _)| match bound {
            Bound::Tensor(id) => Some(*id),
            Bound::Weight(_) => None,
        })
        .collect();
    ids.into_iter()
}

/// Name of a tensor of the trial's plan.
fn name(id: u32) -> String {
    format!("tensor{id}")
}

/// What the candidates read: random values, the same on every run. All are positive where they are sums of squares.
pub(super) fn inputs(gpu: &Gpu, job: &Job) -> Result<Vec<(String, GpuTensor)>, KernelError> {
    let mut inputs = Vec::new();
    for (binding, bound, is_written) in &job.choices.candidates[0].bindings {
        let Bound::Tensor(id) = bound else { continue };
        let (shape, dtype) = job.values[id];
        if *is_written || dtype == DType::U32 || inputs.iter().any(|(other, _)| *other == name(*id)) {
            continue;
        }
        let tensor = GpuTensor::new(gpu, shape, dtype)?;
        let mut values = Random::of(&name(*id)).values(shape.elements() as usize);
        if binding.starts_with("statistics") {
            values.iter_mut().for_each(|v| *v = 1.0 + 0.5 * *v);
        }
        tensor.write_f32(&values)?;
        inputs.push((name(*id), tensor));
    }
    Ok(inputs)
}

impl Trial {
    /// Prepares candidate `ix` and runs it once.
    ///
    /// # Errors
    /// [`KernelError::Compile`], [`KernelError::Limit`], [`KernelError::OutOfMemory`], [`KernelError::Device`],
    /// [`KernelError::DeviceLost`].
    pub(super) fn new(
        gpu: &Gpu,
        job: &Job,
        ix: usize,
        inputs: &[(String, GpuTensor)],
        clock: Clock,
    ) -> Result<Self, KernelError> {
        let candidate = &job.choices.candidates[ix];
        let (plan, written) = plan(gpu, job, candidate)?;
        let bytes = plan.weight_bytes();
        let count = ROTATED_BYTES.checked_div(bytes).map_or(1, |times| (times + 1).min(MAX_COPIES));
        let cache = WeightCache::default();
        let mut shared: Vec<(&str, GpuTensor)> =
            inputs.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
        let first = Executable::new(gpu, plan.clone(), &Generator, &cache, &shared)?;
        let outputs = written.iter().map(|name| first.tensor(name)).collect::<Result<Vec<_>, _>>()?;
        shared.extend(written.iter().map(String::as_str).zip(outputs.iter().cloned()));
        let mut copies = vec![first];
        for _ in 1..count {
            copies.push(Executable::new(gpu, plan.clone(), &Generator, &cache.twin(gpu)?, &shared)?);
        }
        let mut trial = Self { gpu: gpu.clone(), copies, outputs, guess_ms: 0.0, next: 0 };
        trial.run(1, clock)?;
        trial.guess_ms = trial.run(1, clock)?;
        Ok(trial)
    }
    /// What it computed.
    pub(super) fn results(&self) -> Result<Vec<Vec<f32>>, KernelError> {
        self.outputs.iter().map(GpuTensor::read_f32).collect()
    }
    /// Largest relative L2 difference of a result from what is expected; infinite where a value is not finite.
    pub(super) fn error(&self, expected: &[Vec<f32>]) -> Result<f64, KernelError> {
        let squared = |v: f32| f64::from(v).powi(2);
        let errors = self.results()?.into_iter().zip(expected).map(|(got, want)| {
            let off: f64 = got.iter().zip(want).map(|(g, w)| squared(g - w)).sum();
            let all: f64 = want.iter().map(|w| squared(*w)).sum();
            let error = (off / all.max(f64::MIN_POSITIVE)).sqrt();
            if error.is_nan() { f64::INFINITY } else { error }
        });
        Ok(errors.fold(0.0, f64::max))
    }
    /// Milliseconds of a run, over as many as a sample needs.
    pub(super) fn sample(&mut self, clock: Clock) -> Result<f64, KernelError> {
        let times = (SAMPLE_MS / self.guess_ms.max(1e-3)).ceil().clamp(1.0, 1000.0) as usize;
        let ms = self.run(times, clock)?;
        self.guess_ms = ms;
        Ok(ms)
    }
    /// Milliseconds a run of `times`, the copies in turns.
    fn run(&mut self, times: usize, clock: Clock) -> Result<f64, KernelError> {
        let mut submission = Submission::new(&self.gpu);
        for _ in 0..times {
            submission.run(&self.copies[self.next])?;
            self.next = (self.next + 1) % self.copies.len();
        }
        let begun = clock();
        submission.submit()?.wait()?;
        Ok((clock() - begun).as_secs_f64() * 1e3 / times as f64)
    }
}

/// A plan of the dispatch alone, and the names of what it writes.
fn plan(gpu: &Gpu, job: &Job, candidate: &Candidate) -> Result<(crate::Plan, Vec<String>), KernelError> {
    let mut builder = PlanBuilder::new(gpu.target());
    let (mut candidate, mut written) = (candidate.clone(), Vec::new());
    let mut outputs = Vec::new();
    for (_, bound, is_written) in &mut candidate.bindings {
        let Bound::Tensor(id) = bound else { continue };
        let (shape, dtype) = job.values[id];
        let tensor = match (dtype, *is_written) {
            (DType::U32, _) => builder.counters(shape.c),
            (_, false) => builder.input(&name(*id), shape, dtype),
            (_, true) => {
                written.push(name(*id));
                let tensor = builder.slot(shape, dtype);
                outputs.push((name(*id), tensor));
                tensor
            }
        };
        *bound = tensor.into();
    }
    builder.dispatch_any("trial", job.class().into(), vec![candidate], job.flops)?;
    for (name, tensor) in outputs {
        builder.output(&name, tensor)?;
    }
    Ok((builder.finish(), written))
}

/// Random weights, by their names: as large as keeps sums near 1, and scales around 1.
struct Generator;

impl WeightSource for Generator {
    fn read(&self, name: &str, shape: &[u32]) -> Result<Vec<f32>, KernelError> {
        let count = shape.iter().map(|&d| d as usize).product();
        let mut values = Random::of(name).values(count);
        let inputs: u32 = shape.iter().skip(1).product();
        let (offset, scale) = if shape.len() == 1 { (1.0, 0.5) } else { (0.0, (inputs as f32).powf(-0.5)) };
        values.iter_mut().for_each(|v| *v = offset + scale * *v);
        Ok(values)
    }
}

/// Numbers in -1..1 (PCG-XSH-RR, O'Neill 2014).
struct Random(u64);

impl Random {
    fn of(name: &str) -> Self {
        // FNV-1a: the same on every run.
        let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(seed)
    }
    fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }
    fn next(&mut self) -> f32 {
        let old = self.0;
        self.0 = old.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let word = ((((old >> 18) ^ old) >> 27) as u32).rotate_right((old >> 59) as u32);
        word as f32 / 2_147_483_648.0 - 1.0
    }
}
