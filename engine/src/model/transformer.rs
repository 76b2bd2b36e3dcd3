//! `Transformer2DModel` and its blocks: self-attention, cross-attention, gated feed-forward.

use dreamglass_kernels::ops::{Attention, Linear, Norm};
use dreamglass_kernels::{Columns, KernelError, Param, PlanBuilder, Shape, Tensor};

use super::layers::{
    LAYER_NORM_EPS, group_norm_of, layer_norm_of, linear, linear_weight, linear_without_bias,
};
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
    let mut h = linear(&format!("{name}.proj_in"), x, c);
    h.norm = group_norm_of(&format!("{name}.norm"), c, frame.config.groups, ENTRY_NORM_EPS, false);
    let mut h = h.record(b)?;
    for i in 0..blocks {
        h = block(b, frame, &format!("{name}.transformer_blocks.{i}"), h, heads)?;
    }
    let mut y = linear(&format!("{name}.proj_out"), h, c);
    y.residual = Some(x);
    y.statistics = true;
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
    let norm = |index| layer_norm_of(&format!("{name}.norm{index}"), x.shape.c, LAYER_NORM_EPS);
    let x = self_attention(b, &format!("{name}.attn1"), norm(1), x, heads)?;
    let x = cross_attention(b, frame, &format!("{name}.attn2"), norm(2), x, heads)?;
    feed_forward(b, &format!("{name}.ff"), norm(3), x)
}

/// Self-attention over the normalised x, added to x `[N,H,W,C]`. q, k and v are one product.
fn self_attention(
    b: &mut PlanBuilder,
    name: &str,
    norm: Option<Norm>,
    x: Tensor,
    heads: u32,
) -> Result<Tensor, KernelError> {
    let c = x.shape.c;
    let weights = ["to_q", "to_k", "to_v"].map(|p| linear_weight(&format!("{name}.{p}"), c, c));
    let qkv = Linear { norm, ..Linear::new(x, Param::join(&weights)?) }.record(b)?;
    let h = Attention::new(part(qkv, 0, c), part(qkv, 1, c), part(qkv, 2, c), heads).record(b)?;
    project(b, name, h, x)
}

/// Attention of the normalised x over the prompt, added to x `[N,H,W,C]`. Keys and values are the input
/// `{name}.kv` `[N or 1, 1, T, 2C]`, which the prompt plan writes.
fn cross_attention(
    b: &mut PlanBuilder,
    frame: &Frame<'_>,
    name: &str,
    norm: Option<Norm>,
    x: Tensor,
    heads: u32,
) -> Result<Tensor, KernelError> {
    let c = x.shape.c;
    let shape = Shape::tokens(frame.prompt_rows, frame.tokens, 2 * c);
    let kv = frame.prompt(b, &format!("{name}.kv"), shape);
    let mut q = linear_without_bias(&format!("{name}.to_q"), x, c);
    q.norm = norm;
    let q = q.record(b)?;
    let h = Attention::new(q, part(kv, 0, c), part(kv, 1, c), heads).record(b)?;
    project(b, name, h, x)
}

/// `to_out` of an attention, with the residual x.
fn project(b: &mut PlanBuilder, name: &str, h: Tensor, x: Tensor) -> Result<Tensor, KernelError> {
    let mut y = linear(&format!("{name}.to_out.0"), h, x.shape.c);
    y.residual = Some(x);
    y.record(b)
}

/// GEGLU feed-forward of the normalised x with four times the channels inside, added to x `[N,H,W,C]`.
fn feed_forward(
    b: &mut PlanBuilder,
    name: &str,
    norm: Option<Norm>,
    x: Tensor,
) -> Result<Tensor, KernelError> {
    let c = x.shape.c;
    let mut h = linear(&format!("{name}.net.0.proj"), x, 8 * c);
    h.norm = norm;
    h.is_gated = true;
    let h = h.record(b)?;
    let mut y = linear(&format!("{name}.net.2"), h, c);
    y.residual = Some(x);
    y.record(b)
}
