//! `AutoencoderTiny`: pictures to latents and back.

use dreamglass_kernels::ops::{Activation, Coefficients, LinearCombination, Term};
use dreamglass_kernels::{DType, KernelError, PlanBuilder, Tensor};

use super::config::AutoencoderConfig;
use super::layers::{conv3, conv3_without_bias};

/// `act(factor·x + offset)` in storage type `out_dtype`.
fn affine(
    b: &mut PlanBuilder,
    x: Term,
    factor: f32,
    offset: f32,
    activation: Activation,
    out_dtype: DType,
) -> Result<Tensor, KernelError> {
    let coefficients = Coefficients::Constant(vec![factor]);
    LinearCombination { terms: vec![x], coefficients, offset, activation, out_dtype }.record(b)
}

/// Records the encoder: picture `[N,H,W,3]` in [−1, 1] to latents
/// `[N,H/factor,W/factor,latent_channels]` in f32, not yet scaled by `scaling_factor`. Activations
/// are stored as `dtype`.
///
/// # Errors
/// [`KernelError`] of any op.
pub fn encoder(
    b: &mut PlanBuilder,
    config: &AutoencoderConfig,
    picture: Tensor,
    dtype: DType,
) -> Result<Tensor, KernelError> {
    b.push_scope("encoder");
    // The network was trained on [0, 1].
    let mut x = affine(b, picture.into(), 0.5, 0.5, Activation::None, dtype)?;
    let c = config.encoder_channels;
    let mut layer = Layers::new("encoder");
    for (level, &blocks) in config.encoder_blocks.iter().enumerate() {
        x = if level == 0 {
            conv3(&layer.next(), x, c).record(b)?
        } else {
            let mut down = conv3_without_bias(&layer.next(), x, c);
            down.stride = 2;
            down.record(b)?
        };
        for _ in 0..blocks {
            x = block(b, &layer.next(), x)?;
        }
    }
    let mut latents = conv3(&layer.next(), x, config.latent_channels);
    latents.out_dtype = Some(DType::F32);
    let latents = latents.record(b)?;
    b.pop_scope();
    Ok(latents)
}

/// Records the decoder: latents `[N,h,w,latent_channels]`, or one row of them, that are `scale` times the encoder's
/// to picture `[N,h·factor,w·factor,3]` in [−1, 1] (not clamped) in f32.
///
/// # Errors
/// [`KernelError`] of any op.
pub fn decoder(
    b: &mut PlanBuilder,
    config: &AutoencoderConfig,
    latents: Term,
    scale: f32,
    dtype: DType,
) -> Result<Tensor, KernelError> {
    b.push_scope("decoder");
    let mut x = affine(b, latents, 1.0 / scale, 0.0, Activation::SoftClamp3, dtype)?;
    let c = config.decoder_channels;
    let mut layer = Layers::new("decoder");
    let mut first = conv3(&layer.next(), x, c);
    first.activation = Activation::Relu;
    x = first.record(b)?;
    let _activation = layer.next();
    let last = config.decoder_blocks.len() - 1;
    for (level, &blocks) in config.decoder_blocks.iter().enumerate() {
        for _ in 0..blocks {
            x = block(b, &layer.next(), x)?;
        }
        if level < last {
            let _upsample = layer.next();
            let mut up = conv3_without_bias(&layer.next(), x, c);
            up.upsample = Some([x.shape.h * 2, x.shape.w * 2]);
            x = up.record(b)?;
        }
    }
    let mut picture = conv3(&layer.next(), x, 3);
    picture.activation = Activation::Signed;
    picture.out_dtype = Some(DType::F32);
    let picture = picture.record(b)?;
    b.pop_scope();
    Ok(picture)
}

/// `AutoencoderTinyBlock`: three convolutions, the residual, ReLU; `[N,H,W,C]` to the same.
fn block(b: &mut PlanBuilder, name: &str, x: Tensor) -> Result<Tensor, KernelError> {
    let mut h = x;
    for index in [0, 2, 4] {
        let mut conv = conv3(&format!("{name}.conv.{index}"), h, x.shape.c);
        conv.activation = Activation::Relu;
        conv.residual = (index == 4).then_some(x);
        h = conv.record(b)?;
    }
    Ok(h)
}

/// Names of a `Sequential`'s layers in order, those without weights included.
struct Layers {
    prefix: &'static str,
    next: u32,
}

impl Layers {
    fn new(prefix: &'static str) -> Self {
        Self { prefix, next: 0 }
    }
    fn next(&mut self) -> String {
        let name = format!("{}.layers.{}", self.prefix, self.next);
        self.next += 1;
        name
    }
}
