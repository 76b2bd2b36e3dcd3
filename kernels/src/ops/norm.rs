//! Normalisations that a product takes over from a pass of their own.

use super::check;
use super::{GroupNorm, LayerNorm};
use crate::error::KernelError;
use crate::plan::PlanBuilder;
use crate::tensor::Tensor;
use crate::weight::Param;

/// What a linear layer or convolution does to its input first: see [`LayerNorm`] and [`GroupNorm`] for the
/// formulas. Fused into the product where its kernels can, else recorded before it.
#[derive(Debug, Clone)]
pub enum Norm {
    /// Over the channels of each row.
    Layer {
        /// Scale `[C]`.
        weight: Param,
        /// Shift `[C]`.
        bias: Param,
        /// Added to the variance.
        eps: f32,
    },
    /// Over groups of channels and all positions of a batch row; padding around it stays zero.
    Group {
        /// Scale `[C]`.
        weight: Param,
        /// Shift `[C]`.
        bias: Param,
        /// Number of groups.
        groups: u32,
        /// Added to the variance.
        eps: f32,
        /// Whether SiLU follows.
        silu: bool,
    },
}

impl Norm {
    /// Refuses scale and shift that are not for `c` channels.
    pub(super) fn check(&self, op: &str, c: u32) -> Result<(), KernelError> {
        let (Self::Layer { weight, bias, .. } | Self::Group { weight, bias, .. }) = self;
        check::vector(&format!("{op} norm weight"), weight, c)?;
        check::vector(&format!("{op} norm bias"), bias, c)
    }

    /// Records it as dispatches of its own; x2 is joined behind x.
    pub(super) fn record(
        self,
        plan: &mut PlanBuilder,
        x: Tensor,
        x2: Option<Tensor>,
    ) -> Result<Tensor, KernelError> {
        match self {
            Self::Layer { weight, bias, eps } => LayerNorm { x, weight, bias, eps }.record(plan),
            Self::Group { weight, bias, groups, eps, silu } => {
                GroupNorm { x2, silu, ..GroupNorm::new(x, weight, bias, groups, eps) }.record(plan)
            }
        }
    }
}
