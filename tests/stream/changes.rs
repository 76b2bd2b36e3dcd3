//! Everything changes while frames flow.

use dreamglass_engine::live::MAX_LIVE_STEPS;
use dreamglass_engine::params::{Batching, GuidanceMode, MAX_PROMPT_BYTES, Turn};
use dreamglass_engine::{Params, Size};
use dreamglass_tests::Random;

use crate::world::{self, World, moving, only};

const SIZE: Size = Size::new(40, 24);
const SOURCE: Size = Size::new(50, 37);

const SIZES: [Size; 4] = [SIZE, Size::new(8, 8), Size::new(24, 56), Size::new(72, 40)];

/// One change of any kind, chosen by `at`, the rest by chance.
fn change(params: &mut Params, at: u32, random: &mut Random) {
    let mut pick = |n: u32| ((random.uniform() + 1.0) / 2.0 * n as f32) as u32 % n;
    let is_on = pick(2) == 1;
    match at % 9 {
        0 => params.size = Some(SIZES[pick(4) as usize]),
        1 => params.steps = Some(1 + pick(4)),
        2 => params.batching = if is_on { Batching::Latency } else { Batching::Throughput },
        3 => {
            let modes = [GuidanceMode::SelfNegative, GuidanceMode::Initialize, GuidanceMode::Full];
            params.guidance_mode = modes[pick(3) as usize];
            params.guidance = Some(if pick(3) == 0 { 1.0 } else { 1.4 });
        }
        4 => params.similarity_filter = is_on,
        5 => params.smoothing = if is_on { 0.4 } else { 0.0 },
        6 => params.feedback = if is_on { 0.3 } else { 0.0 },
        7 => params.rotate = if is_on { Turn::Quarter } else { Turn::Upright },
        _ => params.prompt = format!("prompt {}", pick(20)),
    }
}

/// Every picture has the size that it says, and none comes late or twice.
fn check_outputs(world: &World) {
    let mut last = None;
    for shown in &world.shown {
        let Size { width, height } = shown.size;
        assert!(SIZES.contains(&shown.size), "{width}x{height} was never asked for");
        if let Some(pixels) = &shown.pixels {
            assert_eq!((pixels.shape.w, pixels.shape.h), (width, height));
        }
        if let Some(picture) = &shown.picture {
            assert_eq!(picture.size(), shown.size);
        }
        assert!(last < Some(shown.output.frame), "{:?} after {last:?}", shown.output);
        last = Some(shown.output.frame);
    }
}

/// Changes come faster than their plans, which are made some frames late.
#[test]
fn anything_may_change_at_any_frame() {
    let engine = world::engine(&world::gpu(), world::LCM);
    let mut random = Random::new(5);
    let mut world = World::new(&engine, Params { steps: Some(2), ..world::params(SIZE) });
    for at in 0..160u32 {
        if at % 2 == 0 {
            world.set(|p| change(p, at / 2, &mut random));
        }
        world.holds_builds = at % 5 != 4 && at > 0;
        // Half of the frames come while others are under way, some are like the one before.
        let picture = moving(SOURCE, u64::from(at - at % 3));
        if at % 4 < 2 {
            world.show(picture);
        } else {
            world.push(picture);
            world.turn();
        }
    }
    world.holds_builds = false;
    world.until("the last frames", World::is_idle);
    check_outputs(&world);
    assert_eq!(world.troubles, Vec::<String>::new());
    let c = world.live.status().counters;
    assert_eq!(c.failed, 0);
    let pending = world.live.status().layout.unwrap().slots() as u64 - 1;
    let gone = c.dropped + c.skipped + c.shown + c.flushed;
    assert!(gone <= c.received && c.received <= gone + pending, "{c:?}");
    assert!(c.shown > 60, "{c:?}");
    let sizes = SIZES.iter().filter(|size| world.shown.iter().any(|o| o.size == **size)).count();
    assert!(sizes >= 3, "only {sizes} sizes were shown");
    // What was asked for last is what runs in the end.
    world.set(|p| {
        *p = Params { steps: Some(1), ..world::params(Size::new(56, 8)) };
    });
    world.turn();
    assert_eq!(only(&world.show(moving(SOURCE, 999))).size(), Size::new(56, 8));
}

#[test]
fn what_does_not_go_together_is_named_and_changes_nothing() {
    let engine = world::engine(&world::gpu(), world::LCM);
    let good = world::params(SIZE);
    let mut world = World::new(&engine, good.clone());
    let picture = only(&world.show(moving(SIZE, 0)));
    let steps = MAX_LIVE_STEPS as u32 + 1;
    let bad = [
        (Params { size: Some(Size::new(50, 64)), ..good.clone() }, "50x64"),
        (Params { size: Some(Size::new(0, 64)), ..good.clone() }, "0x64"),
        (Params { size: Some(Size::new(9000, 64)), ..good.clone() }, "9000x64"),
        (Params { steps: Some(steps), ..good.clone() }, "5 steps"),
        (Params { steps: Some(0), ..good.clone() }, "`steps`: expected a whole number in 1..=50"),
        (Params { steps: Some(4), strength: Some(0.05), ..good.clone() }, "4 steps at strength 0.05"),
        (Params { strength: Some(f64::NAN), ..good.clone() }, "got `NaN`"),
        (Params { guidance: Some(-1.0), ..good.clone() }, "got `-1`"),
    ];
    for (params, name) in bad {
        let message = world.live.set(params.clone()).unwrap_err().to_string();
        assert!(message.contains(name), "{message} lacks {name}");
        assert_eq!(world.live.params(), &good);
        assert!(only(&world.show(moving(SIZE, 0))) == picture, "after {message}");
        let message = dreamglass_engine::Live::new(&engine, params).err().unwrap().to_string();
        assert!(message.contains(name), "{message} lacks {name}");
    }
}

#[test]
fn no_prompt_ends_a_stream() {
    let engine = world::engine(&world::gpu(), world::LCM);
    let too_long = "x".repeat(10 << 20);
    let texts = [
        "a\0b".to_string(),
        "🌊🏔️ \u{202e}right to left".to_string(),
        "\u{fffd}\u{feff}\u{200d}".to_string(),
        "wind ".repeat(12 << 10),
        "x".repeat(MAX_PROMPT_BYTES),
        String::new(),
    ];
    // A stream that never had a prompt that can be read waits for one.
    let params = Params { prompt: too_long.clone(), guidance: Some(1.5), ..world::params(SIZE) };
    let mut world = World::new(&engine, params);
    world.push(moving(SIZE, 0));
    world.until("a refusal", |w| !w.troubles.is_empty());
    assert!(world.troubles[0].contains("prompt"), "{}", world.troubles[0]);
    assert!(world.shown.is_empty());
    world.set(|p| p.prompt = "a harbour".into());
    world.until("a frame", |w| !w.shown.is_empty());
    for text in &texts {
        for is_negative in [false, true] {
            world.set(|p| *(if is_negative { &mut p.negative } else { &mut p.prompt }) = text.clone());
            for at in 0..3 {
                only(&world.show(moving(SIZE, at)));
            }
        }
    }
    assert_eq!(world.troubles.len(), 1, "{:?}", &world.troubles[1..]);
    world.set(|p| p.prompt = "rain".into());
    world.show(moving(SIZE, 0));
    let before = only(&world.show(moving(SIZE, 0)));
    world.set(|p| p.prompt = too_long);
    only(&world.show(moving(SIZE, 0)));
    assert!(only(&world.show(moving(SIZE, 0))) == before, "the old prompt stays");
    assert_eq!(world.troubles.len(), 2);
}
