//! `CLIPTextModel`: tokens to text embeddings.

use dreamglass_kernels::ops::{Attention, Embedding, Linear};
use dreamglass_kernels::{DType, KernelError, Param, PlanBuilder, Tensor};

use super::config::TextConfig;
use super::layers::{layer_norm, layer_norm_of, linear, linear_bias, linear_weight};
use super::transformer::part;

/// Records the text encoder: ids `[N,1,T,1]` u32 to the last hidden states after the final
/// normalisation `[N,1,T,hidden_size]` in `dtype`. `prefix` is `text_model.` or nothing: newer
/// checkpoints drop it.
///
/// # Errors
/// [`KernelError`] of any op.
pub fn text_encoder(
    b: &mut PlanBuilder,
    config: &TextConfig,
    prefix: &str,
    ids: Tensor,
    dtype: DType,
) -> Result<Tensor, KernelError> {
    let c = config.hidden_size;
    b.push_scope("text_encoder");
    let table = |name: &str, rows| Param::new(format!("{prefix}embeddings.{name}.weight"), &[rows, c]);
    let mut x = Embedding {
        ids,
        table: table("token_embedding", config.vocab_size),
        positions: Some(table("position_embedding", config.max_tokens)),
        out_dtype: dtype,
    }
    .record(b)?;
    for i in 0..config.layers {
        x = layer(b, config, &format!("{prefix}encoder.layers.{i}"), x)?;
    }
    let y = layer_norm(&format!("{prefix}final_layer_norm"), x, config.eps).record(b)?;
    b.pop_scope();
    Ok(y)
}

/// `CLIPEncoderLayer` on `[N,1,T,C]`: causal self-attention, then the feed-forward block.
fn layer(b: &mut PlanBuilder, config: &TextConfig, name: &str, x: Tensor) -> Result<Tensor, KernelError> {
    b.push_scope(name);
    let c = config.hidden_size;
    let projection = |p: &str| format!("{name}.self_attn.{p}_proj");
    let weights = ["q", "k", "v"].map(|p| linear_weight(&projection(p), c, c));
    let biases = ["q", "k", "v"].map(|p| linear_bias(&projection(p), c));
    let mut qkv = Linear::new(x, Param::join(&weights)?);
    qkv.norm = layer_norm_of(&format!("{name}.layer_norm1"), c, config.eps);
    qkv.bias = Some(Param::join(&biases)?);
    let qkv = qkv.record(b)?;
    let mut h = Attention::new(part(qkv, 0, c), part(qkv, 1, c), part(qkv, 2, c), config.heads);
    h.causal = true;
    let h = h.record(b)?;
    let mut y = linear(&projection("out"), h, c);
    y.residual = Some(x);
    let x = y.record(b)?;

    let mut h = linear(&format!("{name}.mlp.fc1"), x, config.intermediate_size);
    h.norm = layer_norm_of(&format!("{name}.layer_norm2"), c, config.eps);
    h.activation = config.activation;
    let h = h.record(b)?;
    let mut y = linear(&format!("{name}.mlp.fc2"), h, c);
    y.residual = Some(x);
    let y = y.record(b)?;
    b.pop_scope();
    Ok(y)
}
