//! Timestamps: spans in order, complete, and about as long together as the whole.

use std::time::Instant;

use dreamglass_kernels::exec::{Executable, WeightCache};
use dreamglass_kernels::gpu::Gpu;
use dreamglass_kernels::ops::{Conv2d, Linear};
use dreamglass_kernels::profile::{Detail, Profiler, Span};
use dreamglass_kernels::submit::Submission;
use dreamglass_kernels::{DType, KernelError, Param, Plan, PlanBuilder, Shape, WeightSource};

use crate::harness::own_device;

type Checked = Result<(), KernelError>;

/// Weights of one value: times do not depend on it.
struct Constant;

impl WeightSource for Constant {
    fn read(&self, _: &str, shape: &[u32]) -> Result<Vec<f32>, KernelError> {
        Ok(vec![0.01; shape.iter().product::<u32>() as usize])
    }
}

/// Dispatches of several kernels, some milliseconds each on a CPU adapter.
fn heavy(gpu: &Gpu) -> Result<Executable, KernelError> {
    let mut plan = PlanBuilder::new(gpu.target());
    let mut x = plan.input("x", Shape::new(1, 48, 48, 64), DType::F32);
    for i in 0..3 {
        plan.push_scope(format!("block{i}"));
        x = Conv2d::new(x, Param::new("conv", &[64, 64, 3, 3])).record(&mut plan)?;
        let wide = Linear::new(x, Param::new("wide", &[128, 64])).record(&mut plan)?;
        x = Linear::new(wide, Param::new("linear", &[64, 128])).record(&mut plan)?;
        plan.pop_scope();
    }
    plan.output("y", x)?;
    Executable::new(gpu, plan.finish(), &Constant, &WeightCache::default(), &[])
}

/// A profiler, or none where the adapter has no timestamps.
fn profiler(gpu: &Gpu, capacity: u32) -> Option<Profiler> {
    match Profiler::new(gpu, capacity) {
        Err(KernelError::Unsupported { .. }) => None,
        profiler => Some(profiler.unwrap_or_else(|e| panic!("{e}"))),
    }
}

fn profile(
    gpu: &Gpu,
    profiler: &mut Profiler,
    detail: Detail,
    plans: &[(&str, &Executable)],
) -> Result<Vec<Span>, KernelError> {
    let mut submission = Submission::new(gpu);
    assert!(submission.profile(profiler, detail)?);
    for (stage, plan) in plans {
        submission.stage(stage);
        submission.run(plan)?;
    }
    submission.submit()?;
    Ok(profiler.wait()?.unwrap_or_default())
}

fn total(spans: &[Span]) -> f64 {
    spans.iter().map(Span::duration_ns).sum()
}

#[test]
fn spans_of_dispatches_are_in_order_and_leave_nothing_out() -> Checked {
    let gpu = own_device();
    let Some(mut profiler) = profiler(&gpu, 40) else { return Ok(()) };
    let heavy = heavy(&gpu)?;
    let plan = heavy.plan();
    for detail in [Detail::Stages, Detail::Dispatches, Detail::Passes] {
        let (mut of_outer, mut of_wall) = (0.0f64, 0.0f64);
        for _ in 0..6 {
            let begun = Instant::now();
            let spans = profile(&gpu, &mut profiler, detail, &[("heavy", &heavy)])?;
            let wall = begun.elapsed().as_nanos() as f64;
            if detail != Detail::Stages {
                check_spans(&spans, plan);
            }
            let outer = spans[spans.len() - 1].end_ns - spans[0].start_ns;
            assert!(total(&spans) <= 1.001 * outer && outer <= wall, "{detail:?}: {outer} of {wall} ns");
            of_outer = of_outer.max(total(&spans) / outer);
            of_wall = of_wall.max(outer / wall);
        }
        // A GPU is done with this plan sooner than a pass or a wait begins.
        if !gpu.summary().is_software {
            continue;
        }
        // The best of six: the machine does other things too, between passes and before the host
        // learns of the end.
        assert!(of_outer >= 0.95, "{detail:?}: spans are {of_outer} of the whole");
        assert!(of_wall >= 0.7, "{detail:?}: spans are {of_wall} of what the host waited for");
    }
    Ok(())
}

/// One span a dispatch, one after the other.
fn check_spans(spans: &[Span], plan: &Plan) {
    assert_eq!(spans.len(), plan.dispatches.len());
    for (ix, (span, dispatch)) in spans.iter().zip(&plan.dispatches).enumerate() {
        let names = (&span.stage[..], &span.label, &span.kernel[..]);
        assert_eq!(names, ("heavy", &dispatch.label, dispatch.variant.stem));
        assert_eq!((span.flops, span.bytes), (dispatch.flops, plan.dispatch_bytes(ix)));
        assert!(span.start_ns > 0.0 && span.end_ns >= span.start_ns, "{span:?}");
    }
    assert!(spans.is_sorted_by(|a, b| a.end_ns <= b.start_ns), "{spans:#?}");
}

#[test]
fn stages_are_named_and_follow_each_other() -> Checked {
    let gpu = own_device();
    let Some(mut profiler) = profiler(&gpu, 2) else { return Ok(()) };
    let heavy = heavy(&gpu)?;
    let spans = profile(&gpu, &mut profiler, Detail::Stages, &[("first", &heavy), ("second", &heavy)])?;
    let names: Vec<(&str, &str, &str)> =
        spans.iter().map(|s| (&s.stage[..], &s.label[..], &s.kernel[..])).collect();
    assert_eq!(names, [("first", "first", ""), ("second", "second", "")]);
    for span in &spans {
        assert_eq!((span.flops, span.bytes), (heavy.plan().flops(), heavy.plan().traffic_bytes()));
    }
    assert!(spans[0].end_ns <= spans[1].start_ns, "{spans:?}");
    Ok(())
}

#[test]
fn a_profile_does_not_block_and_a_busy_profiler_measures_nothing() -> Checked {
    let gpu = own_device();
    let Some(mut profiler) = profiler(&gpu, 20) else { return Ok(()) };
    let heavy = heavy(&gpu)?;
    let before = gpu.counters();
    let mut measured = 0;
    for _ in 0..6 {
        let mut submission = Submission::new(&gpu);
        measured += usize::from(submission.profile(&mut profiler, Detail::Dispatches)?);
        submission.run(&heavy)?;
        submission.submit()?;
    }
    assert_eq!(measured, 4, "four submissions may be in flight");
    while measured > 0 {
        measured -= usize::from(profiler.poll()?.is_some());
    }
    assert_eq!(profiler.wait()?, None);
    assert_eq!((gpu.counters().waits, gpu.counters().allocations), (before.waits, before.allocations));
    Ok(())
}

#[test]
fn a_profile_with_too_little_room_is_refused() -> Checked {
    let gpu = own_device();
    let Some(mut small) = profiler(&gpu, 2) else { return Ok(()) };
    let heavy = heavy(&gpu)?;
    let mut submission = Submission::new(&gpu);
    assert!(submission.profile(&mut small, Detail::Dispatches)?);
    assert!(matches!(submission.run(&heavy), Err(KernelError::Limit { .. })));
    drop(submission);
    assert_eq!(profile(&gpu, &mut small, Detail::Stages, &[("a", &heavy)])?.len(), 1);
    assert!(matches!(Profiler::new(&gpu, 4000), Err(KernelError::Limit { .. })));
    Ok(())
}

#[test]
fn traffic_counts_every_operand_once() -> Checked {
    let mut plan = PlanBuilder::new(dreamglass_kernels::Target::tile());
    let x = plan.input("x", Shape::tokens(1, 10, 8), DType::F16);
    let y = Linear::new(x, Param::new("w", &[16, 8])).record(&mut plan)?;
    plan.output("y", y)?;
    let plan = plan.finish();
    let tensors = Shape::tokens(1, 10, 8).bytes(DType::F16) + Shape::tokens(1, 10, 16).bytes(y.dtype);
    assert_eq!(plan.dispatch_bytes(0), tensors + plan.weight_bytes());
    assert_eq!(plan.traffic_bytes(), plan.dispatch_bytes(0));
    Ok(())
}
