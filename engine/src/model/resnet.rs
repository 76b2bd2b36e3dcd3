//! The residual block and the resizing convolutions of UNets and autoencoders.

use dreamglass_kernels::{KernelError, PlanBuilder, Tensor};

use super::layers::{conv3, conv3_of_two, group_norm_of, shortcut};

/// What the group normalisations of a network's residual blocks have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupNorms {
    /// Groups of channels.
    pub groups: u32,
    /// Added to the variance.
    pub eps: f32,
}

/// `ResnetBlock2D`: norm, SiLU, conv with the time embedding; norm, SiLU, conv with the residual.
///
/// Shapes: time embedding `[N,1,1,o]`, x `[N,H,W,C1]`, x2 `[N,H,W,C2]` (the skip connection, joined behind x), result
/// `[N,H,W,o]`.
pub(crate) fn resnet(
    b: &mut PlanBuilder,
    GroupNorms { groups, eps }: GroupNorms,
    name: &str,
    time: Option<Tensor>,
    x: Tensor,
    x2: Option<Tensor>,
    o: u32,
) -> Result<Tensor, KernelError> {
    b.push_scope(name);
    let c = x.shape.c + x2.map_or(0, |t| t.shape.c);
    let mut h = conv3_of_two(&format!("{name}.conv1"), x, x2, o);
    h.norm = group_norm_of(&format!("{name}.norm1"), c, groups, eps, true);
    h.time_embedding = time;
    h.statistics = true;
    let h = h.record(b)?;

    let mut h = conv3(&format!("{name}.conv2"), h, o);
    h.norm = group_norm_of(&format!("{name}.norm2"), o, groups, eps, true);
    // A joined input always has more channels than the result, so it always has a shortcut.
    if x2.is_none() && c == o {
        h.residual = Some(x);
    } else {
        h.shortcut = Some(shortcut(&format!("{name}.conv_shortcut"), x, x2, o));
    }
    h.statistics = true;
    let h = h.record(b)?;
    b.pop_scope();
    Ok(h)
}

/// `Downsample2D`: a 3×3 convolution with stride 2; `[N,H,W,C]` to `[N,ceil(H/2),ceil(W/2),C]`.
pub(crate) fn downsample(b: &mut PlanBuilder, name: &str, x: Tensor) -> Result<Tensor, KernelError> {
    b.push_scope(name);
    let mut y = conv3(&format!("{name}.conv"), x, x.shape.c);
    y.stride = 2;
    y.statistics = true;
    let y = y.record(b)?;
    b.pop_scope();
    Ok(y)
}

/// `Upsample2D`: nearest-neighbour resize to `size` `[H', W']`, then a 3×3 convolution.
pub(crate) fn upsample(
    b: &mut PlanBuilder,
    name: &str,
    x: Tensor,
    size: [u32; 2],
) -> Result<Tensor, KernelError> {
    b.push_scope(name);
    let mut y = conv3(&format!("{name}.conv"), x, x.shape.c);
    y.upsample = Some(size);
    y.statistics = true;
    let y = y.record(b)?;
    b.pop_scope();
    Ok(y)
}
