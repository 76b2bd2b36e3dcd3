//! Whole pictures: encode, noise, denoise, decode with the goldens' noises.

use dreamglass_engine::{Engine, EngineOptions, Picture, Sampler, Settings, Size, StrengthRule};
use dreamglass_kernels::DType;
use dreamglass_kernels::gpu::{Gpu, GpuOptions};

use crate::case::{self, Case};
use crate::compare;

pub fn settings(case: &Case) -> Settings {
    let [_, height, width] = case.tensor("img2img.image").size();
    Settings {
        prompt: case.text("prompt").into(),
        negative: case.metadata.get("negative").cloned().unwrap_or_default(),
        steps: case.number("steps") as u32,
        strength: case.number("strength"),
        guidance: case.number("guidance") as f32,
        size: Size::new(width, height),
        sampler: match case.text("sampler") {
            "lcm" => Sampler::Lcm,
            "euler" => Sampler::Euler,
            "tcd" => Sampler::Tcd,
            other => panic!("{}: sampler {other}", case.name),
        },
        strength_rule: match case.text("strength_rule") {
            "lcm" => StrengthRule::Lcm,
            _ => StrengthRule::Img2Img,
        },
        eta: case.metadata.get("eta").map_or(Settings::default().eta, |eta| eta.parse().unwrap()),
        ..Settings::default()
    }
}

fn engine(gpu: &Gpu, case: &Case, dtype: DType) -> Engine {
    Engine::load(gpu, &case.files(), &EngineOptions { dtype, ..Default::default() }).unwrap()
}

#[test]
fn pictures() {
    compare("img2img_", |gpu, case, dtype| {
        let mut engine = engine(gpu, case, dtype);
        let settings = settings(case);
        let timesteps: Vec<f64> =
            case.text("timesteps").split(',').map(|t| t.trim().parse().unwrap()).collect();
        assert_eq!(engine.schedule(&settings).unwrap().timesteps(), timesteps, "{}", case.name);

        let noise = case.tensor("img2img.noise");
        let values = noise.nhwc();
        let noises: Vec<Vec<f32>> =
            values.chunks_exact(values.len() / noise.shape[0]).map(<[f32]>::to_vec).collect();
        let image = case.tensor("img2img.image").nhwc();
        let trace = engine.img2img_tensors(&image, &noises, &settings).unwrap();
        let scale = engine.scaling_factor() as f32;
        let latents = trace.next.last().unwrap().iter().map(|v| v / scale).collect();
        vec![
            ("latents".into(), latents, case.tensor("img2img.latents").nhwc()),
            ("image".into(), trace.picture, case.tensor("img2img.output").nhwc()),
        ]
    });
}

/// A picture made of bytes, larger than what is made of it.
fn source(seed: u32) -> Picture {
    let (width, height) = (100, 70);
    let byte = |i: u32| ((i * 7 + seed) % 251) as u8;
    Picture::new(Size::new(width, height), (0..width * height * 4).map(byte).collect()).unwrap()
}

#[test]
fn the_same_settings_give_the_same_picture_and_others_another() {
    let gpu = Gpu::open(&GpuOptions::default()).unwrap();
    let case = Case::open(&case::names("img2img_lcm_guided")[0]);
    let mut engine = engine(&gpu, &case, DType::F16);
    let first = settings(&case);
    let picture = engine.img2img(&source(1), &first).unwrap();
    assert_eq!(picture.size(), first.size);
    assert!(picture.rgba().chunks_exact(4).all(|p| p[3] == 255));

    let others = [
        Settings { prompt: "night rain".into(), ..first.clone() },
        Settings { negative: "light".into(), ..first.clone() },
        Settings { seed: 1, ..first.clone() },
        Settings { steps: 1, ..first.clone() },
        Settings { strength: 0.4, ..first.clone() },
        Settings { guidance: 1.0, ..first.clone() },
        Settings { guidance: 3.0, ..first.clone() },
        Settings { sampler: Sampler::Euler, ..first.clone() },
        Settings { size: Size::new(40, 64), ..first.clone() },
    ];
    for other in others {
        let changed = engine.img2img(&source(1), &other).unwrap();
        assert_ne!(changed, picture, "{other:?}");
        assert_eq!(engine.img2img(&source(1), &first).unwrap(), picture, "after {other:?}");
    }
    assert_ne!(engine.img2img(&source(2), &first).unwrap(), picture);
}

#[test]
fn settings_that_cannot_be_used_are_errors_and_the_engine_goes_on() {
    let gpu = Gpu::open(&GpuOptions::default()).unwrap();
    let case = Case::open(&case::names("img2img_lcm_1")[0]);
    let mut engine = engine(&gpu, &case, DType::F32);
    let good = settings(&case);
    let picture = engine.img2img(&source(1), &good).unwrap();
    let bad = [
        (Settings { steps: 0, ..good.clone() }, "steps is 0"),
        (Settings { strength: f64::NAN, ..good.clone() }, "strength is NaN"),
        (Settings { strength: 1.5, ..good.clone() }, "strength is 1.5"),
        (Settings { guidance: f32::INFINITY, ..good.clone() }, "guidance is inf"),
        (Settings { guidance: -1.0, ..good.clone() }, "guidance is -1"),
        (Settings { size: Size::new(65, 64), ..good.clone() }, "64x64"),
        (Settings { size: Size::new(0, 64), ..good.clone() }, "8x64"),
        (Settings { prompt: "a".repeat(10 << 20), ..good.clone() }, "10485760 bytes"),
    ];
    for (settings, expected) in bad {
        let message = engine.img2img(&source(1), &settings).unwrap_err().to_string();
        assert!(message.contains(expected), "{message} lacks {expected}");
        assert_eq!(engine.img2img(&source(1), &good).unwrap(), picture);
    }
    let long = "rain ".repeat(500);
    assert!(engine.tokenize(&long).unwrap().cut > 0);
    assert!(engine.img2img(&source(1), &Settings { prompt: long, ..good }).is_ok());
}
