//! Choices among kernels: what tuning measures, and what never wins.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use dreamglass_kernels::choice::Tuning;
use dreamglass_kernels::exec::{Executable, WeightCache};
use dreamglass_kernels::gpu::{Gpu, GpuOptions};
use dreamglass_kernels::ops::{Attention, Conv2d, Linear};
use dreamglass_kernels::tune::{Job, Timing};
use dreamglass_kernels::{DType, KernelError, Param, Plan, PlanBuilder, Shape, Target, Tier};

use crate::checks::Noise;
use crate::harness::{Random, own_device};

/// Time since the first call.
fn clock() -> Duration {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    BEGUN.get_or_init(Instant::now).elapsed()
}

/// A convolution, a linear layer behind its result and attention of that.
fn plan(target: Target) -> Plan {
    let record = || -> Result<Plan, KernelError> {
        let mut plan = PlanBuilder::new(target);
        let x = plan.input("x", Shape::new(1, 16, 16, 32), DType::F32);
        let bias = Some(Param::new("conv.bias", &[96]));
        let h = Conv2d { bias, ..Conv2d::new(x, Param::new("conv.weight", &[96, 32, 3, 3])) }
            .record(&mut plan)?;
        let h = Linear::new(h, Param::new("linear.weight", &[96, 96])).record(&mut plan)?;
        let y = Attention::new(h, h, h, 2).record(&mut plan)?;
        plan.output("y", y)?;
        Ok(plan.finish())
    };
    record().unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn every_candidate_is_timed_and_the_best_one_is_used() {
    let gpu = own_device();
    let plan = plan(gpu.target());
    let jobs = Job::of([&plan, &plan]);
    assert_eq!(jobs.len(), 3);
    let work: Vec<u64> = jobs.iter().map(|job| job.flops * job.count as u64).collect();
    assert!(work.is_sorted_by(|a, b| a >= b) && jobs.iter().all(|job| job.count == 2), "{work:?}");
    let mut tuning = Tuning::default();
    for job in &jobs {
        let outcome = job.measure(&gpu, clock, &|| false).unwrap_or_else(|e| panic!("{}: {e}", job.class()));
        let outcome = outcome.unwrap_or_else(|| panic!("{} was cancelled", job.class()));
        let names: Vec<&str> = outcome.timings.iter().map(|(name, _)| name.as_str()).collect();
        assert!(names.iter().copied().eq(job.candidates()), "{names:?}");
        for (name, timing) in &outcome.timings {
            assert!(
                matches!(timing, Timing::Took(ms) | Timing::Behind(ms) if *ms > 0.0),
                "{}, {name}: {timing}",
                job.class()
            );
        }
        // The fastest of those that ran to the end; how fast is the machine's affair.
        let (best, ms) = outcome.ranked(0).unwrap_or_else(|| panic!("{outcome:?}"));
        let mut others = (1..outcome.ranking.len()).filter_map(|place| outcome.ranked(place));
        assert!(others.all(|(_, other)| ms <= other / 0.9), "{outcome:?}");
        tuning.set(job.class(), best);
    }
    gpu.set_tuning(tuning.clone());
    let used = plan.tuned(&gpu.tuning());
    for choices in used.choices.values() {
        assert_eq!(tuning.get(&choices.class), Some(&*choices.candidates[choices.chosen].name));
    }
}

/// Candidate `ix` of the only class with a convolution, with another immediate or another kernel.
fn spoiled(plan: &Plan, spoil: impl Fn(&mut dreamglass_kernels::choice::Candidate)) -> Job {
    let mut plan = plan.clone();
    let choices = plan.choices.get_mut(&0).unwrap_or_else(|| panic!("no choice"));
    assert!(choices.candidates.len() > 1, "{choices:?}");
    spoil(&mut choices.candidates[1]);
    let class = choices.class.clone();
    Job::of([&plan]).into_iter().find(|job| job.class() == class).unwrap_or_else(|| panic!("{class}"))
}

#[test]
fn what_is_wrong_or_fails_never_wins() {
    let gpu = own_device();
    let plan = plan(gpu.target());
    let measure = |job: Job| match job.measure(&gpu, clock, &|| false) {
        Ok(Some(outcome)) => outcome,
        other => panic!("{other:?}"),
    };
    // Half of the channels are left out, and no such kernel.
    let wrong = measure(spoiled(&plan, |candidate| candidate.immediates[4] /= 2));
    let failed = measure(spoiled(&plan, |candidate| candidate.variant.stem = "no_kernel"));
    assert!(matches!(wrong.timings[1].1, Timing::Wrong(error) if error > 0.1), "{wrong:?}");
    assert!(matches!(&failed.timings[1].1, Timing::Failed(why) if why.contains("no_kernel")), "{failed:?}");
    for outcome in [wrong, failed] {
        assert!(!outcome.ranking.contains(&1) && outcome.ranked(0).is_some(), "{outcome:?}");
    }
    let job = Job::of([&plan]).remove(0);
    assert_eq!(job.measure(&gpu, clock, &|| true), Ok(None), "cancelled");
}

#[test]
fn unknown_choices_change_nothing_and_weights_follow_the_candidate() {
    let plan = plan(Target::lane(8));
    let mut tuning = Tuning::default();
    tuning.set("no such class", "lane 32x96 by 8");
    let class = plan.choices[&0].class.clone();
    tuning.set(&*class, "no such candidate");
    let same = plan.clone().tuned(&tuning);
    assert_eq!((&same.dispatches, &same.weights), (&plan.dispatches, &plan.weights));

    let other = plan.choices[&0].candidates.last().unwrap_or_else(|| panic!("{plan:?}")).clone();
    tuning.set(&*class, &*other.name);
    let tuned = plan.clone().tuned(&tuning);
    assert_eq!(tuned.dispatches[0].variant, other.variant);
    assert_eq!(tuned.weights.len(), plan.weights.len(), "the first guess's are dropped");
    assert_ne!(tuned.weights, plan.weights, "another register tile wants other panels");
    // And back again.
    tuning.set(&*class, &*plan.choices[&0].candidates[0].name);
    assert_eq!(tuned.tuned(&tuning).dispatches, plan.dispatches);
}

/// A convolution whose reduction is long beside what it makes, on the tier of GPUs.
fn long_convolution(runtime_checks: bool) -> (Gpu, Plan) {
    let options = GpuOptions { runtime_checks, tier: Some(Tier::Tile), ..GpuOptions::default() };
    let gpu = Gpu::open(&options).unwrap_or_else(|e| panic!("these tests need an adapter: {e}"));
    let record = || -> Result<Plan, KernelError> {
        let mut plan = PlanBuilder::new(gpu.target());
        let x = plan.input("x", Shape::new(1, 4, 4, 256), DType::F16);
        let y = Conv2d::new(x, Param::new("long.weight", &[160, 256, 3, 3])).record(&mut plan)?;
        plan.output("y", y)?;
        Ok(plan.finish())
    };
    let plan = record().unwrap_or_else(|e| panic!("{e}"));
    (gpu, plan)
}

#[test]
fn slices_of_a_reduction_are_timed_like_other_ways() {
    let (gpu, plan) = long_convolution(true);
    let job = Job::of([&plan]).remove(0);
    let outcome = match job.measure(&gpu, clock, &|| false) {
        Ok(Some(outcome)) => outcome,
        other => panic!("{other:?}"),
    };
    // 2304 values: two and four slices of 512 and more.
    let slices = |count: &str| outcome.timings.iter().filter(|(name, _)| name.ends_with(count)).count();
    assert!(slices(" in 2") > 0 && slices(" in 4") > 0 && slices(" in 8") == 0, "{outcome:?}");
    for (name, timing) in &outcome.timings {
        assert!(matches!(timing, Timing::Took(_) | Timing::Behind(_)), "{name}: {timing}");
    }
    assert!(!outcome.timings[0].0.contains(" in "), "{outcome:?}");
}

/// What a hundred runs of [`long_convolution`] in four slices give.
fn sliced(runtime_checks: bool) -> Vec<Vec<u8>> {
    let (gpu, plan) = long_convolution(runtime_checks);
    let mut tuning = Tuning::default();
    let choices = &plan.choices[&0];
    let cut = choices.candidates.iter().rev().find(|c| c.name.ends_with(" in 4"));
    tuning.set(&*choices.class, &*cut.unwrap_or_else(|| panic!("{choices:?}")).name);
    let runs = || -> Result<Vec<Vec<u8>>, KernelError> {
        let plan = plan.clone().tuned(&tuning);
        let executable = Executable::new(&gpu, plan, &Noise, &WeightCache::default(), &[])?;
        executable.tensor("x")?.write_f32(&Random::new(5).halves(4 * 4 * 256))?;
        let run = || {
            executable.run()?;
            executable.tensor("y")?.read_raw()
        };
        (0..100).map(|_| run()).collect()
    };
    runs().unwrap_or_else(|e| panic!("{e}"))
}

/// Whichever workgroup is the last to be done, slices are added up in their order; with the shaders' runtime checks and
/// without.
#[test]
fn slices_are_added_up_to_the_same_bits_every_time() {
    let runs = [true, false].map(sliced).concat();
    assert!(runs[0].iter().any(|byte| *byte != 0) && runs.iter().all(|run| *run == runs[0]));
}
