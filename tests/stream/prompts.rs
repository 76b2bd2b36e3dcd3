//! Prompts that an earlier run encoded, and text encoders that come later or not at all.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dreamglass_engine::live::Work;
use dreamglass_engine::{Engine, EngineOptions, LoraFile, PromptStore, Settings, Size};
use dreamglass_kernels::DType;

use crate::case::Case;
use crate::loras;
use crate::world::{self, World, moving, only};

const SIZE: Size = Size::new(40, 24);

/// What a program would keep on disk.
#[derive(Debug, Default)]
struct Kept(Mutex<HashMap<String, Vec<u8>>>);

impl PromptStore for Kept {
    fn load(&self, key: &str) -> Option<Vec<u8>> {
        self.0.lock().unwrap().get(key).cloned()
    }
    fn save(&self, key: &str, data: &[u8]) {
        self.0.lock().unwrap().insert(key.into(), data.into());
    }
}

impl Kept {
    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
    fn change(&self, change: impl Fn(&mut Vec<u8>)) {
        self.0.lock().unwrap().values_mut().for_each(change);
    }
}

/// The engine of `case`, as a run of the program that keeps its prompts in `kept` loads it.
fn engine(case: &Case, kept: &Arc<Kept>, loras: Vec<LoraFile>) -> Engine {
    let prompts = Some(Arc::clone(kept) as Arc<dyn PromptStore>);
    let options = EngineOptions { dtype: DType::F32, loras, prompts, ..Default::default() };
    Engine::load(&world::gpu(), &case.files(), &options).unwrap()
}

fn weights(case: &Case) -> PathBuf {
    case.path().join("text_encoder/model.safetensors")
}

/// Makes every weight of the text encoder something that is no number, in a file that looks as it did.
fn damage(case: &Case) {
    let path = weights(case);
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let header = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize + 8;
    bytes[header..].fill(0xff);
    fs::write(&path, bytes).unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
}

fn is_about_the_encoder(trouble: &str) -> bool {
    trouble.starts_with("text encoder: ") && trouble.contains("not a finite number")
}

#[test]
fn a_stream_with_a_prompt_of_an_earlier_run_waits_for_no_text_encoder() {
    let (case, kept) = (Case::open(world::LCM), Arc::new(Kept::default()));
    let first = engine(&case, &kept, Vec::new());
    let expected = only(&World::new(&first, world::params(SIZE)).show(moving(SIZE, 0)));
    assert_eq!(kept.len(), 1, "the prompt is kept; the negative one was not wanted");

    damage(&case);
    let mut world = World::new(&engine(&case, &kept, Vec::new()), world::params(SIZE));
    assert!(only(&world.show(moving(SIZE, 0))) == expected, "the kept prompt makes another picture");
    // Behind the first picture the encoder is loaded for prompts to come; it cannot be, and is left alone.
    for _ in 0..3 {
        assert!(only(&world.show(moving(SIZE, 0))) == expected);
    }
    assert!(
        matches!(&world.troubles[..], [trouble] if is_about_the_encoder(trouble)),
        "{:?}",
        world.troubles
    );
    // A prompt that wants it is refused, and the old one stays; others that are kept are none of its business.
    world.set(|p| p.prompt = "a bridge".into());
    for _ in 0..3 {
        assert!(only(&world.show(moving(SIZE, 0))) == expected);
    }
    assert!(world.troubles.len() == 2 && world.troubles.iter().all(|t| is_about_the_encoder(t)));
    assert!(!world.live.status().is_preparing);
    world.set(|p| p.prompt = world::params(SIZE).prompt);
    assert!(only(&world.show(moving(SIZE, 0))) == expected);
    assert_eq!((world.troubles.len(), kept.len()), (2, 1));
}

#[test]
fn what_was_loaded_for_another_stream_is_not_taken() {
    let (case, kept) = (Case::open(world::LCM), Arc::new(Kept::default()));
    let expected =
        only(&World::new(&engine(&case, &kept, Vec::new()), world::params(SIZE)).show(moving(SIZE, 0)));
    // On a device of its own, which is lost to the next stream.
    let mut before = World::new(&world::engine(&world::own_gpu(), world::LCM), world::params(SIZE));
    before.push(moving(SIZE, 0));
    let mut work = before.live.drive(Duration::ZERO).unwrap().into_iter();
    let loaded = work.find_map(|work| if let Work::Text(text) = work { Some(text.run()) } else { None });

    let mut world = World::new(&engine(&case, &Arc::default(), Vec::new()), world::params(SIZE));
    world.live.hear_text(loaded.unwrap());
    assert!(only(&world.show(moving(SIZE, 0))) == expected);
    assert!(world.troubles.is_empty(), "{:?}", world.troubles);
}

#[test]
fn prompts_are_kept_as_long_as_the_text_encoder_is_the_same() {
    let (case, kept) = (Case::open(world::LCM), Arc::new(Kept::default()));
    let show = |prompt: &str| {
        let engine = engine(&case, &kept, Vec::new());
        let mut world = World::new(&engine, world::params(SIZE));
        world.set(|p| p.prompt = prompt.into());
        only(&world.show(moving(SIZE, 0)))
    };
    let [first, second] = ["a bridge", "a lighthouse"].map(show);
    assert!(first != second && kept.len() == 2);
    assert!(show("a bridge") == first && kept.len() == 2);
    // What is damaged is made anew: too short, or no numbers.
    for damage in [|data: &mut Vec<u8>| data.truncate(100), |data: &mut Vec<u8>| data.fill(0xff)] {
        kept.change(damage);
        assert!(show("a bridge") == first && show("a lighthouse") == second && kept.len() == 2);
    }
    // A file that was written since may be another.
    let file = File::options().write(true).open(weights(&case)).unwrap();
    file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(9)).unwrap();
    assert!(show("a bridge") == first && kept.len() == 3);
    // With LoRAs in it the encoder's files do not say what it is.
    let folder = tempfile::tempdir().unwrap();
    let path = loras::write(&case, &folder.path().join("text.safetensors"), "text_encoder", "self_attn", 0.2);
    let with_lora = engine(&case, &kept, vec![LoraFile { path, weight: 1.0 }]);
    let mut world = World::new(&with_lora, world::params(SIZE));
    world.set(|p| p.prompt = "a bridge".into());
    assert!(only(&world.show(moving(SIZE, 0))) != first && kept.len() == 3);
}

#[test]
fn single_pictures_and_streams_keep_the_same() {
    let (case, kept) = (Case::open(world::LCM), Arc::new(Kept::default()));
    let settings = Settings {
        prompt: "a bridge".into(),
        negative: "grey photograph".into(),
        guidance: 1.5,
        size: SIZE,
        ..Settings::default()
    };
    let picture = |settings: &Settings| {
        engine(&case, &kept, Vec::new()).img2img(&moving(SIZE, 0), settings).map_err(|e| e.to_string())
    };
    let expected = picture(&settings).unwrap();
    assert_eq!(kept.len(), 2, "both prompts are kept");
    World::new(
        &engine(&case, &kept, Vec::new()),
        dreamglass_engine::Params { prompt: settings.prompt.clone(), ..world::params(SIZE) },
    )
    .show(moving(SIZE, 0));
    assert_eq!(kept.len(), 2, "the stream found the prompt");
    damage(&case);
    assert!(picture(&settings).unwrap() == expected);
    let other = Settings { prompt: "a lighthouse".into(), ..settings };
    let error = picture(&other).unwrap_err();
    assert!(error.contains("not a finite number"), "{error}");
}
