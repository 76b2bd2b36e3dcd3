//! Layers by checkpoint name: the ops with their weights filled in, to be completed by the caller.

use dreamglass_kernels::ops::{Conv2d, LayerNorm, Linear, Norm, Shortcut};
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
    conv3_of_two(name, x, None, o)
}

/// A 3×3 convolution from x `[N,H,W,C]` and, joined behind it, x2 `[N,H,W,C2]` to `[N,H,W,o]`.
pub(crate) fn conv3_of_two(name: &str, x: Tensor, x2: Option<Tensor>, o: u32) -> Conv2d {
    let channels = x.shape.c + x2.map_or(0, |t| t.shape.c);
    Conv2d { x2, bias: Some(bias(name, o)), ..Conv2d::new(x, weight(name, &[o, channels, 3, 3])) }
}

/// The 1×1 convolution of x and, joined behind it, x2 to `o` channels that is added to another.
pub(crate) fn shortcut(name: &str, x: Tensor, x2: Option<Tensor>, o: u32) -> Shortcut {
    let channels = x.shape.c + x2.map_or(0, |t| t.shape.c);
    Shortcut { x, x2, weight: weight(name, &[o, channels]), bias: Some(bias(name, o)) }
}

/// A linear layer without bias from `[N,H,W,C]` to `[N,H,W,o]`.
pub(crate) fn linear_without_bias(name: &str, x: Tensor, o: u32) -> Linear {
    Linear::new(x, weight(name, &[o, x.shape.c]))
}

/// A linear layer, or a 1×1 convolution, from x `[N,H,W,C]` to `[N,H,W,o]`.
pub(crate) fn linear(name: &str, x: Tensor, o: u32) -> Linear {
    Linear { bias: Some(bias(name, o)), ..linear_without_bias(name, x, o) }
}

/// Layer normalisation over the channels of x.
pub(crate) fn layer_norm(name: &str, x: Tensor, eps: f32) -> LayerNorm {
    let c = x.shape.c;
    LayerNorm { x, weight: weight(name, &[c]), bias: bias(name, c), eps }
}

/// Layer normalisation over `c` channels, for the layer that reads the result.
pub(crate) fn layer_norm_of(name: &str, c: u32, eps: f32) -> Option<Norm> {
    Some(Norm::Layer { weight: weight(name, &[c]), bias: bias(name, c), eps })
}

/// Group normalisation of `c` channels, for the layer that reads the result.
pub(crate) fn group_norm_of(name: &str, c: u32, groups: u32, eps: f32, silu: bool) -> Option<Norm> {
    Some(Norm::Group { weight: weight(name, &[c]), bias: bias(name, c), groups, eps, silu })
}

/// The weight of a linear layer without its op, for fused projections.
pub(crate) fn linear_weight(name: &str, o: u32, i: u32) -> Param {
    weight(name, &[o, i])
}

/// The bias of a linear layer without its op, for fused projections.
pub(crate) fn linear_bias(name: &str, o: u32) -> Param {
    bias(name, o)
}
