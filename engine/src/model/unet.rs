//! `UNet2DConditionModel` for one denoising step.

use std::cell::RefCell;
use std::collections::HashMap;

use dreamglass_kernels::{DType, KernelError, PlanBuilder, Shape, Tensor};

use super::config::UnetConfig;
use super::layers::{conv3, group_norm_of};
use super::resnet::{self, GroupNorms, downsample, upsample};
use super::transformer::transformer;

/// Where the UNet meets its conditioning, and in which storage type it computes.
#[derive(Debug)]
pub struct Frame<'a> {
    /// The network.
    pub config: &'a UnetConfig,
    /// Storage type of activations and weights.
    pub dtype: DType,
    /// Batch rows of the prompt's keys and values: that of the sample, or 1 for all rows.
    pub prompt_rows: u32,
    /// Tokens of the prompt.
    pub tokens: u32,
    /// Put before the names of the prompt's inputs, so that one plan can hold two passes with a
    /// prompt each.
    pub prefix: &'static str,
    /// Put before the names of the time embeddings, so that one plan can hold several steps.
    pub time_prefix: &'a str,
    /// Inputs that were made already, by name: two passes share the time embeddings.
    pub inputs: &'a RefCell<HashMap<String, Tensor>>,
}

impl Frame<'_> {
    /// The time embedding `name` of this pass's step.
    pub(crate) fn time(&self, b: &mut PlanBuilder, name: &str, shape: Shape) -> Tensor {
        self.conditioning(b, &format!("{}{name}", self.time_prefix), shape)
    }
    /// The input `name`, shared by all passes.
    fn conditioning(&self, b: &mut PlanBuilder, name: &str, shape: Shape) -> Tensor {
        let mut inputs = self.inputs.borrow_mut();
        *inputs.entry(name.into()).or_insert_with(|| b.input(name, shape, self.dtype))
    }
    /// The input `name` of this pass's prompt.
    pub(crate) fn prompt(&self, b: &mut PlanBuilder, name: &str, shape: Shape) -> Tensor {
        self.conditioning(b, &format!("{}{name}", self.prefix), shape)
    }
}

/// Records the UNet: sample `[N,h,w,in_channels]` in the frame's storage type to noise_pred
/// `[N,h,w,out_channels]` in f32.
///
/// # Errors
/// [`KernelError`] of any op.
pub fn unet(b: &mut PlanBuilder, frame: &Frame<'_>, sample: Tensor) -> Result<Tensor, KernelError> {
    let config = frame.config;
    let mut x = conv3("conv_in", sample, config.channels[0]);
    x.statistics = true;
    let x = x.record(b)?;
    let mut skips = vec![x];
    let mut x = x;
    for level in 0..config.levels() {
        x = down_block(b, frame, level, x, &mut skips)?;
    }
    if config.mid_block {
        x = mid_block(b, frame, x)?;
    }
    for level in (0..config.levels()).rev() {
        x = up_block(b, frame, level, x, &mut skips)?;
    }
    let mut y = conv3("conv_out", x, config.out_channels);
    y.norm = group_norm_of("conv_norm_out", x.shape.c, config.groups, config.eps, true);
    y.out_dtype = Some(DType::F32);
    y.record(b)
}

/// `DownBlock2D` or `CrossAttnDownBlock2D`; every result is kept as a skip connection.
fn down_block(
    b: &mut PlanBuilder,
    frame: &Frame<'_>,
    level: usize,
    mut x: Tensor,
    skips: &mut Vec<Tensor>,
) -> Result<Tensor, KernelError> {
    let config = frame.config;
    let name = format!("down_blocks.{level}");
    for i in 0..config.layers[level] {
        x = resnet(b, frame, &format!("{name}.resnets.{i}"), x, None, config.channels[level])?;
        if config.down_attention[level] {
            x = attend(b, frame, &format!("{name}.attentions.{i}"), x, level)?;
        }
        skips.push(x);
    }
    if level + 1 < config.levels() {
        x = downsample(b, &format!("{name}.downsamplers.0"), x)?;
        skips.push(x);
    }
    Ok(x)
}

/// `UNetMidBlock2DCrossAttn`: resnet, transformer, resnet.
fn mid_block(b: &mut PlanBuilder, frame: &Frame<'_>, x: Tensor) -> Result<Tensor, KernelError> {
    let deepest = frame.config.levels() - 1;
    let c = frame.config.channels[deepest];
    let x = resnet(b, frame, "mid_block.resnets.0", x, None, c)?;
    let x = attend(b, frame, "mid_block.attentions.0", x, deepest)?;
    resnet(b, frame, "mid_block.resnets.1", x, None, c)
}

/// `UpBlock2D` or `CrossAttnUpBlock2D`: one resnet more than the down block of its level, each
/// joined with a skip connection; then a resize to the size of the next skip connection.
fn up_block(
    b: &mut PlanBuilder,
    frame: &Frame<'_>,
    level: usize,
    mut x: Tensor,
    skips: &mut Vec<Tensor>,
) -> Result<Tensor, KernelError> {
    let config = frame.config;
    let name = format!("up_blocks.{}", config.levels() - 1 - level);
    for i in 0..=config.layers[level] {
        let skip = skips.pop();
        x = resnet(b, frame, &format!("{name}.resnets.{i}"), x, skip, config.channels[level])?;
        if config.up_attention[level] {
            x = attend(b, frame, &format!("{name}.attentions.{i}"), x, level)?;
        }
    }
    match skips.last() {
        Some(next) if level > 0 => {
            upsample(b, &format!("{name}.upsamplers.0"), x, [next.shape.h, next.shape.w])
        }
        _ => Ok(x),
    }
}

/// The residual block `name` with its time embedding, the input `{name}.time_emb_proj`; x2 is the skip connection.
fn resnet(
    b: &mut PlanBuilder,
    frame: &Frame<'_>,
    name: &str,
    x: Tensor,
    x2: Option<Tensor>,
    o: u32,
) -> Result<Tensor, KernelError> {
    let norms = GroupNorms { groups: frame.config.groups, eps: frame.config.eps };
    let time = frame.time(b, &format!("{name}.time_emb_proj"), Shape::vector(x.shape.n, o));
    resnet::resnet(b, norms, name, Some(time), x, x2, o)
}

/// The transformer `name` with the heads and depth of its level.
fn attend(
    b: &mut PlanBuilder,
    frame: &Frame<'_>,
    name: &str,
    x: Tensor,
    level: usize,
) -> Result<Tensor, KernelError> {
    let config = frame.config;
    transformer(b, frame, name, x, config.heads[level], config.transformer_layers[level])
}
