//! The ops: one file each, with its formula, arguments, checks and how it is recorded.
//!
//! Every op is a struct of arguments with `new(required…)`, public optional fields and
//! `record(&mut PlanBuilder) -> Result<Tensor, KernelError>`. Shapes are checked here, once.

mod attention;
mod ceiling;
mod check;
mod conv2d;
mod embedding;
mod gemm;
mod group_norm;
mod i420;
mod layer_norm;
mod linear_combination;
mod matmul;
mod norm;
mod picture;
mod similarity;
mod timestep_embedding;

use crate::plan::Variant;

pub use attention::Attention;
pub use ceiling::{CopySweep, FmaChain};
pub use conv2d::{Conv2d, Shortcut, Strip};
pub use embedding::Embedding;
pub use gemm::Linear;
pub use group_norm::GroupNorm;
pub use i420::I420;
pub use layer_norm::LayerNorm;
pub use linear_combination::{Coefficients, LinearCombination, Rows, Term};
pub use norm::Norm;
pub use picture::{MAX_REGION, Orientation, PictureIn, PictureOut};
pub use similarity::Similarity;
pub use timestep_embedding::TimestepEmbedding;

/// Every kind of variant that the ops record, for checking all shaders without a GPU.
pub fn variants() -> Vec<Variant> {
    [
        attention::variants(),
        ceiling::variants(),
        conv2d::variants(),
        embedding::variants(),
        gemm::variants(),
        group_norm::variants(),
        i420::variants(),
        layer_norm::variants(),
        linear_combination::variants(),
        picture::variants(),
        similarity::variants(),
        timestep_embedding::variants(),
    ]
    .concat()
}

/// A function applied to each element of an op's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Activation {
    /// `x`
    #[default]
    None,
    /// `x·sigmoid(x)`
    Silu,
    /// `max(x, 0)`
    Relu,
    /// `x·Φ(x)` with the exact error function (Abramowitz–Stegun 7.1.26 in kernels, |err| ≤ 1.5e-7).
    Gelu,
    /// `x·sigmoid(1.702·x)`
    QuickGelu,
    /// `3·tanh(x/3)`: the soft clamp of the tiny autoencoder's decoder.
    SoftClamp3,
    /// `2·x − 1`: from [0, 1] to [−1, 1].
    Signed,
}

impl Activation {
    /// The name that templates know it by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Silu => "silu",
            Self::Relu => "relu",
            Self::Gelu => "gelu",
            Self::QuickGelu => "quick_gelu",
            Self::SoftClamp3 => "soft_clamp3",
            Self::Signed => "signed",
        }
    }
}
