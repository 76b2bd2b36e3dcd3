//! The similarity filter on the device.

use dreamglass_engine::params::Batching;
use dreamglass_engine::stream::Shown;
use dreamglass_engine::stream::similarity::{Filter, FilterSettings};
use dreamglass_engine::{Params, Picture, Size};
use dreamglass_kernels::ops::Orientation;
use dreamglass_kernels::reference::picture::picture_in;
use dreamglass_kernels::reference::similarity::similarity;

use crate::world::{self, World, moving, only};

const SIZE: Size = Size::new(40, 32);
const SOURCE: Size = Size::new(100, 80);

fn filtered() -> Params {
    Params { similarity_filter: true, ..world::params(SIZE) }
}

/// Whether the frame was skipped, the last picture being shown again.
fn is_skipped(world: &mut World, picture: &Picture) -> bool {
    let before = world.live.status().counters.skipped;
    let shown = world.show(picture.clone());
    let is_skipped = world.live.status().counters.skipped > before;
    let [output] = &shown[..] else { panic!("{} outputs instead of one", shown.len()) };
    assert_eq!(output.output.shown == Shown::Again, is_skipped);
    assert_eq!(output.picture.is_none(), is_skipped);
    is_skipped
}

#[test]
fn a_still_picture_is_mostly_skipped() {
    let engine = world::engine(&world::gpu(), world::LCM);
    let mut world = World::new(&engine, filtered());
    let still = moving(SOURCE, 3);
    let skipped = (0..110).filter(|_| is_skipped(&mut world, &still)).count();
    // Ten in a row at most, and all of these ten.
    assert!((95..=100).contains(&skipped), "{skipped} of 110");
}

/// Amplitude of a sensor's noise in bytes, so that frames of a scene that stands still are between
/// the threshold and equality.
const NOISE: f64 = 16.0;

/// A slow pan over a scene with sensor noise, and a cut to another in the middle.
fn clip(at: u32) -> Picture {
    let scene = if at < 60 { 0.0 } else { 40.0 };
    let mut random = dreamglass_tests::Random::new(u64::from(at));
    let mut byte = |wave: f64| {
        let noise = NOISE * f64::from(random.uniform());
        (128.0 + 90.0 * wave.sin() + noise).round() as u8
    };
    let pixel = |i: u32| {
        // The pan stands still now and then.
        let pan = f64::from(at - at % 4) * 0.6;
        let (x, y) = (f64::from(i % SOURCE.width) + pan, f64::from(i / SOURCE.width) + scene);
        [byte(0.11 * x + 0.002 * y * y), byte(0.07 * y + 0.1 * x), byte(0.003 * x * y), 255]
    };
    let rgba = (0..SOURCE.width * SOURCE.height).flat_map(pixel).collect();
    Picture::new(SOURCE, rgba).unwrap()
}

/// The picture as the stream sees it, in f64.
fn resized(picture: &Picture) -> Vec<f64> {
    let [source, size] = [SOURCE, SIZE].map(|s| [s.width as usize, s.height as usize]);
    let region = Params::default().fit.region(SOURCE, SIZE).map(f64::from);
    picture_in(&picture.words(), source, region, Orientation::default(), [size[1], size[0]])
}

#[test]
fn a_moving_clip_is_skipped_as_the_formula_says() {
    let engine = world::engine(&world::gpu(), world::LCM);
    for threshold in [0.98, 0.9] {
        let params = Params { similarity_threshold: threshold, ..filtered() };
        let settings = FilterSettings { threshold, max_skip: params.max_skip };
        let mut world = World::new(&engine, params);
        let mut filter = Filter::default();
        let mut last: Option<Vec<f64>> = None;
        let (mut skipped, mut alike) = (0, 0);
        for at in 0..120 {
            let picture = clip(at);
            let seen = resized(&picture);
            let c = last.as_ref().map(|last| similarity(last, &seen));
            let expected = c.is_some_and(|c| !filter.admits(settings, c));
            let is_skipped = is_skipped(&mut world, &picture);
            // The device's cosine is f32's: 1e-6 of c is 1e-4 of the probability, and these draws
            // are not as near to it.
            assert_eq!(is_skipped, expected, "frame {at}: c {c:?}");
            skipped += u32::from(is_skipped);
            alike += u32::from(c.is_some_and(|c| c > threshold));
            if !is_skipped {
                last = Some(seen);
            }
        }
        eprintln!("threshold {threshold}: {skipped} of 120 skipped, {alike} above it");
        assert!(skipped > 5 && skipped <= alike && alike < 120, "{skipped} skipped, {alike} alike");
    }
}

#[test]
fn a_change_on_a_still_picture_shows_at_once() {
    let engine = world::engine(&world::gpu(), world::LCM);
    let changes: [fn(&mut Params); 4] = [
        |p| p.prompt = "a night of rain".into(),
        |p| p.seed = 77,
        |p| p.strength = Some(0.5),
        |p| p.similarity_threshold = 0.9,
    ];
    let mut world = World::new(&engine, filtered());
    let still = moving(SOURCE, 3);
    for (ix, change) in changes.into_iter().enumerate() {
        // The picture in force, and some skips.
        let settled = (0..3).filter(|_| is_skipped(&mut world, &still)).count();
        assert!(settled > 0, "change {ix}");
        world.set(change);
        // A prompt is encoded first.
        let submissions = world.live.gpu().counters().submissions;
        world.turn();
        while world.live.gpu().counters().submissions == submissions && ix == 0 {
            world.turn();
        }
        world.live.gpu().wait().unwrap();
        world.turn();
        assert!(!is_skipped(&mut world, &still), "change {ix} is not to be seen");
    }
}

/// In a stream batch a change is through when the batch is.
#[test]
fn a_change_goes_through_a_batch() {
    let engine = world::engine(&world::gpu(), world::LCM);
    let params = Params { batching: Batching::Throughput, steps: Some(3), ..filtered() };
    let mut world = World::new(&engine, params);
    let still = moving(SOURCE, 3);
    let processed = |world: &World| world.live.status().counters.processed;
    for _ in 0..12 {
        world.show(still.clone());
    }
    assert!(processed(&world) < 8);
    world.set(|p| p.seed = 5);
    let before = processed(&world);
    for _ in 0..3 {
        world.show(still.clone());
    }
    assert_eq!(processed(&world), before + 3);
    let changed = world.latents();
    world.set(|p| p.similarity_filter = false);
    for _ in 0..4 {
        world.show(still.clone());
    }
    assert_eq!(world.latents(), changed, "the change was not through");
}

/// New plans while a frame is being measured: its similarity belongs to no later frame.
#[test]
fn a_measurement_that_new_plans_cut_off_is_forgotten() {
    let engine = world::engine(&world::gpu(), world::LCM);
    let mut world = World::new(&engine, filtered());
    let other = Size::new(32, 40);
    for round in 0..3 {
        let still = moving(SOURCE, 10 * round);
        world.show(still.clone());
        world.show(still.clone());
        world.set(|p| p.size = Some(if p.size == Some(SIZE) { other } else { SIZE }));
        // One turn measures the frame and asks for plans, which are there before the result.
        world.push(still.clone());
        world.turn();
        world.until("the new plans' frames", World::is_idle);
        // The first frame after the plans, then pairs of a still and another picture.
        world.show(still);
        for at in 1..6 {
            let picture = moving(SOURCE, 10 * round + at);
            assert!(!is_skipped(&mut world, &picture), "round {round}: another picture was skipped");
            assert!(is_skipped(&mut world, &picture), "round {round}: the same picture was processed");
        }
    }
}

/// The filter is switched off along with a change whose plans take their time: until they are there
/// frames are still compared, and with the last one that was processed.
#[test]
fn a_filter_on_its_way_out_compares_with_the_last_processed_frame() {
    let engine = world::engine(&world::gpu(), world::LCM);
    let mut world = World::new(&engine, filtered());
    let [a, b] = [0, 5].map(|at| moving(SOURCE, at));
    only(&world.show(a.clone()));
    world.holds_builds = true;
    world.set(|p| (p.similarity_filter, p.size) = (false, Some(Size::new(32, 40))));
    only(&world.show(b));
    assert!(!is_skipped(&mut world, &a), "the picture of another frame stays on show");
}
