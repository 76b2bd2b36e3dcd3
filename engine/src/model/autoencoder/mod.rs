//! Autoencoders: pictures to latents and back, by either kind of network.

mod kl;
mod tiny;

use dreamglass_kernels::ops::{Activation, Coefficients, LinearCombination, Term};
use dreamglass_kernels::{DType, KernelError, PlanBuilder, Tensor};

use super::config::{AutoencoderConfig, AutoencoderLayers};

/// Records the encoder: picture `[N,H,W,3]` in [−1, 1] to latents `[N,H/factor,W/factor,latent_channels]` in f32, not yet
/// scaled by `scaling_factor`. Activations are stored as `dtype`.
///
/// # Errors
/// [`KernelError`] of any op.
pub fn encoder(
    b: &mut PlanBuilder,
    config: &AutoencoderConfig,
    picture: Tensor,
    dtype: DType,
) -> Result<Tensor, KernelError> {
    match &config.layers {
        AutoencoderLayers::Tiny(layers) => tiny::encoder(b, config, layers, picture, dtype),
        AutoencoderLayers::Kl(layers) => kl::encoder(b, config, layers, picture, dtype),
    }
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
    match &config.layers {
        AutoencoderLayers::Tiny(layers) => tiny::decoder(b, config, layers, latents, scale, dtype),
        AutoencoderLayers::Kl(layers) => kl::decoder(b, config, layers, latents, scale, dtype),
    }
}

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
