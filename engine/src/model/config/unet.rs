//! `UNet2DConditionModel`.

use super::Fields;
use crate::error::EngineError;

/// Widest layer that a config may ask for; the widest published UNet has 1280.
const MAX_CHANNELS: u32 = 8192;
/// Deepest stack of layers or blocks of a level.
const MAX_LAYERS: u32 = 64;
/// Resnet and transformer blocks in all; the most that are published are some hundred (SDXL). A plan of more takes
/// gigabytes before the first missing weight is found.
const MAX_BLOCKS: u32 = 512;
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

    /// Number of levels; each but the last halves the size, rounding up.
    pub fn levels(&self) -> usize {
        self.channels.len()
    }

    fn check(&self, f: &Fields) -> Result<(), EngineError> {
        let blocks = self.layers.iter().zip(&self.transformer_layers);
        let blocks: u32 = blocks.map(|(layers, transformers)| (2 * layers + 1) * (1 + transformers)).sum();
        if blocks > MAX_BLOCKS {
            let wanted = format!("no more than {MAX_BLOCKS} blocks in all, transformer blocks included");
            return Err(f.error("layers_per_block", format!("{wanted}, not {blocks}")));
        }
        for (level, &c) in self.channels.iter().enumerate() {
            if c % self.groups != 0 || c % 4 != 0 {
                let wanted = format!("multiples of 4 and of norm_num_groups ({})", self.groups);
                return Err(f.error("block_out_channels", wanted));
            }
            let deepest = level + 1 == self.levels() && self.mid_block;
            let heads = self.heads[level];
            let fits = c % heads == 0 && (c / heads).is_multiple_of(4) && c / heads <= 160;
            if (self.down_attention[level] || self.up_attention[level] || deepest) && !fits {
                let wanted =
                    format!("numbers of heads that split {c} channels into multiples of 4 up to 160 each");
                return Err(f.error("attention_head_dim", wanted));
            }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;
    use serde_json::{Value, json};

    fn parse(changes: Value) -> Result<UnetConfig, EngineError> {
        let mut config = json!({
            "_class_name": "UNet2DConditionModel", "block_out_channels": [320, 640],
            "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
            "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"], "cross_attention_dim": 768,
        });
        for (field, value) in changes.as_object().unwrap() {
            config[field] = value.clone();
        }
        UnetConfig::parse("unet/config.json", config.to_string().as_bytes())
    }

    #[test]
    fn defaults_are_those_of_diffusers() {
        let config = parse(json!({})).unwrap();
        assert_eq!((config.groups, config.time_embed_dim, config.mid_block), (32, 1280, true));
        assert_eq!((config.layers, config.heads), (vec![2, 2], vec![8, 8]));
        assert_eq!((config.down_attention, config.up_attention), (vec![true, false], vec![true, false]));
        assert!(!parse(json!({"mid_block_type": null})).unwrap().mid_block);
        assert_eq!(parse(json!({"attention_head_dim": [5, 10]})).unwrap().heads, [5, 10]);
    }

    #[test]
    fn unsupported_values_are_named() {
        let cases = [
            (json!({"act_fn": "mish"}), "`act_fn` is \"mish\""),
            (json!({"class_embed_type": "timestep"}), "`class_embed_type` is \"timestep\""),
            (json!({"addition_embed_type": "text_time"}), "`addition_embed_type`"),
            (json!({"only_cross_attention": [true, false]}), "`only_cross_attention`"),
            (json!({"dual_cross_attention": true}), "`dual_cross_attention` is true"),
            (json!({"resnet_time_scale_shift": "scale_shift"}), "`resnet_time_scale_shift`"),
            (json!({"down_block_types": ["DownBlock2D", "AttnDownBlock2D"]}), "`down_block_types`"),
            (json!({"up_block_types": ["UpBlock2D"]}), "`up_block_types`"),
            (json!({"mid_block_type": "UNetMidBlock2D"}), "`mid_block_type`"),
            (json!({"layers_per_block": 60, "transformer_layers_per_block": 60}), "512 blocks in all"),
            (json!({"conv_in_kernel": 1}), "`conv_in_kernel` is 1"),
            (json!({"block_out_channels": [320, 1000000000]}), "`block_out_channels`"),
            (json!({"block_out_channels": [33, 64]}), "norm_num_groups"),
            (json!({"layers_per_block": 100000}), "`layers_per_block` is 100000"),
            (json!({"layers_per_block": [2]}), "or 2 of them"),
            (json!({"attention_head_dim": 7}), "`attention_head_dim`"),
            (json!({"attention_head_dim": 1}), "160"),
            (json!({"norm_num_groups": 0}), "`norm_num_groups` is 0"),
            (json!({"norm_eps": "small"}), "`norm_eps`"),
            (json!({"cross_attention_dim": -3}), "`cross_attention_dim` is -3"),
        ];
        for (change, expected) in cases {
            let message = parse(change).unwrap_err().to_string();
            assert!(message.starts_with("unet/config.json: field"), "{message}");
            assert!(message.contains(expected), "{message} lacks {expected}");
        }
    }

    #[test]
    fn sites_cover_every_block_once() {
        let config = parse(json!({"layers_per_block": [1, 2]})).unwrap();
        assert_eq!(config.resnets().len(), (1 + 2) + (2 + 3) + 2);
        assert_eq!(config.cross_attentions().len(), 1 + 2 + 1);
        assert!(UnetConfig::parse("x", b"[]").is_err());
        assert!(UnetConfig::parse("x", b"{").is_err());
    }
}
