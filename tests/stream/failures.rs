//! Errors on the device: they cost frames, not the stream.

use dreamglass_engine::params::Batching;
use dreamglass_engine::{Params, Size};

use crate::world::{self, World, moving, only};

const SIZE: Size = Size::new(40, 24);

/// Makes the driver report an error, as it does for memory that it does not have.
fn break_something(world: &World) {
    let mut encoder = world.live.gpu().device().create_command_encoder(&Default::default());
    encoder.pop_debug_group();
    drop(encoder.finish());
}

/// An error before any turn of a stream in which prompts change and frames are measured: afterwards
/// everything takes effect as if nothing had happened.
#[test]
fn an_error_on_the_device_costs_frames_only() {
    // Errors belong to a device, not to a stream.
    let engine = world::engine(&world::own_gpu(), world::LCM);
    let last = "a lighthouse";
    let params = Params { prompt: last.into(), ..world::params(SIZE) };
    let expected = only(&World::new(&engine, params).show(moving(SIZE, 9)));
    for similarity_filter in [false, true] {
        for turns in 0..8 {
            let mut world = World::new(&engine, Params { similarity_filter, ..world::params(SIZE) });
            only(&world.show(moving(SIZE, 0)));
            only(&world.show(moving(SIZE, 3)));
            world.set(|p| p.prompt = "a bridge".into());
            for turn in 0..8 {
                if turn == turns {
                    break_something(&world);
                }
                if turn % 3 == 0 {
                    world.push(moving(SIZE, 6 + turn));
                }
                world.turn();
            }
            assert!(!world.troubles.is_empty(), "error before turn {turns}: nobody was told");
            world.set(|p| p.prompt = last.into());
            world.shown.clear();
            // Frames flow until the prompt is encoded.
            for at in 0..6 {
                world.show(moving(SIZE, 20 + at));
            }
            world.set(|p| p.similarity_filter = false);
            let picture = only(&world.show(moving(SIZE, 9)));
            assert!(picture == expected, "error before turn {turns}, filter {similarity_filter}");
        }
    }
}

#[test]
fn a_batch_that_is_lost_fills_anew() {
    let engine = world::engine(&world::own_gpu(), world::LCM);
    let params = Params { batching: Batching::Throughput, steps: Some(3), ..world::params(SIZE) };
    let mut world = World::new(&engine, params);
    for at in 0..5 {
        world.show(moving(SIZE, at));
    }
    break_something(&world);
    let shown = world.shown.len();
    let lag: Vec<_> = (5..12).map(|at| world.show(moving(SIZE, at)).len()).collect();
    // Frame 5 tells of the error.
    assert_eq!(lag, [0, 0, 0, 1, 1, 1, 1], "{:?}", world.live.status());
    assert_eq!(world.shown[shown].output.frame, 6);
    let c = world.live.status().counters;
    assert_eq!((c.failed, c.flushed, world.troubles.len()), (1, 2, 1), "{c:?}");
}
