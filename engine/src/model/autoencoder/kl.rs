//! `AutoencoderKL`: the large autoencoder of Stable Diffusion (Rombach et al., arXiv 2112.10752).
//!
//! Latents are the mean of the distribution that the encoder predicts. Its variance, the other half of what the last
//! layer computes, is left out: [`Network::open`](crate::Network) keeps the mean's half of the weights.

use dreamglass_kernels::ops::{Activation, Attention, Linear, Norm, Term};
use dreamglass_kernels::{DType, KernelError, Param, PlanBuilder, Tensor};

use super::affine;
use crate::model::config::{AutoencoderConfig, KlLayers};
use crate::model::layers::{conv3, group_norm_of, linear, linear_bias, linear_weight};
use crate::model::resnet::{self, GroupNorms};
use crate::model::transformer::part;

/// Epsilon of every group normalisation (diffusers' `Encoder` and `Decoder`).
const EPS: f32 = 1e-6;

/// Picture `[N,H,W,3]` to latents `[N,H/factor,W/factor,latent_channels]` in f32.
pub(super) fn encoder(
    b: &mut PlanBuilder,
    config: &AutoencoderConfig,
    layers: &KlLayers,
    picture: Tensor,
    dtype: DType,
) -> Result<Tensor, KernelError> {
    let picture = affine(b, picture.into(), 1.0, 0.0, Activation::None, dtype)?;
    let mut x = conv3("encoder.conv_in", picture, layers.channels[0]);
    x.statistics = true;
    let mut x = x.record(b)?;
    for level in 0..layers.channels.len() {
        x = down_block(b, layers, level, x)?;
    }
    let x = mid_block(b, layers, "encoder.mid_block", x)?;
    let latent_channels = config.latent_channels;
    let moments = if layers.quant_conv { 2 * latent_channels } else { latent_channels };
    let mut y = conv3("encoder.conv_out", x, moments);
    y.norm = norm(layers, "encoder.conv_norm_out", x.shape.c, true);
    y.out_dtype = Some(DType::F32);
    let y = y.record(b)?;
    if layers.quant_conv { linear("quant_conv", y, latent_channels).record(b) } else { Ok(y) }
}

/// Latents `[N,h,w,latent_channels]` times `scale` to picture `[N,h·factor,w·factor,3]` in f32.
pub(super) fn decoder(
    b: &mut PlanBuilder,
    config: &AutoencoderConfig,
    layers: &KlLayers,
    latents: Term,
    scale: f32,
    dtype: DType,
) -> Result<Tensor, KernelError> {
    let mut x = affine(b, latents, 1.0 / scale, 0.0, Activation::None, dtype)?;
    if layers.post_quant_conv {
        x = linear("post_quant_conv", x, config.latent_channels).record(b)?;
    }
    let levels = layers.channels.len();
    let mut x = conv3("decoder.conv_in", x, layers.channels[levels - 1]);
    x.statistics = true;
    let x = x.record(b)?;
    let mut x = mid_block(b, layers, "decoder.mid_block", x)?;
    for level in (0..levels).rev() {
        x = up_block(b, layers, level, x)?;
    }
    let mut picture = conv3("decoder.conv_out", x, 3);
    picture.norm = norm(layers, "decoder.conv_norm_out", x.shape.c, true);
    picture.out_dtype = Some(DType::F32);
    picture.record(b)
}

/// `DownEncoderBlock2D`: resnets, then a halving unless it is the coarsest level.
fn down_block(
    b: &mut PlanBuilder,
    layers: &KlLayers,
    level: usize,
    mut x: Tensor,
) -> Result<Tensor, KernelError> {
    let name = format!("encoder.down_blocks.{level}");
    for i in 0..layers.resnets {
        x = resnet(b, layers, &format!("{name}.resnets.{i}"), x, layers.channels[level])?;
    }
    if level + 1 == layers.channels.len() {
        return Ok(x);
    }
    // Padded like the network was trained: `(0, 1, 0, 1)`.
    let mut y = conv3(&format!("{name}.downsamplers.0.conv"), x, x.shape.c);
    y.stride = 2;
    y.pads_behind = true;
    y.statistics = true;
    y.record(b)
}

/// `UpDecoderBlock2D`: one resnet more than the down block of its level, then a doubling unless it is the finest.
fn up_block(
    b: &mut PlanBuilder,
    layers: &KlLayers,
    level: usize,
    mut x: Tensor,
) -> Result<Tensor, KernelError> {
    let name = format!("decoder.up_blocks.{}", layers.channels.len() - 1 - level);
    for i in 0..=layers.resnets {
        x = resnet(b, layers, &format!("{name}.resnets.{i}"), x, layers.channels[level])?;
    }
    if level == 0 {
        return Ok(x);
    }
    let doubled = [2 * x.shape.h, 2 * x.shape.w];
    resnet::upsample(b, &format!("{name}.upsamplers.0"), x, doubled)
}

/// `UNetMidBlock2D`: resnet, attention, resnet.
fn mid_block(b: &mut PlanBuilder, layers: &KlLayers, name: &str, x: Tensor) -> Result<Tensor, KernelError> {
    let c = x.shape.c;
    let mut x = resnet(b, layers, &format!("{name}.resnets.0"), x, c)?;
    if layers.mid_attention {
        x = attention(b, layers, &format!("{name}.attentions.0"), x)?;
    }
    resnet(b, layers, &format!("{name}.resnets.1"), x, c)
}

/// Self-attention of one head over the positions of x, added to x `[N,H,W,C]`. q, k and v are one product.
fn attention(b: &mut PlanBuilder, layers: &KlLayers, name: &str, x: Tensor) -> Result<Tensor, KernelError> {
    let c = x.shape.c;
    b.push_scope(name);
    let projections = ["to_q", "to_k", "to_v"].map(|p| format!("{name}.{p}"));
    let weights = projections.each_ref().map(|p| linear_weight(p, c, c));
    let biases = projections.each_ref().map(|p| linear_bias(p, c));
    let norm = norm(layers, &format!("{name}.group_norm"), c, false);
    let bias = Some(Param::join(&biases)?);
    let qkv = Linear { norm, bias, ..Linear::new(x, Param::join(&weights)?) }.record(b)?;
    let h = Attention::new(part(qkv, 0, c), part(qkv, 1, c), part(qkv, 2, c), 1).record(b)?;
    let mut y = linear(&format!("{name}.to_out.0"), h, c);
    y.residual = Some(x);
    y.statistics = true;
    let y = y.record(b)?;
    b.pop_scope();
    Ok(y)
}

/// `ResnetBlock2D` without a time embedding: x `[N,H,W,C]` to `[N,H,W,o]`.
fn resnet(
    b: &mut PlanBuilder,
    layers: &KlLayers,
    name: &str,
    x: Tensor,
    o: u32,
) -> Result<Tensor, KernelError> {
    resnet::resnet(b, GroupNorms { groups: layers.groups, eps: EPS }, name, None, x, None, o)
}

/// Group normalisation of `c` channels, for the layer that reads the result.
fn norm(layers: &KlLayers, name: &str, c: u32, silu: bool) -> Option<Norm> {
    group_norm_of(name, c, layers.groups, EPS, silu)
}
