//! Which way to do a dispatch is fastest on a device, by trying all of them.
//!
//! A [`Job`] is a class of dispatches that plans hold, alone and on random values. [`Job::measure`] times its
//! candidates in turns, those that fall behind fewer times, on copies of the weights that take turns too, so that
//! caches hold no more than they would in a frame. A candidate whose result differs from the portable kernel's
//! never wins.

mod trial;

use std::collections::BTreeMap;
use std::fmt;

use crate::choice::Choices;
use crate::counters::Clock;
use crate::error::KernelError;
use crate::gpu::Gpu;
use crate::plan::Plan;
use crate::tensor::{DType, Shape};
use trial::Trial;

/// Rounds in which every candidate that is left runs once.
const ROUNDS: usize = 7;
/// How many times as long as the best a candidate may take to stay, after so many rounds.
const BEHIND: [(usize, f64); 2] = [(2, 1.3), (4, 1.08)];
/// How much of the first guess's time another candidate has to save.
const GAIN: f64 = 0.03;

/// A class of dispatches to be tuned.
#[derive(Debug, Clone)]
pub struct Job {
    choices: Choices,
    /// Tensors that the dispatch meets, by id.
    values: BTreeMap<u32, (Shape, DType)>,
    /// How many dispatches of the class there are.
    pub count: usize,
    /// Floating-point operations of one.
    pub flops: u64,
}

/// How a candidate did.
#[derive(Debug, Clone, PartialEq)]
pub enum Timing {
    /// Median of its runs, in milliseconds a dispatch.
    Took(f64),
    /// The same, of a candidate that fell behind and was not run any more.
    Behind(f64),
    /// Its result is not that of the portable kernel: relative L2 error.
    Wrong(f64),
    /// The device could not do it.
    Failed(String),
}

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Took(ms) => write!(f, "{ms:.4} ms"),
            Self::Behind(ms) => write!(f, "{ms:.4} ms, behind"),
            Self::Wrong(error) => write!(f, "wrong by {error:.1e}"),
            Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// What trying all candidates of a class gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Names and timings, the first guess first.
    pub timings: Vec<(String, Timing)>,
    /// Places of those that were right and ran to the end, the best first. The first guess comes before what is
    /// hardly faster.
    pub ranking: Vec<usize>,
}

impl Outcome {
    /// Name and milliseconds of a place in the ranking.
    pub fn ranked(&self, place: usize) -> Option<(&str, f64)> {
        let (name, timing) = &self.timings[*self.ranking.get(place)?];
        match timing {
            Timing::Took(ms) => Some((name, *ms)),
            _ => None,
        }
    }
    /// Milliseconds of the first guess, where it ran at all.
    pub fn first_guess_ms(&self) -> Option<f64> {
        match self.timings.first()?.1 {
            Timing::Took(ms) | Timing::Behind(ms) => Some(ms),
            _ => None,
        }
    }
    fn new(timings: Vec<(String, Timing)>) -> Self {
        let mut ranked: Vec<(f64, usize)> = Vec::new();
        for (ix, (_, timing)) in timings.iter().enumerate() {
            if let Timing::Took(ms) = timing {
                ranked.push((if ix == 0 { ms * (1.0 - GAIN) } else { *ms }, ix));
            }
        }
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        Self { timings, ranking: ranked.into_iter().map(|(_, ix)| ix).collect() }
    }
}

impl Job {
    /// The classes of `plans` that there is a choice for, those with the most work first.
    pub fn of<'a>(plans: impl IntoIterator<Item = &'a Plan>) -> Vec<Self> {
        let mut jobs: Vec<Self> = Vec::new();
        for plan in plans {
            for (ix, choices) in plan.choices.iter().filter(|(_, choices)| choices.candidates.len() > 1) {
                match jobs.iter_mut().find(|job| job.choices.class == choices.class) {
                    Some(job) => job.count += 1,
                    None => jobs.push(Self::new(plan, *ix, choices)),
                }
            }
        }
        jobs.sort_by_key(|job| std::cmp::Reverse(job.flops * job.count as u64));
        jobs
    }
    fn new(plan: &Plan, ix: usize, choices: &Choices) -> Self {
        let values = trial::tensors(choices).map(|id| {
            let value = &plan.values[id as usize];
            (id, (value.shape, value.dtype))
        });
        let choices = Choices { chosen: 0, ..choices.clone() };
        Self { values: values.collect(), choices, count: 1, flops: plan.dispatches[ix].flops }
    }
    /// What is computed; see [`Choices::class`].
    pub fn class(&self) -> &str {
        &self.choices.class
    }
    /// Names of the candidates, the first guess first.
    pub fn candidates(&self) -> impl Iterator<Item = &str> {
        self.choices.candidates.iter().map(|candidate| candidate.name.as_str())
    }
    /// Times every candidate on `gpu` by `clock`, unless `is_cancelled` says to stop: then there is no outcome. What fails
    /// on the device fails its candidate only, as long as the device is not lost.
    ///
    /// # Errors
    /// [`KernelError::DeviceLost`]; what the portable kernel fails with, as there is nothing to compare with then.
    pub fn measure(
        &self,
        gpu: &Gpu,
        clock: Clock,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Option<Outcome>, KernelError> {
        let portable = self.choices.portable();
        let inputs = trial::inputs(gpu, self)?;
        let reference = Trial::new(gpu, self, portable, &inputs, clock)?;
        let expected = reference.results()?;
        let mut failures: BTreeMap<usize, Timing> = BTreeMap::new();
        let mut trials: Vec<(usize, Trial)> = vec![(portable, reference)];
        for ix in (0..self.choices.candidates.len()).filter(|ix| *ix != portable) {
            if is_cancelled() {
                return Ok(None);
            }
            match Trial::new(gpu, self, ix, &inputs, clock).and_then(|t| Ok((t.error(&expected)?, t))) {
                Ok((error, trial)) if error <= self.tolerance() => trials.push((ix, trial)),
                Ok((error, _)) => drop(failures.insert(ix, Timing::Wrong(error))),
                Err(error @ KernelError::DeviceLost { .. }) => return Err(error),
                Err(error) => drop(failures.insert(ix, Timing::Failed(error.to_string()))),
            }
        }
        trials.sort_by_key(|(ix, _)| *ix);
        let Some(mut timings) = race(&mut trials, clock, is_cancelled)? else { return Ok(None) };
        timings.append(&mut failures);
        let names = self.candidates().map(str::to_owned);
        Ok(Some(Outcome::new(names.zip(timings.into_values()).collect())))
    }
    /// Largest relative L2 difference from the portable kernel: rounding of stored results, and sums in another
    /// order.
    fn tolerance(&self) -> f64 {
        let is_half = self.values.values().any(|(_, dtype)| *dtype == DType::F16);
        if is_half { 3e-3 } else { 1e-4 }
    }
}

impl Choices {
    /// The first candidate without matrix units, whose results others are compared with.
    fn portable(&self) -> usize {
        self.candidates.iter().position(|c| !c.variant.stem.ends_with("_coop")).unwrap_or(0)
    }
}

/// Runs candidates in turns; those that fall behind drop out.
fn race(
    trials: &mut [(usize, Trial)],
    clock: Clock,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<Option<BTreeMap<usize, Timing>>, KernelError> {
    let mut samples: Vec<Vec<f64>> = vec![Vec::new(); trials.len()];
    let mut is_behind = vec![false; trials.len()];
    for round in 1..=ROUNDS {
        for ((_, trial), samples) in
            trials.iter_mut().zip(&mut samples).zip(&is_behind).filter(|(_, b)| !**b).map(|(t, _)| t)
        {
            if is_cancelled() {
                return Ok(None);
            }
            samples.push(trial.sample(clock)?);
        }
        let Some((_, times)) = BEHIND.iter().find(|(after, _)| *after == round) else { continue };
        let fastest = |samples: &Vec<f64>| samples.iter().copied().fold(f64::INFINITY, f64::min);
        let best = samples.iter().map(fastest).fold(f64::INFINITY, f64::min);
        for (is_behind, samples) in is_behind.iter_mut().zip(&samples) {
            *is_behind |= fastest(samples) > times * best;
        }
    }
    let timings = trials.iter().zip(samples).zip(is_behind).map(|(((ix, _), mut samples), is_behind)| {
        samples.sort_by(f64::total_cmp);
        let median = samples[samples.len() / 2];
        (*ix, if is_behind { Timing::Behind(median) } else { Timing::Took(median) })
    });
    Ok(Some(timings.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_guess_stays_unless_another_saves_enough() {
        let outcome = |times: [f64; 3]| {
            let named = |(ix, ms): (usize, f64)| (ix.to_string(), Timing::Took(ms));
            Outcome::new(times.into_iter().enumerate().map(named).collect())
        };
        assert_eq!(outcome([1.0, 0.98, 1.5]).ranking, [0, 1, 2]);
        assert_eq!(outcome([1.0, 0.9, 0.8]).ranking, [2, 1, 0]);
        assert_eq!(outcome([1.0, 0.9, 0.8]).ranked(0), Some(("2", 0.8)));
    }

    #[test]
    fn what_is_wrong_or_fell_behind_is_not_ranked() {
        let timings =
            [Timing::Wrong(0.1), Timing::Took(2.0), Timing::Behind(3.0), Timing::Failed("no".into())];
        let outcome = Outcome::new(timings.into_iter().map(|t| (t.to_string(), t)).collect());
        assert_eq!((outcome.ranking.as_slice(), outcome.first_guess_ms()), (&[1][..], None));
    }
}
