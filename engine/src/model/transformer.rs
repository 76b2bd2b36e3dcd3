//! `Transformer2DModel` and its blocks: self-attention, cross-attention, gated feed-forward.

use dreamglass_kernels::ops::{Attention, Geglu, Linear};
use dreamglass_kernels::{Columns, KernelError, Param, PlanBuilder, Shape, Tensor};

use super::layers::{LAYER_NORM_EPS, group_norm, layer_norm, linear, linear_weight};
use super::unet::Frame;

/// Epsilon of the normalisation at a transformer's entry (diffusers' `Transformer2DModel`).
const ENTRY_NORM_EPS: f32 = 1e-6;

/// Channel columns `index·c … (index+1)·c` of a fused projection.
pub(crate) fn part(tensor: Tensor, index: u32, c: u32) -> Columns {
    Columns { tensor, offset: index * c, c }
}

/// A transformer over the positions of x: norm, projection, `blocks` blocks, projection, residual.
///
/// Shapes: x and result `[N,H,W,C]`, each pixel a token.
pub(crate) fn transformer(
    b: &mut PlanBuilder,
    frame: &Frame<'_>,
    name: &str,
    x: Tensor,
    heads: u32,
    blocks: u32,
) -> Result<Tensor, KernelError> {
    let c = x.shape.c;
    b.push_scope(name);
    let h = group_norm(&format!("{name}.norm"), x, None, frame.config.groups, ENTRY_NORM_EPS).record(b)?;
    let mut h = linear(&format!("{name}.proj_in"), h, None, c).record(b)?;
    for i in 0..blocks {
        h = block(b, frame, &format!("{name}.transformer_blocks.{i}"), h, heads)?;
    }
    let mut y = linear(&format!("{name}.proj_out"), h, None, c);
    y.residual = Some(x);
    let y = y.record(b)?;
    b.pop_scope();
    Ok(y)
}

/// `BasicTransformerBlock` on `[N,H,W,C]`.
fn block(
    b: &mut PlanBuilder,
    frame: &Frame<'_>,
    name: &str,
    x: Tensor,
    heads: u32,
) -> Result<Tensor, KernelError> {
    let h = layer_norm(&format!("{name}.norm1"), x, LAYER_NORM_EPS).record(b)?;
    let x = self_attention(b, &format!("{name}.attn1"), h, x, heads)?;
    let h = layer_norm(&format!("{name}.norm2"), x, LAYER_NORM_EPS).record(b)?;
    let x = cross_attention(b, frame, &format!("{name}.attn2"), h, x, heads)?;
    let h = layer_norm(&format!("{name}.norm3"), x, LAYER_NORM_EPS).record(b)?;
    feed_forward(b, &format!("{name}.ff"), h, x)
}

/// Self-attention over h, added to x; both `[N,H,W,C]`. q, k and v are one product.
fn self_attention(
    b: &mut PlanBuilder,
    name: &str,
    h: Tensor,
    x: Tensor,
    heads: u32,
) -> Result<Tensor, KernelError> {
    let c = h.shape.c;
    let weights = ["to_q", "to_k", "to_v"].map(|p| linear_weight(&format!("{name}.{p}"), c, c));
    let qkv = Linear::new(h, Param::join(&weights)?).record(b)?;
    let h = Attention::new(part(qkv, 0, c), part(qkv, 1, c), part(qkv, 2, c), heads).record(b)?;
    project(b, name, h, x)
}

/// Attention of h over the prompt, added to x; both `[N,H,W,C]`. Keys and values are the input
/// `{name}.kv` `[N or 1, 1, T, 2C]`, which the prompt plan writes.
fn cross_attention(
    b: &mut PlanBuilder,
    frame: &Frame<'_>,
    name: &str,
    h: Tensor,
    x: Tensor,
    heads: u32,
) -> Result<Tensor, KernelError> {
    let c = h.shape.c;
    let shape = Shape::tokens(frame.prompt_rows, frame.tokens, 2 * c);
    let kv = frame.prompt(b, &format!("{name}.kv"), shape);
    let mut q = linear(&format!("{name}.to_q"), h, None, c);
    q.bias = None;
    let q = q.record(b)?;
    let h = Attention::new(q, part(kv, 0, c), part(kv, 1, c), heads).record(b)?;
    project(b, name, h, x)
}

/// `to_out` of an attention, with the residual x.
fn project(b: &mut PlanBuilder, name: &str, h: Tensor, x: Tensor) -> Result<Tensor, KernelError> {
    let mut y = linear(&format!("{name}.to_out.0"), h, None, x.shape.c);
    y.residual = Some(x);
    y.record(b)
}

/// GEGLU feed-forward of h with four times the channels inside, added to x; both `[N,H,W,C]`.
fn feed_forward(b: &mut PlanBuilder, name: &str, h: Tensor, x: Tensor) -> Result<Tensor, KernelError> {
    let c = h.shape.c;
    let h = linear(&format!("{name}.net.0.proj"), h, None, 8 * c).record(b)?;
    let h = Geglu { x: h }.record(b)?;
    let mut y = linear(&format!("{name}.net.2"), h, None, c);
    y.residual = Some(x);
    y.record(b)
}
