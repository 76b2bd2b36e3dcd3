//! The engine's plans: which part of a picture's way each holds, and the names where they meet.

use std::cell::RefCell;

use dreamglass_kernels::ops::{
    Activation, Coefficients, LinearCombination, Orientation, PictureIn, PictureOut, Term,
};
use dreamglass_kernels::{DType, KernelError, Plan, PlanBuilder, Shape, Target, Tensor};

use crate::frame::Size;
use crate::model::unet::{Frame, unet};
use crate::model::{AutoencoderConfig, TextConfig, UnetConfig, autoencoder, conditioning, text_encoder};

/// RGBA8 words of a picture.
pub(crate) const PIXELS: &str = "pixels";
/// A picture `[1,H,W,3]` in [−1, 1].
pub(crate) const PICTURE: &str = "picture";
/// Encoded latents, not scaled.
pub(crate) const LATENTS: &str = "latents";
/// The noise of the first sample.
pub(crate) const NOISE: &str = "noise";
/// Factors of latents and noise.
pub(crate) const START: &str = "start";
/// The sample x_t.
pub(crate) const SAMPLE: &str = "sample";
/// Factor of the sample as the UNet reads it.
pub(crate) const INPUT: &str = "input";
/// The UNet's output.
pub(crate) const NOISE_PRED: &str = "noise_pred";
/// Factors of sample, noise_pred, noise_pred of the negative prompt if guided, and step noise.
pub(crate) const STEP: &str = "step";
/// Noise added by a step.
pub(crate) const STEP_NOISE: &str = "step_noise";
/// The sample after a step.
pub(crate) const NEXT: &str = "next";
/// Token ids.
pub(crate) const IDS: &str = "ids";
/// The text encoder's output.
pub(crate) const TEXT_EMBEDDINGS: &str = "text_embeddings";
/// Timesteps.
pub(crate) const TIMESTEP: &str = "timestep";
/// Guidance embeddings.
pub(crate) const GUIDANCE: &str = "guidance";
/// Put before the names of the negative prompt's keys and values.
pub(crate) const NEGATIVE: &str = "negative.";

/// Where a picture comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Source {
    /// RGBA8 words, of which a region `[x, y, width, height]` is resized and turned.
    Pixels { size: Size, region: [f32; 4], orientation: Orientation },
    /// The tensor [`PICTURE`], already of the right size.
    Tensor,
}

/// `Σ factors·terms` in f32 storage, factors `[1,1,1,terms]` given under `name`.
fn combine(b: &mut PlanBuilder, name: &str, terms: Vec<Tensor>, out: DType) -> Result<Tensor, KernelError> {
    let factors = b.input(name, Shape::vector(terms[0].shape.n, terms.len() as u32), DType::F32);
    let coefficients = Coefficients::PerRow(factors.into());
    let terms = terms.into_iter().map(Term::from).collect();
    LinearCombination { terms, coefficients, offset: 0.0, activation: Activation::None, out_dtype: out }
        .record(b)
}

/// From a picture to the first sample: resize, encode, add noise.
pub(crate) fn begin(
    target: Target,
    vae: &AutoencoderConfig,
    size: Size,
    source: Source,
    dtype: DType,
) -> Result<Plan, KernelError> {
    let mut b = PlanBuilder::new(target);
    let picture = match source {
        Source::Tensor => b.input(PICTURE, Shape::new(1, size.height, size.width, 3), DType::F32),
        Source::Pixels { size: from, region, orientation } => {
            let pixels = b.input(PIXELS, Shape::new(1, from.height, from.width, 1), DType::U32);
            PictureIn { pixels, region, orientation, size: [size.height, size.width], out_dtype: DType::F32 }
                .record(&mut b)?
        }
    };
    let latents = autoencoder::encoder(&mut b, vae, picture, dtype)?;
    let noise = b.input(NOISE, latents.shape, DType::F32);
    let sample = combine(&mut b, START, vec![latents, noise], DType::F32)?;
    b.output(LATENTS, latents)?;
    b.output(SAMPLE, sample)?;
    Ok(b.finish())
}

/// One denoising step on latents of `shape`: the UNet, a second time for the negative prompt if
/// `guided`, and the scheduler's sum.
pub(crate) fn denoise(
    target: Target,
    config: &UnetConfig,
    shape: Shape,
    tokens: u32,
    guided: bool,
    dtype: DType,
) -> Result<Plan, KernelError> {
    let mut b = PlanBuilder::new(target);
    let sample = b.input(SAMPLE, shape, DType::F32);
    let x = combine(&mut b, INPUT, vec![sample], dtype)?;
    let inputs = RefCell::default();
    let pass =
        Frame { config, dtype, prompt_rows: shape.n, tokens, prefix: "", time_prefix: "", inputs: &inputs };
    let noise_pred = unet(&mut b, &pass, x)?;
    let mut terms = vec![sample, noise_pred];
    if guided {
        terms.push(unet(&mut b, &Frame { prefix: NEGATIVE, ..pass }, x)?);
    }
    terms.push(b.input(STEP_NOISE, shape, DType::F32));
    let next = combine(&mut b, STEP, terms, DType::F32)?;
    b.output(NOISE_PRED, noise_pred)?;
    b.output(NEXT, next)?;
    Ok(b.finish())
}

/// From the sample after a step to the sample of the next one: a copy on the device.
pub(crate) fn carry(target: Target, shape: Shape) -> Result<Plan, KernelError> {
    let mut b = PlanBuilder::new(target);
    let next = b.input(NEXT, shape, DType::F32);
    let coefficients = Coefficients::Constant(vec![1.0]);
    let activation = Activation::None;
    let copy = LinearCombination {
        terms: vec![next.into()],
        coefficients,
        offset: 0.0,
        activation,
        out_dtype: DType::F32,
    };
    let sample = copy.record(&mut b)?;
    b.output(SAMPLE, sample)?;
    Ok(b.finish())
}

/// From clean latents to a picture, as a tensor and as RGBA8 words.
pub(crate) fn end(
    target: Target,
    vae: &AutoencoderConfig,
    shape: Shape,
    scale: f32,
    dtype: DType,
) -> Result<Plan, KernelError> {
    let mut b = PlanBuilder::new(target);
    let latents = b.input(NEXT, shape, DType::F32);
    let picture = autoencoder::decoder(&mut b, vae, latents.into(), scale, dtype)?;
    let pixels = PictureOut { x: picture }.record(&mut b)?;
    b.output(PICTURE, picture)?;
    b.output(PIXELS, pixels)?;
    Ok(b.finish())
}

/// From a picture tensor of `shape` `[N,H,W,3]` to its latents, not scaled.
pub(crate) fn encode(
    target: Target,
    vae: &AutoencoderConfig,
    shape: Shape,
    dtype: DType,
) -> Result<Plan, KernelError> {
    let mut b = PlanBuilder::new(target);
    let picture = b.input(PICTURE, shape, DType::F32);
    let latents = autoencoder::encoder(&mut b, vae, picture, dtype)?;
    b.output(LATENTS, latents)?;
    Ok(b.finish())
}

/// From `n` rows of `tokens` ids to text embeddings.
pub(crate) fn text(
    target: Target,
    config: &TextConfig,
    prefix: &str,
    [n, tokens]: [u32; 2],
    dtype: DType,
) -> Result<Plan, KernelError> {
    let mut b = PlanBuilder::new(target);
    let ids = b.input(IDS, Shape::tokens(n, tokens, 1), DType::U32);
    let hidden = text_encoder::text_encoder(&mut b, config, prefix, ids, dtype)?;
    b.output(TEXT_EMBEDDINGS, hidden)?;
    Ok(b.finish())
}

/// From text embeddings of `shape` to the keys and values of every cross-attention.
pub(crate) fn prompt(
    target: Target,
    config: &UnetConfig,
    shape: Shape,
    prefix: &str,
    dtype: DType,
) -> Result<Plan, KernelError> {
    let mut b = PlanBuilder::new(target);
    let embeddings = b.input(TEXT_EMBEDDINGS, shape, dtype);
    conditioning::prompt(&mut b, config, embeddings, prefix)?;
    Ok(b.finish())
}

/// From `n` timesteps (and guidance embeddings) to every resnet block's time embedding, named with
/// `prefix`.
pub(crate) fn time(
    target: Target,
    config: &UnetConfig,
    n: u32,
    prefix: &str,
    dtype: DType,
) -> Result<Plan, KernelError> {
    let mut b = PlanBuilder::new(target);
    let timestep = b.input(TIMESTEP, Shape::vector(n, 1), DType::F32);
    let guidance = config.time_cond_proj_dim.map(|dim| b.input(GUIDANCE, Shape::vector(n, dim), DType::F32));
    conditioning::time(&mut b, config, timestep, guidance, prefix, dtype)?;
    Ok(b.finish())
}

pub(crate) mod live;

#[cfg(test)]
mod snapshots;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod work;
