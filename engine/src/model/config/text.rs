//! `CLIPTextModel`.

use dreamglass_kernels::ops::Activation;

use super::Fields;
use crate::error::EngineError;

/// What the text encoder's graph is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    /// Rows of the token embedding.
    pub vocab_size: u32,
    /// Channels.
    pub hidden_size: u32,
    /// Channels inside the feed-forward blocks.
    pub intermediate_size: u32,
    /// Transformer layers.
    pub layers: u32,
    /// Attention heads.
    pub heads: u32,
    /// Rows of the position embedding: the longest prompt in tokens.
    pub max_tokens: u32,
    /// Activation of the feed-forward blocks.
    pub activation: Activation,
    /// Epsilon of every layer normalisation.
    pub eps: f32,
}

impl TextConfig {
    /// Reads a `config.json`, `file` being its name in messages; a nested `text_config` is used.
    ///
    /// # Errors
    /// [`EngineError::Config`] naming the field, [`EngineError::Checkpoint`] when it is not JSON.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, EngineError> {
        let whole = Fields::parse(file, bytes)?;
        let f = whole.section("text_config").unwrap_or(whole);
        f.choice("model_type", "clip_text_model", &["clip_text_model", "clip"])?;
        let activation = match f.choice("hidden_act", "quick_gelu", &["quick_gelu", "gelu"])? {
            0 => Activation::QuickGelu,
            _ => Activation::Gelu,
        };
        let config = Self {
            vocab_size: f.count("vocab_size", Some(49_408), 1_000_000)?,
            hidden_size: f.count("hidden_size", Some(512), 8192)?,
            intermediate_size: f.count("intermediate_size", Some(2048), 65_536)?,
            layers: f.count("num_hidden_layers", Some(12), 128)?,
            heads: f.count("num_attention_heads", Some(8), 8192)?,
            max_tokens: f.count("max_position_embeddings", Some(77), 4096)?,
            activation,
            eps: f.positive("layer_norm_eps", 1e-5)? as f32,
        };
        let (c, heads) = (config.hidden_size, config.heads);
        if c % heads != 0 || (c / heads) % 4 != 0 || c / heads > 160 {
            let wanted = format!("a number of heads that splits {c} channels into multiples of 4 up to 160");
            return Err(f.error("num_attention_heads", wanted));
        }
        if config.max_tokens < 3 {
            return Err(f.error("max_position_embeddings", "at least 3"));
        }
        Ok(config)
    }
}
