//! What the UNet needs from prompt and timestep, computed outside the frame.
//!
//! The keys and values of every cross-attention depend on the prompt only; the projections of the
//! time embedding depend on the timestep (and guidance embedding) only. Each is the output of a
//! plan here and an input of the UNet's plan under the same name.

use dreamglass_kernels::ops::{Activation, Linear, TimestepEmbedding};
use dreamglass_kernels::{DType, KernelError, Param, PlanBuilder, Tensor};

use super::config::UnetConfig;
use super::layers::{linear, linear_weight, linear_without_bias};

/// A place where the UNet reads conditioning: its name, channels, and channels of what is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Checkpoint name of the layer.
    pub name: String,
    /// Channels of the layer.
    pub channels: u32,
    /// Channels of the conditioning that it reads.
    pub source_channels: u32,
}

impl UnetConfig {
    /// Every resnet block, in no particular order: `{name}.time_emb_proj` projects the time embedding.
    pub fn resnets(&self) -> Vec<Site> {
        let site = |name, level: usize| Site {
            name,
            channels: self.channels[level],
            source_channels: self.time_embed_dim,
        };
        let mut sites = Vec::new();
        for (level, &layers) in self.layers.iter().enumerate() {
            let up = self.levels() - 1 - level;
            sites.extend((0..layers).map(|i| site(format!("down_blocks.{level}.resnets.{i}"), level)));
            sites.extend((0..=layers).map(|i| site(format!("up_blocks.{up}.resnets.{i}"), level)));
        }
        if self.mid_block {
            sites.extend((0..2).map(|i| site(format!("mid_block.resnets.{i}"), self.levels() - 1)));
        }
        sites
    }
    /// Every cross-attention: `{name}.to_k` and `{name}.to_v` read the text embeddings.
    pub fn cross_attentions(&self) -> Vec<Site> {
        let mut sites = Vec::new();
        let mut add = |transformer: String, level: usize| {
            sites.extend((0..self.transformer_layers[level]).map(|block| Site {
                name: format!("{transformer}.transformer_blocks.{block}.attn2"),
                channels: self.channels[level],
                source_channels: self.cross_attention_dim[level],
            }));
        };
        for (level, &layers) in self.layers.iter().enumerate() {
            let up = self.levels() - 1 - level;
            if self.down_attention[level] {
                (0..layers).for_each(|i| add(format!("down_blocks.{level}.attentions.{i}"), level));
            }
            if self.up_attention[level] {
                (0..=layers).for_each(|i| add(format!("up_blocks.{up}.attentions.{i}"), level));
            }
        }
        if self.mid_block {
            add("mid_block.attentions.0".into(), self.levels() - 1);
        }
        sites
    }
}

/// Records the prompt's part: text embeddings `[N,1,T,C]` to one output `{prefix}{site}.kv`
/// `[N,1,T,2·channels]` per cross-attention, keys before values, in the storage type of the input.
///
/// # Errors
/// [`KernelError`] of any op.
pub fn prompt(
    b: &mut PlanBuilder,
    config: &UnetConfig,
    text_embeddings: Tensor,
    prefix: &str,
) -> Result<(), KernelError> {
    for site in config.cross_attentions() {
        b.push_scope(&site.name);
        let weights = ["to_k", "to_v"]
            .map(|p| linear_weight(&format!("{}.{p}", site.name), site.channels, site.source_channels));
        let kv = Linear::new(text_embeddings, Param::join(&weights)?).record(b)?;
        b.output(&format!("{prefix}{}.kv", site.name), kv)?;
        b.pop_scope();
    }
    Ok(())
}

/// Records the timestep's part: timestep `[N,1,1,1]` f32 and, where the model has a guidance
/// embedding, guidance `[N,1,1,time_cond_proj_dim]` f32 to one output `{prefix}{site}.time_emb_proj`
/// `[N,1,1,channels]` of `dtype` per resnet block. The embedding itself is computed in f32.
///
/// # Errors
/// [`KernelError`] of any op.
pub fn time(
    b: &mut PlanBuilder,
    config: &UnetConfig,
    timestep: Tensor,
    guidance: Option<Tensor>,
    prefix: &str,
    dtype: DType,
) -> Result<(), KernelError> {
    b.push_scope("time_embedding");
    let mut h = TimestepEmbedding {
        values: timestep,
        dim: config.channels[0],
        cos_first: config.cos_first,
        shift: config.freq_shift,
        scale: 1.0,
        out_dtype: DType::F32,
    }
    .record(b)?;
    if let Some(guidance) = guidance {
        let mut y = linear_without_bias("time_embedding.cond_proj", guidance, h.shape.c);
        y.residual = Some(h);
        h = y.record(b)?;
    }
    // Every resnet block starts with SiLU of the embedding, so it is fused into the last product.
    for layer in ["time_embedding.linear_1", "time_embedding.linear_2"] {
        let mut y = linear(layer, h, config.time_embed_dim);
        y.activation = Activation::Silu;
        // The projections that follow hold most of the weights and are stored like the rest.
        y.out_dtype = Some(if layer.ends_with('2') { dtype } else { DType::F32 });
        h = y.record(b)?;
    }
    b.pop_scope();
    for site in config.resnets() {
        let name = format!("{}.time_emb_proj", site.name);
        b.push_scope(&site.name);
        let y = linear(&name, h, site.channels).record(b)?;
        b.output(&format!("{prefix}{name}"), y)?;
        b.pop_scope();
    }
    Ok(())
}
