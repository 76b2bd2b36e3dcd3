//! What a frame costs once a stream is warm: no buffer, no kernel, no wait, and no other frame.

use dreamglass_engine::params::{Batching, GuidanceMode};
use dreamglass_engine::{Params, Size};
use dreamglass_kernels::Counters;

use crate::world::{self, World, moving};

const SIZE: Size = Size::new(40, 24);

/// A change of what needs no other plans; the strength only where no batch waits, as other timesteps
/// start a batch anew.
fn change(params: &mut Params, at: u64) {
    let has_batch = params.batching == Batching::Throughput;
    match at % 10 {
        0 => params.prompt = format!("a prompt of frame {at}"),
        2 => params.seed = at,
        3 => params.guidance = Some(if at % 20 == 3 { 1.7 } else { 1.3 }),
        4 if !has_batch => params.strength = Some(0.5 + 0.01 * at as f64 / 2.0),
        5 => params.negative = format!("what it is not at {at}"),
        6 => (params.blend_prompt, params.blend) = ("an ink drawing".into(), 0.1 + 0.01 * at as f64),
        7 => params.guidance_delta = 0.8 + 0.002 * at as f64,
        8 => (params.blend_seed, params.seed_blend) = (at, 0.3),
        9 => params.feedback = 0.1,
        _ => params.transition = 0.02,
    }
}

fn check(batching: Batching, mode: GuidanceMode, is_filtered: bool) {
    // Other tests' work on a device is counted, too.
    let engine = world::engine(&world::own_gpu(), world::LCM);
    let mut params = Params { guidance: Some(1.5), guidance_mode: mode, batching, ..world::params(SIZE) };
    (params.steps, params.smoothing, params.similarity_filter) = (Some(3), 0.2, is_filtered);
    let lag = if batching == Batching::Throughput { 2 } else { 0 };
    let mut world = World::new(&engine, params);
    for at in 0..6 {
        world.show(moving(SIZE, at));
    }
    assert_eq!(world.shown.len() as u64, 6 - lag);
    let warm = world.live.gpu().counters();
    for at in 6..66 {
        world.set(|p| change(p, at));
        let shown = world.show(moving(SIZE, at));
        let frames: Vec<_> = shown.iter().map(|o| o.output.frame).collect();
        assert_eq!(frames, [at - lag], "every frame comes out, in its turn");
        assert!(shown[0].picture.is_some() && shown[0].pixels.is_some());
    }
    let done = world.live.gpu().counters();
    let costs = |c: Counters| [c.allocations, c.allocated_bytes, c.pipelines, c.waits];
    assert_eq!(costs(done), costs(warm), "allocations, bytes, pipelines, waits");
    assert!(done.submissions >= warm.submissions + 60);
    let counters = world.live.status().counters;
    assert_eq!((counters.shown, counters.processed), (66 - lag, 66), "{counters:?}");
    assert_eq!(world.troubles, Vec::<String>::new());
}

#[test]
fn frames_and_changes_cost_no_allocation_compilation_or_wait() {
    check(Batching::Latency, GuidanceMode::Full, false);
    check(Batching::Throughput, GuidanceMode::Initialize, false);
    check(Batching::Latency, GuidanceMode::SelfNegative, true);
}

/// Frames that come faster than the device takes them: the newest waits, the rest are dropped, and
/// nothing is shown twice or out of order.
#[test]
fn frames_that_come_too_fast_are_dropped_and_counted() {
    let engine = world::engine(&world::gpu(), world::LCM);
    for batching in [Batching::Latency, Batching::Throughput] {
        let params = Params { batching, steps: Some(2), ..world::params(SIZE) };
        let mut world = World::new(&engine, params);
        world.show(moving(SIZE, 0));
        for at in 1..200 {
            world.push(moving(SIZE, at));
            // However fast the device, only one of two can be taken.
            if at % 2 == 1 {
                world.turn();
            }
            if at % 20 == 19 {
                world.until("a frame", World::is_idle);
            }
        }
        world.until("the last frames", World::is_idle);
        let c = world.live.status().counters;
        let waits = if batching == Batching::Throughput { 1 } else { 0 };
        assert_eq!(c.received, 200);
        assert_eq!(c.dropped + c.shown + waits, 200, "{c:?}");
        assert!(c.dropped >= 99 && c.shown > 5, "{c:?}");
        let frames: Vec<_> = world.shown.iter().map(|o| o.output.frame).collect();
        assert!(frames.is_sorted_by(|a, b| a < b), "{frames:?}");
        if waits == 0 {
            assert_eq!(frames.last(), Some(&199), "the newest frame is not lost");
        }
        assert!(world.shown.iter().all(|o| o.picture.is_some()));
    }
}
