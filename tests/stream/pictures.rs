//! Pictures of streams: those of single pictures, turned, fitted and smoothed.

use dreamglass_engine::params::{Batching, GuidanceMode, Turn};
use dreamglass_engine::{Engine, Fit, Params, Picture, Settings, Size};
use dreamglass_kernels::ops::Orientation;

use crate::straight::Straight;
use crate::world::{self, World, colours, moving, only};

const SIZE: Size = Size::new(64, 48);

/// `picture` turned clockwise and then mirrored, pixel by pixel.
fn turned(picture: &Picture, quarter_turns: u32, is_mirrored: bool) -> Picture {
    let mut size = picture.size();
    let mut words = picture.words();
    let at = |words: &[u32], size: Size, x: u32, y: u32| words[(y * size.width + x) as usize];
    for _ in 0..quarter_turns {
        // What was the left column, from the bottom up, is the first row.
        let next = size.turned();
        let pixel = |i: u32| at(&words, size, i / next.width, size.height - 1 - i % next.width);
        words = (0..next.width * next.height).map(pixel).collect();
        size = next;
    }
    if is_mirrored {
        let pixel = |i: u32| at(&words, size, size.width - 1 - i % size.width, i / size.width);
        words = (0..size.width * size.height).map(pixel).collect();
    }
    Picture::from_words(size, &words).unwrap()
}

/// A stream's first picture of `source` is the single picture of `upright`.
fn check(engine: &mut Engine, params: &Params, source: &Picture, upright: &Picture) {
    let picture = only(&World::new(engine, params.clone()).show(source.clone()));
    let turning = params.settings(SIZE, engine.family().defaults());
    let settings = Settings { orientation: Orientation::default(), ..turning.clone() };
    let expected = engine.img2img(upright, &settings).unwrap();
    // A single picture is turned in the same way.
    assert_eq!(picture, engine.img2img(source, &turning).unwrap(), "{params:?}");
    assert_eq!(picture.size(), expected.size());
    let pairs = picture.rgba().iter().zip(expected.rgba());
    // Both round a colour once; one that is next to a half may go either way.
    let most = pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert!(most <= 1, "{params:?}: off by {most}");
    let [darkest, brightest] = [expected.rgba().iter().min(), expected.rgba().iter().max()];
    assert_ne!(darkest, brightest, "a picture of one colour compares nothing");
}

#[test]
fn one_frame_is_one_picture() {
    let mut engine = world::engine(&world::gpu(), world::LCM);
    let source = moving(SIZE, 1);
    let full = GuidanceMode::Full;
    for (steps, guidance) in [(1, 1.0), (1, 1.5), (2, 1.0), (4, 1.5)] {
        let params = Params {
            steps: Some(steps),
            guidance: Some(guidance),
            guidance_mode: full,
            ..world::params(SIZE)
        };
        check(&mut engine, &params, &source, &source);
    }
    let mut euler = world::engine(&world::gpu(), world::EULER);
    check(&mut euler, &world::params_of_steps(SIZE, 1, 1.0), &source, &source);
}

#[test]
fn sources_are_turned_and_fitted() {
    let mut engine = world::engine(&world::gpu(), world::LCM);
    let source = moving(Size::new(100, 70), 2);
    let turns = [Turn::Upright, Turn::Quarter, Turn::Half, Turn::ThreeQuarters];
    for (quarter_turns, rotate) in turns.into_iter().enumerate() {
        for mirror in [false, true] {
            let params = Params { rotate, mirror, ..world::params(SIZE) };
            check(&mut engine, &params, &source, &turned(&source, quarter_turns as u32, mirror));
        }
    }
    for fit in [Fit::Crop, Fit::Fit, Fit::Stretch] {
        let params = Params { fit, rotate: Turn::Quarter, ..world::params(SIZE) };
        check(&mut engine, &params, &source, &turned(&source, 1, false));
    }
}

#[test]
fn a_size_that_is_not_set_follows_the_turned_source() {
    let engine = world::engine(&world::gpu(), world::LCM);
    let params = Params { size: None, rotate: Turn::Quarter, ..world::params(SIZE) };
    let mut world = World::new(&engine, params);
    let side = engine.native_side().unwrap();
    let size_of = |world: &mut World, source: Size| {
        // The first frame of another shape still finds the old plans.
        world.show(moving(source, 0));
        only(&world.show(moving(source, 1))).size()
    };
    let source = Size::new(100, 70);
    assert_eq!(size_of(&mut world, source), source.turned().natural(side, 8));
    world.set(|p| p.rotate = Turn::Upright);
    assert_eq!(size_of(&mut world, source), source.natural(side, 8));
    let other = Size::new(40, 80);
    assert_eq!(size_of(&mut world, other), other.natural(side, 8));
}

/// Shares of the last picture, changed while frames flow.
const SHARES: [f64; 6] = [0.6, 0.6, 0.9, 0.25, 0.25, 0.6];

#[test]
fn smoothing_keeps_a_share_of_the_last_picture() {
    let engine = world::engine(&world::gpu(), world::LCM);
    let mut worst = 0f64;
    for (steps, batching) in [(1, Batching::Latency), (2, Batching::Latency), (2, Batching::Throughput)] {
        let params = Params { smoothing: SHARES[0], batching, ..world::params_of_steps(SIZE, steps, 0.7) };
        let straight = Straight::new(&engine, &params, false);
        let mut world = World::new(&engine, params);
        let mut last: Option<Vec<f64>> = None;
        for (at, share) in SHARES.into_iter().enumerate() {
            world.set(|p| p.smoothing = share);
            let shown = world.show(moving(SIZE, at as u64));
            if shown.is_empty() {
                assert!(last.is_none(), "the batch is full");
                continue;
            }
            let new = straight.decode(&world.latents());
            // The first picture follows none.
            let share = if last.is_some() { share } else { 0.0 };
            let before = last.as_ref().unwrap_or(&new);
            let mixed: Vec<f64> =
                new.iter().zip(before).map(|(new, last)| (1.0 - share) * new + share * last).collect();
            let picture = colours(&only(&shown));
            for (ours, mixed) in picture.iter().zip(&mixed) {
                let error = (f64::from(*ours) - mixed.clamp(-1.0, 1.0)).abs();
                // Half a byte of a picture's rounding is 1/255 of the range from −1 to 1.
                assert!(error <= 1.0 / 255.0 + 1e-4, "{steps} steps, {batching:?}, frame {at}: {error}");
                worst = worst.max(error);
            }
            last = Some(mixed);
        }
    }
    eprintln!("smoothing: {worst:.2e}, half a byte is {:.2e}", 1.0 / 255.0);
}
