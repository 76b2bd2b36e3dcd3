//! `UNet2DConditionModel`.

use super::Fields;
use crate::error::EngineError;

/// Widest layer that a config may ask for; the widest published UNet has 1280.
const MAX_CHANNELS: u32 = 8192;
/// Deepest stack of layers or blocks of a level.
const MAX_LAYERS: u32 = 64;
/// Levels of resolution; published UNets have three or four.
const MAX_LEVELS: usize = 8;

/// What the UNet's graph is made from. Lists have one entry per level, the finest first.
#[derive(Debug, Clone, PartialEq)]
pub struct UnetConfig {
    /// Channels of the sample.
    pub in_channels: u32,
    /// Channels of noise_pred.
    pub out_channels: u32,
    /// Channels of each level.
    pub channels: Vec<u32>,
    /// Whether each level's down block has transformers.
    pub down_attention: Vec<bool>,
    /// Whether each level's up block has transformers (the finest first, unlike diffusers).
    pub up_attention: Vec<bool>,
    /// Whether there is a mid block.
    pub mid_block: bool,
    /// Resnet blocks of each level's down block; its up block has one more.
    pub layers: Vec<u32>,
    /// Transformer blocks of each level's transformers.
    pub transformer_layers: Vec<u32>,
    /// Attention heads of each level.
    pub heads: Vec<u32>,
    /// Channels of the text embeddings that each level reads.
    pub cross_attention_dim: Vec<u32>,
    /// Groups of every group normalisation.
    pub groups: u32,
    /// Epsilon of the resnets' group normalisations.
    pub eps: f32,
    /// Cosines before sines in the timestep embedding.
    pub cos_first: bool,
    /// `downscale_freq_shift` of the timestep embedding.
    pub freq_shift: f32,
    /// Length of the time embedding.
    pub time_embed_dim: u32,
    /// Length of the guidance embedding, where the model has one.
    pub time_cond_proj_dim: Option<u32>,
    /// Latent cells along a side that the model was trained at.
    pub sample_size: Option<u32>,
}

impl UnetConfig {
    /// Reads a `config.json`, `file` being its name in messages.
    ///
    /// # Errors
    /// [`EngineError::Config`] naming the field, [`EngineError::Checkpoint`] when it is not JSON.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, EngineError> {
        let f = Fields::parse(file, bytes)?;
        refuse_unsupported(&f)?;
        let channels = f.list("block_out_channels", MAX_LEVELS, MAX_CHANNELS)?;
        let n = channels.len();
        let down = f.choices("down_block_types", &["DownBlock2D", "CrossAttnDownBlock2D"])?;
        let up = f.choices("up_block_types", &["UpBlock2D", "CrossAttnUpBlock2D"])?;
        for (field, blocks) in [("down_block_types", &down), ("up_block_types", &up)] {
            if blocks.len() != n {
                return Err(f.error(field, format!("{n} blocks, as many as block_out_channels")));
            }
        }
        let cond_dim = f.get("time_cond_proj_dim").map(|_| f.count("time_cond_proj_dim", None, MAX_CHANNELS));
        let sample_size = f.get("sample_size").map(|_| f.count("sample_size", None, 4096));
        let config = Self {
            in_channels: f.count("in_channels", Some(4), 64)?,
            out_channels: f.count("out_channels", Some(4), 64)?,
            down_attention: down.iter().map(|&kind| kind == 1).collect(),
            up_attention: up.iter().rev().map(|&kind| kind == 1).collect(),
            mid_block: mid_block(&f)?,
            layers: f.counts("layers_per_block", n, 2, MAX_LAYERS)?,
            transformer_layers: f.counts("transformer_layers_per_block", n, 1, MAX_LAYERS)?,
            heads: f.counts("attention_head_dim", n, 8, MAX_CHANNELS)?,
            cross_attention_dim: f.counts("cross_attention_dim", n, 1280, MAX_CHANNELS)?,
            groups: f.count("norm_num_groups", Some(32), MAX_CHANNELS)?,
            eps: f.positive("norm_eps", 1e-5)? as f32,
            cos_first: f.flag("flip_sin_to_cos", true)?,
            freq_shift: f.number("freq_shift", 0.0)? as f32,
            time_embed_dim: f.count("time_embedding_dim", Some(channels[0] * 4), 4 * MAX_CHANNELS)?,
            time_cond_proj_dim: cond_dim.transpose()?,
            sample_size: sample_size.transpose()?,
            channels,
        };
        config.check(&f)?;
        Ok(config)
    }

    /// Latents must be resized by every level but the last; odd sizes are rounded up.
    pub fn levels(&self) -> usize {
        self.channels.len()
    }

    fn check(&self, f: &Fields) -> Result<(), EngineError> {
        for (level, &c) in self.channels.iter().enumerate() {
            if c % self.groups != 0 || c % 4 != 0 {
                let wanted = format!("multiples of 4 and of norm_num_groups ({})", self.groups);
                return Err(f.error("block_out_channels", wanted));
            }
            let deepest = level + 1 == self.levels() && self.mid_block;
            let heads = self.heads[level];
            let fits = c % heads == 0 && (c / heads) % 4 == 0 && c / heads <= 160;
            if (self.down_attention[level] || self.up_attention[level] || deepest) && !fits {
                let wanted =
                    format!("numbers of heads that split {c} channels into multiples of 4 up to 160 each");
                return Err(f.error("attention_head_dim", wanted));
            }
        }
        if self.channels[0] % 2 != 0 {
            return Err(f.error("block_out_channels", "an even first entry"));
        }
        Ok(())
    }
}

fn mid_block(f: &Fields) -> Result<bool, EngineError> {
    if f.is_null("mid_block_type") {
        return Ok(false);
    }
    f.choice("mid_block_type", "UNetMidBlock2DCrossAttn", &["UNetMidBlock2DCrossAttn"]).map(|_| true)
}

/// Fields that would change the graph in ways that are not implemented.
fn refuse_unsupported(f: &Fields) -> Result<(), EngineError> {
    f.choice("_class_name", "UNet2DConditionModel", &["UNet2DConditionModel"])?;
    f.choice("act_fn", "silu", &["silu", "swish"])?;
    f.choice("time_embedding_type", "positional", &["positional"])?;
    f.choice("resnet_time_scale_shift", "default", &["default"])?;
    f.choice("attention_type", "default", &["default"])?;
    for field in ["conv_in_kernel", "conv_out_kernel"] {
        f.only(field, 3)?;
    }
    for field in ["mid_block_scale_factor", "downsample_padding", "resnet_out_scale_factor"] {
        f.only(field, 1)?;
    }
    for field in [
        "center_input_sample",
        "only_cross_attention",
        "mid_block_only_cross_attention",
        "dual_cross_attention",
        "resnet_skip_time_act",
        "class_embeddings_concat",
    ] {
        f.off(field)?;
    }
    for field in [
        "class_embed_type",
        "num_class_embeds",
        "addition_embed_type",
        "encoder_hid_dim",
        "encoder_hid_dim_type",
        "num_attention_heads",
        "time_embedding_act_fn",
        "timestep_post_act",
        "cross_attention_norm",
        "reverse_transformer_layers_per_block",
    ] {
        f.absent(field)?;
    }
    Ok(())
}
