//! Weights of LoRAs that change while frames flow.

use std::path::{Path, PathBuf};

use dreamglass_engine::params::{Batching, GuidanceMode};
use dreamglass_engine::{Engine, EngineOptions, LoraFile, Params, Picture, Size};
use dreamglass_kernels::DType;
use dreamglass_kernels::gpu::Gpu;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::case::Case;
use crate::weights;
use crate::world::{self, World, moving, only};

const SIZE: Size = Size::new(40, 24);
const RANK: usize = 3;
const GAIN: f32 = 0.2;
/// Turns in which nothing more is heard of a text that was to be encoded.
const FRAMES_TO_ENCODE: u64 = 4;

/// Writes a LoRA of the weights of `case` in `file` whose names contain `word`, in kohya's layout.
pub fn write(case: &Case, path: &Path, file: &str, word: &str, gain: f32) -> PathBuf {
    let list = std::fs::read(case.path().join("weights.json")).unwrap();
    let list: Vec<serde_json::Value> = serde_json::from_slice(&list).unwrap();
    let prefix = if file.starts_with("unet") { "lora_unet" } else { "lora_te" };
    let mut tensors = Vec::new();
    for row in &list {
        let name = row["name"].as_str().unwrap();
        let shape: Vec<usize> = serde_json::from_value(row["shape"].clone()).unwrap();
        if !row["file"].as_str().unwrap().starts_with(file) || !name.contains(word) || shape.len() < 2 {
            continue;
        }
        let key = format!("{prefix}_{}", name.strip_suffix(".weight").unwrap().replace('.', "_"));
        let ones = vec![1; shape.len() - 2];
        for (end, shape) in [
            ("lora_down.weight", [&[RANK], &shape[1..]].concat()),
            ("lora_up.weight", [&[shape[0], RANK], &ones[..]].concat()),
        ] {
            let key = format!("{key}.{end}");
            let values: Vec<f32> = weights::unit(&key, &shape).into_iter().map(|v| v * gain).collect();
            tensors.push((key, shape, values));
        }
    }
    assert!(tensors.len() > 4, "{word} names {} weights of {file}", tensors.len() / 2);
    let views = tensors.iter().map(|(name, shape, values)| {
        (name, TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values)).unwrap())
    });
    safetensors::serialize_to_file(views, None, path).unwrap();
    path.into()
}

/// A model with a LoRA of its UNet's attention and convolutions, and one of its text encoder.
struct Model {
    case: Case,
    folder: tempfile::TempDir,
}

impl Model {
    fn new() -> Self {
        let model = Self { case: Case::open(world::LCM), folder: tempfile::tempdir().unwrap() };
        write(&model.case, &model.path("unet"), "unet", "resnets.0.conv", GAIN);
        write(&model.case, &model.path("text"), "text_encoder", "self_attn", GAIN);
        model
    }
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.safetensors"))
    }
    fn engine(&self, gpu: &Gpu, names: &[&str], weights: &[f32]) -> Engine {
        let loras = names.iter().zip(weights);
        let loras = loras.map(|(name, &weight)| LoraFile { path: self.path(name), weight }).collect();
        let options = EngineOptions { dtype: DType::F32, loras, ..Default::default() };
        Engine::load(gpu, &self.case.files(), &options).unwrap()
    }
}

/// Frames until every prompt is encoded, and the picture of frame `at`.
fn settled(world: &mut World, at: u64) -> Picture {
    for _ in 0..FRAMES_TO_ENCODE {
        world.show(moving(SIZE, at));
    }
    world.shown.clear();
    only(&world.show(moving(SIZE, at)))
}

/// Sets weights, and frames go on with the old ones until the new are there: each comes out in its turn.
fn change(world: &mut World, at: u64, lag: u64, weights: [Option<f64>; 2]) {
    world.holds_builds = true;
    world.set(|p| (p.lora_1, p.lora_2) = weights.into());
    for at in at..at + 3 {
        let shown = world.show(moving(SIZE, at));
        assert_eq!(shown.iter().map(|o| o.output.frame).collect::<Vec<_>>(), [at - lag]);
        assert!(world.live.status().is_preparing, "weights are being fused");
    }
    world.holds_builds = false;
    world.build();
    let shown = world.show(moving(SIZE, at + 3));
    assert_eq!(shown.iter().map(|o| o.output.frame).collect::<Vec<_>>(), [at + 3 - lag]);
}

#[test]
fn a_stream_with_other_weights_is_one_that_was_loaded_with_them() {
    let (model, gpu) = (Model::new(), world::own_gpu());
    let engine = model.engine(&gpu, &["unet", "text"], &[1.0, 0.5]);
    let params = Params { guidance: Some(1.5), guidance_mode: GuidanceMode::Full, ..world::params(SIZE) };
    let mut world = World::new(&engine, params.clone());
    let loaded = settled(&mut world, 0);
    let mut pictures = vec![loaded.clone()];
    for weights in [[0.25, 0.5], [0.25, -1.0], [0.0, 0.0], [1.0, 0.5]] {
        world.set(|p| (p.lora_1, p.lora_2) = (Some(weights[0]), Some(weights[1])));
        let picture = settled(&mut world, 0);
        let expected = {
            let engine = model.engine(&gpu, &["unet", "text"], &weights.map(|w| w as f32));
            settled(&mut World::new(&engine, params.clone()), 0)
        };
        assert!(picture == expected, "{weights:?} changed and loaded differ");
        assert_eq!(pictures.contains(&picture), weights == [1.0, 0.5], "{weights:?}");
        pictures.push(picture);
    }
    // At no weight it is the model without them, to the bit; without a word it is as it was loaded.
    let plain = model.engine(&gpu, &[], &[]);
    assert!(settled(&mut World::new(&plain, params.clone()), 0) == pictures[3]);
    world.set(|p| (p.lora_1, p.lora_2) = (None, None));
    assert!(settled(&mut world, 0) == loaded);
    // A stream that begins with weights has them from the first frame on.
    let begun = Params { lora_1: Some(0.25), ..params };
    assert!(only(&World::new(&engine, begun).show(moving(SIZE, 0))) == pictures[1]);
    assert_eq!(world.troubles, Vec::<String>::new());
}

#[test]
fn no_frame_is_lost_to_a_change() {
    let model = Model::new();
    let engine = model.engine(&world::own_gpu(), &["unet", "text"], &[1.0, 1.0]);
    for batching in [Batching::Latency, Batching::Throughput] {
        let lag = if batching == Batching::Throughput { 2 } else { 0 };
        let params = Params { batching, steps: Some(3), ..world::params(SIZE) };
        let mut world = World::new(&engine, params);
        let mut at = 0;
        while at < 6 {
            world.show(moving(SIZE, at));
            at += 1;
        }
        for weights in [[Some(0.5), None], [Some(0.5), Some(0.0)], [Some(2.0), Some(0.3)], [None, None]] {
            change(&mut world, at, lag, weights);
            at += 4;
        }
        let c = world.live.status().counters;
        assert_eq!((c.received, c.processed, c.shown), (at, at, at - lag), "{batching:?}");
        assert_eq!((c.dropped, c.flushed, c.failed), (0, 0, 0), "{batching:?}");
        assert_eq!(world.troubles, Vec::<String>::new());
    }
}

/// A slider that is moved faster than weights are fused, while plans change, too: the last place counts.
#[test]
fn the_last_weights_count() {
    let model = Model::new();
    let engine = model.engine(&world::gpu(), &["unet", "text"], &[1.0, 1.0]);
    let mut world = World::new(&engine, world::params(SIZE));
    for at in 0..40u32 {
        world.holds_builds = at % 5 != 4;
        world.set(|p| {
            p.lora_1 = Some(f64::from(at % 7) / 7.0);
            p.smoothing = if at % 6 < 3 { 0.0 } else { 0.3 };
            p.steps = Some(1 + at % 3);
        });
        world.push(moving(SIZE, at.into()));
        world.turn();
    }
    world.holds_builds = false;
    world.set(|p| (p.lora_1, p.smoothing, p.steps) = (Some(0.6), 0.0, Some(1)));
    let picture = settled(&mut world, 1);
    let expected = model.engine(&world::gpu(), &["unet", "text"], &[0.6, 1.0]);
    assert!(picture == settled(&mut World::new(&expected, world::params(SIZE)), 1));
    assert_eq!(world.troubles, Vec::<String>::new());
}

#[test]
fn weights_that_cannot_be_had_change_nothing() {
    let model = Model::new();
    write(&model.case, &model.path("huge"), "unet", "attn1.to_q", 3e19);
    let engine = model.engine(&world::gpu(), &["unet", "huge"], &[1.0, 0.0]);
    let mut world = World::new(&engine, world::params(SIZE));
    let before = settled(&mut world, 2);
    let mut params = world.live.params().clone();
    params.lora_3 = Some(0.5);
    let refused = world.live.set(params).unwrap_err().to_string();
    assert!(refused.contains("lora_3") && refused.contains("2 LoRAs"), "{refused}");
    world.set(|p| p.lora_2 = Some(2.0));
    assert!(settled(&mut world, 2) == before);
    let [trouble] = &world.troubles[..] else { panic!("{:?}", world.troubles) };
    assert!(trouble.contains("LoRAs") && trouble.contains("attn1.to_q"), "{trouble}");
    world.set(|p| (p.lora_1, p.lora_2) = (Some(0.5), Some(0.0)));
    assert!(settled(&mut world, 2) != before);
    assert_eq!(world.troubles.len(), 1, "{:?}", world.troubles);
}

/// Two hundred changes and the way back: for [`crate::memory`].
pub fn changes(mut after_each: impl FnMut(u64, &World)) {
    let model = Model::new();
    let engine = model.engine(&world::own_gpu(), &["unet", "text"], &[1.0, 1.0]);
    let mut world = World::new(&engine, world::params(SIZE));
    for at in 0..200 {
        let weight = |by: u64| Some(((at * by) % 11) as f64 / 10.0);
        world.set(|p| (p.lora_1, p.lora_2) = (weight(3), if at % 2 == 0 { weight(7) } else { p.lora_2 }));
        for frame in 0..3 {
            world.show(moving(SIZE, 3 * at + frame));
        }
        world.shown.clear();
        after_each(at, &world);
    }
    let c = world.live.status().counters;
    assert_eq!((c.received, c.shown), (600, 600), "{c:?}");
    assert_eq!(world.troubles, Vec::<String>::new());
}
