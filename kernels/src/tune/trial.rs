//! One candidate of a class, ready to run.

use std::collections::BTreeSet;
use std::ops::Range;

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
    for (binding, bound, is_written) in &mut candidate.bindings {
        let Bound::Tensor(id) = bound else { continue };
        let (shape, dtype) = job.values[id];
        let tensor = match (dtype, *is_written) {
            (DType::U32, _) => builder.counters(shape.c),
            (_, false) => builder.input(&name(*id), shape, dtype),
            // Not every candidate has them, and they are nothing that others could be compared with.
            (_, true) if *binding == "sums" => builder.slot(shape, dtype),
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
        let rows = shape.first().map_or(1, |&d| d as usize);
        let row: usize = shape.iter().skip(1).map(|&d| d as usize).product();
        let mut values = Vec::new();
        self.read_block(name, shape, 0..rows, 0..row, &mut values)?;
        Ok(values)
    }
    /// Weights are packed in blocks: each makes its own values only.
    fn read_block(
        &self,
        name: &str,
        shape: &[u32],
        rows: Range<usize>,
        columns: Range<usize>,
        values: &mut Vec<f32>,
    ) -> Result<(), KernelError> {
        let row: usize = shape.iter().skip(1).map(|&d| d as usize).product();
        let (offset, scale) = if shape.len() == 1 { (1.0, 0.5) } else { (0.0, (row as f32).powf(-0.5)) };
        for ix in rows {
            let mut random = Random::of(name).behind((ix * row + columns.start) as u64);
            values.extend(columns.clone().map(|_| offset + scale * random.next()));
        }
        Ok(())
    }
}

/// A step of [`Random`].
const FACTOR: u64 = 6_364_136_223_846_793_005;
const TERM: u64 = 1_442_695_040_888_963_407;

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
    /// The generator `count` numbers later (Brown 1994: the step, squared for each bit of the count).
    fn behind(mut self, mut count: u64) -> Self {
        let (mut factor, mut term) = (FACTOR, TERM);
        while count > 0 {
            if count & 1 == 1 {
                self.0 = self.0.wrapping_mul(factor).wrapping_add(term);
            }
            term = term.wrapping_mul(factor.wrapping_add(1));
            factor = factor.wrapping_mul(factor);
            count >>= 1;
        }
        self
    }
    fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }
    fn next(&mut self) -> f32 {
        let old = self.0;
        self.0 = old.wrapping_mul(FACTOR).wrapping_add(TERM);
        let word = ((((old >> 18) ^ old) >> 27) as u32).rotate_right((old >> 59) as u32);
        word as f32 / 2_147_483_648.0 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_cut_from_the_same_weights() -> Result<(), KernelError> {
        let shape = [5, 7, 3, 3];
        let whole = Generator.read("w", &shape)?;
        let sequence: Vec<f32> =
            Random::of("w").values(5 * 63).iter().map(|v| v * 63_f32.powf(-0.5)).collect();
        assert_eq!(whole, sequence);
        let mut block = Vec::new();
        Generator.read_block("w", &shape, 2..5, 9..20, &mut block)?;
        let expected: Vec<f32> = (2..5).flat_map(|row| whole[row * 63..][9..20].to_vec()).collect();
        assert_eq!(block, expected);
        Ok(())
    }
}
