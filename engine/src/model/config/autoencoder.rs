//! `AutoencoderTiny` and `AutoencoderKL`.

use super::Fields;
use crate::error::EngineError;

/// Most levels of resolution.
const MAX_LEVELS: usize = 6;
/// Widest layer.
const MAX_CHANNELS: u32 = 8192;
/// Widest head that attention has kernels for, and that of every published AutoencoderKL: its mid block has one.
const MAX_HEAD: u32 = 512;
/// Resnet blocks in all; the published have 22 (see `UnetConfig`).
const MAX_RESNETS: u32 = 256;
/// The scaling factor of SDXL's autoencoder, which is of the same shape as that of SD 1.x and 2.x.
const SDXL_SCALING: f64 = 0.13025;

/// What an autoencoder's graph is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct AutoencoderConfig {
    /// Channels of the latents.
    pub latent_channels: u32,
    /// Factor from encoded to diffusion latents.
    pub scaling_factor: f64,
    /// Largest tensor of a tiny one's finest level in bytes, [`STRIP_BYTES`]; larger ones are made in strips. Not in
    /// the file.
    pub strip_bytes: u64,
    /// Its kind, and the sizes of its layers.
    pub layers: AutoencoderLayers,
}

/// Layers of either kind of autoencoder.
#[derive(Debug, Clone, PartialEq)]
pub enum AutoencoderLayers {
    /// `AutoencoderTiny`.
    Tiny(TinyLayers),
    /// `AutoencoderKL`.
    Kl(KlLayers),
}

/// Layers of an `AutoencoderTiny`.
#[derive(Debug, Clone, PartialEq)]
pub struct TinyLayers {
    /// Channels of every layer of the encoder.
    pub encoder_channels: u32,
    /// Channels of every layer of the decoder.
    pub decoder_channels: u32,
    /// Blocks of each level of the encoder, the finest first.
    pub encoder_blocks: Vec<u32>,
    /// Blocks of each level of the decoder, the coarsest first.
    pub decoder_blocks: Vec<u32>,
}

/// Layers of an `AutoencoderKL`.
#[derive(Debug, Clone, PartialEq)]
pub struct KlLayers {
    /// Channels of each level, the finest first.
    pub channels: Vec<u32>,
    /// Resnet blocks of each level of the encoder; the decoder has one more.
    pub resnets: u32,
    /// Groups of every group normalisation.
    pub groups: u32,
    /// Whether the mid blocks have an attention.
    pub mid_attention: bool,
    /// Whether a 1×1 convolution follows the encoder.
    pub quant_conv: bool,
    /// Whether one comes before the decoder.
    pub post_quant_conv: bool,
}

/// 512×512 pixels of 64 channels in f16 take two strips.
pub const STRIP_BYTES: u64 = 16 << 20;

impl AutoencoderConfig {
    /// Reads a `config.json`, `file` being its name in messages.
    ///
    /// # Errors
    /// [`EngineError::Config`] naming the field, [`EngineError::Checkpoint`] when it is not JSON.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, EngineError> {
        let f = Fields::parse(file, bytes)?;
        match f.choice("_class_name", "AutoencoderTiny", &["AutoencoderTiny", "AutoencoderKL"])? {
            0 => tiny(&f),
            _ => kl(&f),
        }
    }
    /// Pixels along the side of one latent cell.
    pub fn factor(&self) -> u32 {
        let levels = match &self.layers {
            AutoencoderLayers::Tiny(layers) => layers.encoder_blocks.len(),
            AutoencoderLayers::Kl(layers) => layers.channels.len(),
        };
        1 << (levels - 1)
    }
}

/// An `AutoencoderTiny`.
fn tiny(f: &Fields) -> Result<AutoencoderConfig, EngineError> {
    f.choice("act_fn", "relu", &["relu"])?;
    f.choice("upsample_fn", "nearest", &["nearest"])?;
    pictures(f)?;
    f.only("upsampling_scaling_factor", 2)?;
    let encoder_blocks = blocks(f, "num_encoder_blocks", &[1, 3, 3, 3])?;
    let decoder_blocks = blocks(f, "num_decoder_blocks", &[3, 3, 3, 1])?;
    if encoder_blocks.len() != decoder_blocks.len() {
        return Err(f.error("num_decoder_blocks", "as many levels as num_encoder_blocks"));
    }
    let n = encoder_blocks.len();
    Ok(AutoencoderConfig {
        latent_channels: f.count("latent_channels", Some(4), 64)?,
        scaling_factor: f.positive("scaling_factor", 1.0)?,
        strip_bytes: STRIP_BYTES,
        layers: AutoencoderLayers::Tiny(TinyLayers {
            encoder_channels: channels(f, "encoder_block_out_channels", n)?,
            decoder_channels: channels(f, "decoder_block_out_channels", n)?,
            encoder_blocks,
            decoder_blocks,
        }),
    })
}

/// An `AutoencoderKL`.
fn kl(f: &Fields) -> Result<AutoencoderConfig, EngineError> {
    f.choice("act_fn", "silu", &["silu"])?;
    pictures(f)?;
    f.absent("latents_mean")?;
    f.absent("latents_std")?;
    let layers = KlLayers {
        channels: f.list("block_out_channels", MAX_LEVELS, MAX_CHANNELS)?,
        resnets: f.count("layers_per_block", Some(1), 64)?,
        groups: f.count("norm_num_groups", Some(32), MAX_CHANNELS)?,
        mid_attention: f.flag("mid_block_add_attention", true)?,
        quant_conv: f.flag("use_quant_conv", true)?,
        post_quant_conv: f.flag("use_post_quant_conv", true)?,
    };
    let n = layers.channels.len();
    for (field, kind) in [("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")]
    {
        if f.choices(field, &[kind])?.len() != n {
            return Err(f.error(field, format!("{n} blocks, as many as block_out_channels")));
        }
    }
    if layers.channels.iter().any(|c| !c.is_multiple_of(layers.groups)) {
        return Err(f.error("norm_num_groups", "a number that divides every width in block_out_channels"));
    }
    let is_head = |c: &u32| *c <= MAX_HEAD && c.is_multiple_of(4);
    if layers.mid_attention && !layers.channels.last().is_some_and(is_head) {
        let expected =
            format!("a multiple of 4 up to {MAX_HEAD} on the last level, whose attention has one head");
        return Err(f.error("block_out_channels", expected));
    }
    if (2 * layers.resnets + 1) * n as u32 + 4 > MAX_RESNETS {
        return Err(f.error("layers_per_block", format!("at most {MAX_RESNETS} resnets in all")));
    }
    let scaling_factor = f.positive("scaling_factor", 0.18215)?;
    if (scaling_factor - SDXL_SCALING).abs() < 1e-6 {
        return Err(f.error("scaling_factor", "that of SD 1.x and 2.x (0.18215): latents of SDXL are others"));
    }
    Ok(AutoencoderConfig {
        latent_channels: f.count("latent_channels", Some(4), 64)?,
        scaling_factor,
        strip_bytes: STRIP_BYTES,
        layers: AutoencoderLayers::Kl(layers),
    })
}

/// Pictures of three channels to latents around zero.
fn pictures(f: &Fields) -> Result<(), EngineError> {
    f.only("in_channels", 3)?;
    f.only("out_channels", 3)?;
    f.only("shift_factor", 0)
}

/// Blocks of each level; a level may have none.
fn blocks(f: &Fields, field: &str, default: &[u32]) -> Result<Vec<u32>, EngineError> {
    let Some(value) = f.get(field) else { return Ok(default.to_vec()) };
    let whole = |v: &serde_json::Value| v.as_u64().filter(|&v| v <= 64).map(|v| v as u32);
    value
        .as_array()
        .filter(|list| (1..=MAX_LEVELS).contains(&list.len()))
        .and_then(|list| list.iter().map(whole).collect())
        .ok_or_else(|| f.error(field, format!("a list of 1..={MAX_LEVELS} whole numbers in 0..=64")))
}

/// The one width of all levels: diffusers' layers have no place where it could change.
fn channels(f: &Fields, field: &str, n: usize) -> Result<u32, EngineError> {
    let widths = f.counts(field, n, 64, MAX_CHANNELS)?;
    if widths.iter().any(|&w| w != widths[0]) {
        return Err(f.error(field, "the same width on every level"));
    }
    Ok(widths[0])
}
