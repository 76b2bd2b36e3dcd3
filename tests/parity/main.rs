//! Parity: networks and whole pictures against goldens that diffusers made.
//!
//! Weights are seeded, so a golden holds configs, inputs and outputs only. Every golden is run in
//! f32 and in f16 storage on the default adapter, with its own kernels and those of GPUs.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test stops at the first surprise")]

mod case;
mod damaged;
mod files;
mod int8;
mod kl;
mod loras;
mod pictures;
mod single;
mod strips;

use dreamglass_engine::model::{AutoencoderConfig, TextConfig, UnetConfig};
use dreamglass_engine::text::Tokenizer;
use dreamglass_engine::{Network, UnetInputs};
use dreamglass_kernels::gpu::{Gpu, GpuOptions};
use dreamglass_kernels::{DType, Tier};
use dreamglass_tests::{distance, weights};

use case::Case;

/// Largest relative L2 distance to the golden.
///
/// f32: both sides sum in f32 in different orders; over a UNet's depth that is 1e-6 to 1e-5, and
/// 1e-4 leaves room for the kernels' polynomial erf and exp2-based softmax. f16: storage has a
/// relative step of 2^-11 = 4.9e-4 and every layer rounds once more; independent roundings over
/// some hundred layers come to about ten steps.
fn tolerance(dtype: DType) -> f64 {
    if dtype == DType::F16 { 5e-3 } else { 1e-4 }
}

/// Runs `body` on every golden with `prefix` in both storage types; it returns named pairs of
/// (ours, golden). All differences are reported together.
fn compare(prefix: &str, body: impl Fn(&Gpu, &Case, DType) -> Vec<(String, Vec<f32>, Vec<f32>)>) {
    let names = case::names(prefix);
    assert!(!names.is_empty(), "no golden starts with {prefix}");
    let mut report = String::new();
    let mut passed = true;
    for gpu in gpus() {
        for case in names.iter().map(|name| Case::open(name)) {
            for dtype in [DType::F32, DType::F16] {
                for (what, ours, golden) in body(&gpu, &case, dtype) {
                    let (name, tier) = (&case.name, gpu.target().tier.name());
                    let distance = distance(&ours, &golden);
                    let fits = distance <= tolerance(dtype);
                    passed &= fits;
                    let verdict = if fits { "" } else { "  <- too far" };
                    report += &format!("{name} {tier} {dtype} {what}: {distance:.2e}{verdict}\n");
                }
            }
        }
    }
    assert!(passed, "\n{report}");
    // Shown with --nocapture.
    eprint!("{report}");
}

/// The default adapter with its own kernels, and with the tile kernels of GPUs where those differ.
fn gpus() -> Vec<Gpu> {
    let default = Gpu::open(&GpuOptions::default()).unwrap();
    let differs = default.target().tier != Tier::Tile;
    let options = GpuOptions { tier: Some(Tier::Tile), ..GpuOptions::default() };
    let tile = differs.then(|| Gpu::open(&options).unwrap());
    [Some(default), tile].into_iter().flatten().collect()
}

#[test]
fn unets() {
    compare("unet_", |gpu, case, dtype| {
        let unet = Network::<UnetConfig>::open(&case.files()).unwrap();
        let sample = case.tensor("unet.sample");
        let guidance = case.tensors.get("unet.timestep_cond").map(case::Stored::f32);
        let inputs = UnetInputs {
            size: sample.size(),
            sample: &sample.nhwc(),
            timesteps: &case.tensor("unet.timestep").f32(),
            text_embeddings: &case.tensor("unet.encoder_hidden_states").f32(),
            guidance: guidance.as_deref(),
        };
        let ours = unet.predict(gpu, dtype, inputs).unwrap();
        vec![("noise_pred".into(), ours, case.tensor("unet.noise_pred").nhwc())]
    });
}

#[test]
fn autoencoders() {
    compare("vae_", |gpu, case, dtype| {
        let vae = Network::<AutoencoderConfig>::open(&case.files()).unwrap();
        let image = case.tensor("vae_encoder.image");
        let latents = vae.encode(gpu, dtype, &image.nhwc(), image.size()).unwrap();
        let noisy = case.tensor("vae_decoder.latents");
        let picture = vae.decode(gpu, dtype, &noisy.nhwc(), noisy.size()).unwrap();
        vec![
            ("latents".into(), latents, case.tensor("vae_encoder.latents").nhwc()),
            ("image".into(), picture, case.tensor("vae_decoder.image").nhwc()),
        ]
    });
}

#[test]
fn text_encoders() {
    for prefix in ["text_", "img2img_"] {
        compare(prefix, |gpu, case, dtype| {
            let text = Network::<TextConfig>::open(&case.files()).unwrap();
            let ids = case.tensor("text_encoder.input_ids");
            let ours = text.encode(gpu, dtype, &ids.u32(), ids.shape[0] as u32).unwrap();
            vec![("hidden_states".into(), ours, case.tensor("text_encoder.hidden_states").f32())]
        });
    }
}

#[test]
fn prompts_become_the_same_tokens() {
    for name in [case::names("text_"), case::names("img2img_")].concat() {
        let case = Case::open(&name);
        let config = Network::<TextConfig>::open(&case.files()).unwrap().config().clone();
        let tokenizer = Tokenizer::open(&case.files(), config.max_tokens, config.vocab_size).unwrap();
        let ids = case.tensor("text_encoder.input_ids");
        for (row, golden) in ids.u32().chunks_exact(ids.shape[1]).enumerate() {
            let key = if row == 0 { "prompt".into() } else { format!("prompt_{row}") };
            let prompt = case.text(&key);
            assert_eq!(tokenizer.encode(prompt).unwrap().ids, golden, "{name}: {prompt:?}");
        }
    }
}

#[test]
fn every_stored_tensor_is_used() {
    let used = [
        "unet.sample",
        "unet.timestep",
        "unet.timestep_cond",
        "unet.encoder_hidden_states",
        "unet.noise_pred",
        "vae_encoder.image",
        "vae_encoder.latents",
        "vae_decoder.latents",
        "vae_decoder.image",
        "text_encoder.input_ids",
        "text_encoder.hidden_states",
        "img2img.image",
        "img2img.noise",
        "img2img.latents",
        "img2img.output",
        "lora.sample",
        "lora.encoder_hidden_states",
        "lora.base",
        "lora.attention",
        "lora.all",
        "lora.both",
    ];
    for name in case::names("") {
        for tensor in Case::open(&name).tensors.keys() {
            assert!(used.contains(&tensor.as_str()), "{name} stores {tensor}, which no test reads");
        }
    }
}

#[test]
fn seeded_weights_are_those_of_the_script() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/goldens/weights_vectors.json");
    let vectors: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let numbers = |v: &serde_json::Value| -> Vec<f64> {
        v.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect()
    };
    for vector in &vectors {
        let name = vector["name"].as_str().unwrap();
        for (index, expected) in numbers(&vector["values"]).into_iter().enumerate() {
            assert_eq!(weights::value(name, index as u64), expected as f32, "{name} {index}");
        }
        let shape: Vec<usize> = numbers(&vector["shape"]).into_iter().map(|d| d as usize).collect();
        let tensor = weights::tensor(name, &shape);
        for (ours, bits) in tensor.iter().zip(numbers(&vector["first_bits"])) {
            assert_eq!(f64::from(ours.to_bits()), bits, "{name}");
        }
    }
}
