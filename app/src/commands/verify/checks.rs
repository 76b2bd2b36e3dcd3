//! Each network, and the whole way, on the reference's inputs.

use anyhow::{Context, Result};
use dreamglass_engine::kernels::DType;
use dreamglass_engine::kernels::gpu::Gpu;
use dreamglass_engine::model::{AutoencoderConfig, TextConfig, UnetConfig};
use dreamglass_engine::{
    Engine, EngineOptions, ModelFiles, Network, Sampler, Settings, Size, StrengthRule, UnetInputs,
    WeightStorage,
};

use super::Comparison;
use super::reference::{Reference, Stored};
use crate::failure::bad_input;

/// What is checked.
pub struct Subject<'a> {
    pub gpu: &'a Gpu,
    pub files: &'a ModelFiles,
    pub dtype: DType,
    pub weights: WeightStorage,
}

/// Runs every check whose expected output is in the reference.
pub fn run(subject: &Subject<'_>, reference: &Reference) -> Result<Vec<Comparison>> {
    type Check = fn(&Subject<'_>, &Reference, &'static str, &Stored) -> Result<Comparison>;
    let checks: [(&'static str, Check); 5] = [
        ("text_encoder.hidden_states", text_encoder),
        ("vae_encoder.latents", encoder),
        ("vae_decoder.image", decoder),
        ("unet.noise_pred", unet),
        ("img2img.output", img2img),
    ];
    let mut comparisons = Vec::new();
    for (name, check) in checks {
        if let Some(expected) = reference.get(name) {
            comparisons.push(check(subject, reference, name, expected).context(name)?);
            subject.gpu.check()?;
        }
    }
    Ok(comparisons)
}

fn text_encoder(s: &Subject<'_>, r: &Reference, name: &'static str, expected: &Stored) -> Result<Comparison> {
    let ids = r.require("text_encoder.input_ids")?;
    let [n, _] = ids.shape[..] else { return Err(ids.error("[N,T]")) };
    let text = Network::<TextConfig>::open(s.files)?.stored(s.weights);
    let ours = text.encode(s.gpu, s.dtype, &ids.ids()?, n as u32)?;
    Comparison::new(name, &expected.shape, &ours, &expected.values)
}

fn encoder(s: &Subject<'_>, r: &Reference, name: &'static str, expected: &Stored) -> Result<Comparison> {
    let (image, size) = r.require("vae_encoder.image")?.nhwc()?;
    let ours = Network::<AutoencoderConfig>::open(s.files)?
        .stored(s.weights)
        .encode(s.gpu, s.dtype, &image, size)?;
    planes(name, expected, &ours)
}

fn decoder(s: &Subject<'_>, r: &Reference, name: &'static str, expected: &Stored) -> Result<Comparison> {
    let (latents, size) = r.require("vae_decoder.latents")?.nhwc()?;
    let ours = Network::<AutoencoderConfig>::open(s.files)?
        .stored(s.weights)
        .decode(s.gpu, s.dtype, &latents, size)?;
    planes(name, expected, &ours)
}

fn unet(s: &Subject<'_>, r: &Reference, name: &'static str, expected: &Stored) -> Result<Comparison> {
    let (sample, size) = r.require("unet.sample")?.nhwc()?;
    let timesteps = r.require("unet.timestep")?.per_row(size[0])?;
    let text_embeddings = &r.require("unet.encoder_hidden_states")?.values;
    let guidance = r.get("unet.timestep_cond").map(|g| g.values.as_slice());
    let inputs = UnetInputs { size, sample: &sample, timesteps: &timesteps, text_embeddings, guidance };
    let ours = Network::<UnetConfig>::open(s.files)?.stored(s.weights).predict(s.gpu, s.dtype, inputs)?;
    planes(name, expected, &ours)
}

fn img2img(s: &Subject<'_>, r: &Reference, name: &'static str, expected: &Stored) -> Result<Comparison> {
    let (image, [_, height, width]) = r.require("img2img.image")?.nhwc()?;
    let noise = r.require("img2img.noise")?;
    let (values, [n, ..]) = noise.nhwc()?;
    if n == 0 || values.is_empty() {
        return Err(noise.error("at least one noise"));
    }
    let noises: Vec<Vec<f32>> = values.chunks_exact(values.len() / n as usize).map(<[f32]>::to_vec).collect();
    let settings = settings(r, Size::new(width, height))?;
    let options = EngineOptions { dtype: s.dtype, weights: s.weights, ..Default::default() };
    let trace = Engine::load(s.gpu, s.files, &options)?.img2img_tensors(&image, &noises, &settings)?;
    planes(name, expected, &trace.picture)
}

/// The settings in the reference's metadata.
fn settings(r: &Reference, size: Size) -> Result<Settings> {
    let text =
        |key: &str| r.text(key).ok_or_else(|| bad_input(format!("the reference's metadata has no `{key}`")));
    let unknown = |key: &str, expected: &str, got: &str| {
        Err(bad_input(format!("metadata `{key}`: expected {expected}, got `{got}`")))
    };
    Ok(Settings {
        prompt: text("prompt")?.into(),
        negative: r.text("negative").unwrap_or_default().into(),
        steps: r.number("steps")?,
        strength: r.number("strength")?,
        guidance: r.number("guidance")?,
        size,
        sampler: match text("sampler")? {
            "lcm" => Sampler::Lcm,
            "euler" => Sampler::Euler,
            "tcd" => Sampler::Tcd,
            other => return unknown("sampler", "lcm, euler or tcd", other),
        },
        strength_rule: match r.text("strength_rule").unwrap_or("lcm") {
            "lcm" => StrengthRule::Lcm,
            "img2img" => StrengthRule::Img2Img,
            other => return unknown("strength_rule", "lcm or img2img", other),
        },
        eta: r.text("eta").map_or(Ok(Settings::default().eta), |_| r.number("eta"))?,
        ..Settings::default()
    })
}

/// Compares pictures or latents, ours in `[N,H,W,C]`.
fn planes(name: &'static str, expected: &Stored, ours: &[f32]) -> Result<Comparison> {
    if ours.len() != expected.values.len() {
        return Comparison::new(name, &expected.shape, ours, &expected.values);
    }
    Comparison::new(name, &expected.shape, &expected.like(ours)?, &expected.values)
}
