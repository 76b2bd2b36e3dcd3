//! Clean latents of streams against formulas, and stream batches against all steps at once.

use std::time::Instant;

use dreamglass_engine::params::{Batching, GuidanceMode};
use dreamglass_engine::{Engine, Params, Size};

use crate::straight::Straight;
use crate::world::{self, World, distance, moving};

/// Both sides run the same networks in f32 on samples that differ by their rounding: 1e-6 to 1e-5
/// where steps divide by α and carry a residual noise along. A δ of 1 instead of 0.9 is 7e-3.
const TOLERANCE: f64 = 1e-4;

/// 6 × 5 latents: odd on one side, so that halves do not fit.
const SIZE: Size = Size::new(48, 40);

/// Guidance that has an effect, with a weight of its own for each mode.
fn guided(mode: GuidanceMode) -> Params {
    let (guidance, guidance_delta) = match mode {
        GuidanceMode::None => (1.0, 1.0),
        GuidanceMode::SelfNegative => (1.4, 0.9),
        GuidanceMode::Initialize => (1.2, 1.1),
        GuidanceMode::Full => (1.8, 1.0),
    };
    Params { guidance: Some(guidance), guidance_delta, guidance_mode: mode, ..world::params(SIZE) }
}

/// The clean latents after each of the frames' jobs.
fn latents(engine: &Engine, params: &Params, frames: u64) -> Vec<Vec<f64>> {
    let mut world = World::new(engine, params.clone());
    let latents = |at| {
        world.show(moving(SIZE, at));
        world.latents()
    };
    (0..frames).map(latents).collect()
}

/// The largest distance of `ours` to `truth`, job by job.
fn worst(what: &str, ours: &[Vec<f64>], truth: &[Vec<f64>]) -> f64 {
    assert_eq!(ours.len(), truth.len(), "{what}");
    let mut worst = 0f64;
    for (job, (ours, truth)) in ours.iter().zip(truth).enumerate() {
        let distance = distance(ours, truth);
        assert!(distance <= TOLERANCE, "{what}, job {job}: {distance:.2e}");
        worst = worst.max(distance);
    }
    // Different frames have different results: equal ones would compare nothing.
    let motion = distance(&truth[0], &truth[1]);
    assert!(motion > 100.0 * TOLERANCE, "{what}: frames move by {motion:.1e} only");
    worst
}

/// Both ways of spreading steps over frames against the formulas, and against each other.
fn check(engine: &Engine, params: &Params, is_velocity: bool) {
    check_steps(engine, params, is_velocity, params.steps.unwrap() as usize);
}

/// The same, of parameters that leave `n` steps.
fn check_steps(engine: &Engine, params: &Params, is_velocity: bool, n: usize) {
    let began = Instant::now();
    let straight = Straight::new(engine, params, is_velocity);
    let count = n as u64 + 3;
    let pictures: Vec<_> = (0..count).map(|at| moving(SIZE, at)).collect();
    let frames = straight.encode(&pictures);
    let name = format!("{:?} {n} steps", params.guidance_mode);

    let sequential = latents(engine, &Params { batching: Batching::Latency, ..params.clone() }, count);
    let a = worst(&format!("{name}, latency"), &sequential, &straight.sequence(&frames));
    let batched = latents(engine, &Params { batching: Batching::Throughput, ..params.clone() }, count);
    // Before the batch is full its last row holds no frame.
    let b = worst(&format!("{name}, throughput"), &batched[n - 1..], &straight.batch(&frames)[n - 1..]);
    let mut c = 0.0;
    if params.feedback == 0.0 {
        c = worst(&format!("{name}, both"), &batched[n - 1..], &sequential[..=count as usize - n]);
    }
    // Shown with --nocapture.
    eprintln!("{name}: latency {a:.1e} throughput {b:.1e} between {c:.1e}, {:?}", began.elapsed());
}

fn one_to_four_steps(mode: GuidanceMode) {
    let engine = world::engine(&world::gpu(), world::LCM);
    for steps in 1..=4 {
        check(&engine, &Params { steps: Some(steps), ..guided(mode) }, false);
    }
}

#[test]
fn lcm_without_guidance() {
    one_to_four_steps(GuidanceMode::None);
}

#[test]
fn lcm_guided_by_the_residual_noise() {
    one_to_four_steps(GuidanceMode::SelfNegative);
}

#[test]
fn lcm_guided_by_one_negative_row() {
    one_to_four_steps(GuidanceMode::Initialize);
}

#[test]
fn lcm_guided_by_the_negative_prompt() {
    one_to_four_steps(GuidanceMode::Full);
}

const MODES: [GuidanceMode; 4] =
    [GuidanceMode::None, GuidanceMode::SelfNegative, GuidanceMode::Initialize, GuidanceMode::Full];

#[test]
fn velocity_in_every_mode() {
    let engine = world::engine(&world::gpu(), world::VELOCITY);
    for mode in MODES {
        check(&engine, &Params { steps: Some(3), strength: Some(0.5), ..guided(mode) }, true);
    }
}

#[test]
fn euler_in_every_mode() {
    let engine = world::engine(&world::gpu(), world::EULER);
    for mode in MODES {
        // Four steps without the noisiest, which hardly sees its frame.
        check_steps(&engine, &Params { steps: Some(4), strength: Some(0.75), ..guided(mode) }, false, 3);
    }
}

#[test]
fn feedback_mixes_the_last_clean_latents_in() {
    let engine = world::engine(&world::gpu(), world::LCM);
    let cases = [(1, GuidanceMode::None), (2, GuidanceMode::SelfNegative), (3, GuidanceMode::Full)];
    for (steps, mode) in cases {
        check(&engine, &Params { steps: Some(steps), feedback: 0.4, ..guided(mode) }, false);
    }
}
