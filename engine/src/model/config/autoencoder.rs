//! `AutoencoderTiny`.

use super::Fields;
use crate::error::EngineError;

/// What the tiny autoencoder's graph is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct AutoencoderConfig {
    /// Channels of the latents.
    pub latent_channels: u32,
    /// Channels of every layer of the encoder.
    pub encoder_channels: u32,
    /// Channels of every layer of the decoder.
    pub decoder_channels: u32,
    /// Blocks of each level of the encoder, the finest first.
    pub encoder_blocks: Vec<u32>,
    /// Blocks of each level of the decoder, the coarsest first.
    pub decoder_blocks: Vec<u32>,
    /// Factor from encoded to diffusion latents.
    pub scaling_factor: f64,
    /// Largest tensor of the finest level in bytes, [`STRIP_BYTES`]; larger ones are made in strips. Not in the
    /// file.
    pub strip_bytes: u64,
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
        if f.get("_class_name").is_some_and(|class| class == "AutoencoderKL") {
            let wanted = "AutoencoderTiny: one of the same latents, such as TAESD, can take its place";
            return Err(f.error("_class_name", wanted));
        }
        f.choice("_class_name", "AutoencoderTiny", &["AutoencoderTiny"])?;
        f.choice("act_fn", "relu", &["relu"])?;
        f.choice("upsample_fn", "nearest", &["nearest"])?;
        f.only("in_channels", 3)?;
        f.only("out_channels", 3)?;
        f.only("upsampling_scaling_factor", 2)?;
        f.only("shift_factor", 0)?;
        let encoder_blocks = blocks(&f, "num_encoder_blocks", &[1, 3, 3, 3])?;
        let decoder_blocks = blocks(&f, "num_decoder_blocks", &[3, 3, 3, 1])?;
        if encoder_blocks.len() != decoder_blocks.len() {
            return Err(f.error("num_decoder_blocks", "as many levels as num_encoder_blocks"));
        }
        let n = encoder_blocks.len();
        Ok(Self {
            latent_channels: f.count("latent_channels", Some(4), 64)?,
            encoder_channels: channels(&f, "encoder_block_out_channels", n)?,
            decoder_channels: channels(&f, "decoder_block_out_channels", n)?,
            encoder_blocks,
            decoder_blocks,
            scaling_factor: f.positive("scaling_factor", 1.0)?,
            strip_bytes: STRIP_BYTES,
        })
    }
    /// Pixels along the side of one latent cell.
    pub fn factor(&self) -> u32 {
        1 << (self.encoder_blocks.len() - 1)
    }
}

/// Blocks of each of one to six levels; a level may have none.
fn blocks(f: &Fields, field: &str, default: &[u32]) -> Result<Vec<u32>, EngineError> {
    let Some(value) = f.get(field) else { return Ok(default.to_vec()) };
    let whole = |v: &serde_json::Value| v.as_u64().filter(|&v| v <= 64).map(|v| v as u32);
    value
        .as_array()
        .filter(|list| (1..=6).contains(&list.len()))
        .and_then(|list| list.iter().map(whole).collect())
        .ok_or_else(|| f.error(field, "a list of 1..=6 whole numbers in 0..=64"))
}

/// The one width of all levels: diffusers' layers have no place where it could change.
fn channels(f: &Fields, field: &str, n: usize) -> Result<u32, EngineError> {
    let widths = f.counts(field, n, 64, 8192)?;
    if widths.iter().any(|&w| w != widths[0]) {
        return Err(f.error(field, "the same width on every level"));
    }
    Ok(widths[0])
}
