//! Networks with weights as bytes against the goldens: what quantisation costs.

use dreamglass_engine::model::{AutoencoderConfig, TextConfig, UnetConfig};
use dreamglass_engine::{Engine, EngineOptions, Network, UnetInputs, WeightStorage};
use dreamglass_kernels::gpu::Gpu;
use dreamglass_kernels::{DType, Tier};
use dreamglass_tests::distance;

use crate::case::{self, Case, Stored};
use crate::{gpus, pictures};

/// Largest relative L2 distance to the golden.
///
/// A weight is off by a step of 1/127 of its channel's largest, evenly spread: by 1/127/√12 = 2.3e-3 of that. Of
/// weights spread evenly that is 4e-3 of a product, of normal ones 7e-3. Products add up independently over a
/// network's depth, but for what residuals carry past them.
const TOLERANCE: f64 = 3e-2;

/// Runs `body` on the goldens with `prefix`, on each tier in the storage type that it has by default.
fn compare(prefix: &str, body: impl Fn(&Gpu, &Case, DType) -> Vec<(Vec<f32>, Vec<f32>)>) {
    let (mut report, mut passed) = (String::new(), true);
    let names = case::names(prefix);
    assert!(!names.is_empty(), "no golden starts with {prefix}");
    for gpu in gpus() {
        let tier = gpu.target().tier;
        let dtype = if tier == Tier::Lane { DType::F32 } else { DType::F16 };
        for case in names.iter().map(|name| Case::open(name)) {
            for (ours, golden) in body(&gpu, &case, dtype) {
                let distance = distance(&ours, &golden);
                // Less than f16's own rounding: nothing would have been quantised.
                let fits = (1e-3..=TOLERANCE).contains(&distance);
                passed &= fits;
                let verdict = if fits { "" } else { "  <- outside" };
                report += &format!(
                    "{} {} {dtype}, int8 weights: {distance:.2e}{verdict}\n",
                    case.name,
                    tier.name()
                );
            }
        }
    }
    assert!(passed, "\n{report}");
    eprint!("{report}");
}

#[test]
fn unets_with_int8_weights() {
    compare("unet_", |gpu, case, dtype| {
        let unet = Network::<UnetConfig>::open(&case.files()).unwrap().stored(WeightStorage::Int8);
        let sample = case.tensor("unet.sample");
        let guidance = case.tensors.get("unet.timestep_cond").map(Stored::f32);
        let inputs = UnetInputs {
            size: sample.size(),
            sample: &sample.nhwc(),
            timesteps: &case.tensor("unet.timestep").f32(),
            text_embeddings: &case.tensor("unet.encoder_hidden_states").f32(),
            guidance: guidance.as_deref(),
        };
        vec![(unet.predict(gpu, dtype, inputs).unwrap(), case.tensor("unet.noise_pred").nhwc())]
    });
}

#[test]
fn autoencoders_with_int8_weights() {
    for prefix in ["vae_default", "vae_latents8", "vae_uneven"] {
        compare(prefix, |gpu, case, dtype| {
            let vae = Network::<AutoencoderConfig>::open(&case.files()).unwrap().stored(WeightStorage::Int8);
            let image = case.tensor("vae_encoder.image");
            let latents = vae.encode(gpu, dtype, &image.nhwc(), image.size()).unwrap();
            let noisy = case.tensor("vae_decoder.latents");
            let picture = vae.decode(gpu, dtype, &noisy.nhwc(), noisy.size()).unwrap();
            vec![
                (latents, case.tensor("vae_encoder.latents").nhwc()),
                (picture, case.tensor("vae_decoder.image").nhwc()),
            ]
        });
    }
}

#[test]
fn text_encoders_with_int8_weights() {
    compare("text_", |gpu, case, dtype| {
        let text = Network::<TextConfig>::open(&case.files()).unwrap().stored(WeightStorage::Int8);
        let ids = case.tensor("text_encoder.input_ids");
        let ours = text.encode(gpu, dtype, &ids.u32(), ids.shape[0] as u32).unwrap();
        vec![(ours, case.tensor("text_encoder.hidden_states").f32())]
    });
}

#[test]
fn pictures_with_int8_weights() {
    compare("img2img_lcm", |gpu, case, dtype| {
        let options = EngineOptions { dtype, weights: WeightStorage::Int8, ..Default::default() };
        let mut engine = Engine::load(gpu, &case.files(), &options).unwrap();
        let noise = case.tensor("img2img.noise");
        let values = noise.nhwc();
        let noises: Vec<Vec<f32>> =
            values.chunks_exact(values.len() / noise.shape[0]).map(<[f32]>::to_vec).collect();
        let image = case.tensor("img2img.image").nhwc();
        let trace = engine.img2img_tensors(&image, &noises, &pictures::settings(case)).unwrap();
        vec![(trace.picture, case.tensor("img2img.output").nhwc())]
    });
}
