//! Layers by checkpoint name: the ops with their weights filled in, to be completed by the caller.

use dreamglass_kernels::ops::{Conv2d, GroupNorm, LayerNorm, Linear};
use dreamglass_kernels::{Param, Tensor};

/// Epsilon of every layer normalisation in diffusers' transformer blocks (PyTorch's default).
pub(crate) const LAYER_NORM_EPS: f32 = 1e-5;

fn weight(name: &str, shape: &[u32]) -> Param {
    Param::new(format!("{name}.weight"), shape)
}

fn bias(name: &str, o: u32) -> Param {
    Param::new(format!("{name}.bias"), &[o])
}

/// A 3×3 convolution without bias from x `[N,H,W,C]` to `[N,H,W,o]`.
pub(crate) fn conv3_without_bias(name: &str, x: Tensor, o: u32) -> Conv2d {
    Conv2d::new(x, weight(name, &[o, x.shape.c, 3, 3]))
}

/// A 3×3 convolution from x `[N,H,W,C]` to `[N,H,W,o]`.
pub(crate) fn conv3(name: &str, x: Tensor, o: u32) -> Conv2d {
    Conv2d { bias: Some(bias(name, o)), ..conv3_without_bias(name, x, o) }
}

/// A linear layer without bias from `[N,H,W,C]` to `[N,H,W,o]`.
pub(crate) fn linear_without_bias(name: &str, x: Tensor, o: u32) -> Linear {
    Linear::new(x, weight(name, &[o, x.shape.c]))
}

/// A linear layer, or a 1×1 convolution, from x `[N,H,W,C]` and, joined behind it, x2
/// `[N,H,W,C2]` to `[N,H,W,o]`.
pub(crate) fn linear(name: &str, x: Tensor, x2: Option<Tensor>, o: u32) -> Linear {
    let channels = x.shape.c + x2.map_or(0, |t| t.shape.c);
    Linear { x2, bias: Some(bias(name, o)), ..Linear::new(x, weight(name, &[o, channels])) }
}

/// Layer normalisation over the channels of x.
pub(crate) fn layer_norm(name: &str, x: Tensor, eps: f32) -> LayerNorm {
    let c = x.shape.c;
    LayerNorm { x, weight: weight(name, &[c]), bias: bias(name, c), eps }
}

/// Group normalisation of x and, joined behind it, x2.
pub(crate) fn group_norm(name: &str, x: Tensor, x2: Option<Tensor>, groups: u32, eps: f32) -> GroupNorm {
    let c = x.shape.c + x2.map_or(0, |t| t.shape.c);
    GroupNorm { x2, ..GroupNorm::new(x, weight(name, &[c]), bias(name, c), groups, eps) }
}

/// The weight of a linear layer without its op, for fused projections.
pub(crate) fn linear_weight(name: &str, o: u32, i: u32) -> Param {
    weight(name, &[o, i])
}

/// The bias of a linear layer without its op, for fused projections.
pub(crate) fn linear_bias(name: &str, o: u32) -> Param {
    bias(name, o)
}
