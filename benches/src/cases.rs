//! The one list of named shapes, and how each is recorded.

use dreamglass_kernels::ops::{
    Activation, Attention, Coefficients, Conv2d, CopySweep, Embedding, FmaChain, GroupNorm, I420, LayerNorm,
    Linear, LinearCombination, Norm, Orientation, PictureIn, PictureOut, Similarity, Term, TimestepEmbedding,
};
use dreamglass_kernels::{DType, KernelError, Param, PlanBuilder, Shape, Tensor};

/// An op and its shapes. Pictures and feature maps are square.
#[derive(Debug, Clone, Copy)]
pub enum Op {
    /// 3×3 convolution: side of the input, input and output channels.
    Conv(u32, u32, u32),
    /// 3×3 convolution of two joined tensors, with bias: side, channels of each, output channels.
    ConvJoined(u32, [u32; 2], u32),
    /// Second convolution of a residual block, with bias, a vector per batch row, a tensor to add and
    /// SiLU: side, channels.
    ConvFused(u32, u32),
    /// 3×3 convolution with stride 2: side of the input, channels.
    ConvDown(u32, u32),
    /// 3×3 convolution of an input made twice as large: side before, channels.
    ConvUp(u32, u32),
    /// 1×1 convolution: side, input and output channels.
    Conv1(u32, u32, u32),
    /// Linear layer: rows, input and output channels.
    Linear(u32, u32, u32),
    /// Attention: queries, keys, heads, channels of a head.
    Attention(u32, u32, u32, u32),
    /// Attention that looks back only: tokens, heads, channels of a head.
    Causal(u32, u32, u32),
    /// Layer norm, product and gate of a feed-forward block: rows, channels.
    FeedForward(u32, u32),
    /// Group normalisation with SiLU: side, channels, groups.
    GroupNorm(u32, u32, u32),
    /// Layer normalisation: rows, channels.
    LayerNorm(u32, u32),
    /// Rows of a table and of positions: tokens, rows of the table, channels.
    Embedding(u32, u32, u32),
    /// Sinusoids: batch, channels.
    TimestepEmbedding(u32, u32),
    /// Weighted sum: side, channels, terms.
    LinearCombination(u32, u32, u32),
    /// RGBA8 to a tensor: width and height of the source, side of the result.
    PictureIn(u32, u32, u32),
    /// A tensor to RGBA8: side.
    PictureOut(u32),
    /// RGBA8 to planes for a video encoder: side.
    I420(u32),
    /// Cosine similarity of two pictures: side, channels.
    Similarity(u32, u32),
    /// Memory alone: quads, sweeps over them.
    CopySweep(u32, u32),
    /// Arithmetic alone: invocations, rounds.
    FmaChain(u32, u32),
}

/// The embedded model's shapes at 256×256, those of Stable Diffusion 1.5 (and 2.1 where it says so)
/// at 512×512, and the probes of what the adapter can do at best.
pub const CASES: &[(&str, Op)] = &[
    ("demo/vae_32_at_256", Op::Conv(256, 32, 32)),
    ("demo/vae_32_at_128", Op::Conv(128, 32, 32)),
    ("demo/vae_in_at_256", Op::Conv(256, 3, 32)),
    ("demo/vae_out_at_256", Op::Conv(256, 32, 3)),
    ("demo/vae_down_32_at_256", Op::ConvDown(256, 32)),
    ("demo/vae_up_32_at_128", Op::ConvUp(128, 32)),
    ("demo/unet_96_at_32", Op::Conv(32, 96, 96)),
    ("demo/unet_joined_at_32", Op::ConvJoined(32, [128, 96], 96)),
    ("demo/unet_fused_96_at_32", Op::ConvFused(32, 96)),
    ("demo/unet_shortcut_at_32", Op::Conv1(32, 96, 128)),
    ("demo/unet_128_at_16", Op::Conv(16, 128, 128)),
    ("demo/qkv_256x128x384", Op::Linear(256, 128, 384)),
    ("demo/feed_forward_256x128x1024", Op::Linear(256, 128, 1024)),
    ("demo/self_256_of_4x32", Op::Attention(256, 256, 4, 32)),
    ("demo/cross_256_to_77_of_4x32", Op::Attention(256, 77, 4, 32)),
    ("demo/text_77_of_4x32", Op::Causal(77, 4, 32)),
    ("demo/feed_forward_256x128", Op::FeedForward(256, 128)),
    ("demo/96_at_32", Op::GroupNorm(32, 96, 16)),
    ("demo/128_at_16", Op::GroupNorm(16, 128, 16)),
    ("demo/256x128", Op::LayerNorm(256, 128)),
    ("demo/77_of_1117x128", Op::Embedding(77, 1117, 128)),
    ("demo/96", Op::TimestepEmbedding(1, 96)),
    ("demo/noise_8_at_32", Op::LinearCombination(32, 8, 2)),
    ("demo/camera_640x480_to_256", Op::PictureIn(640, 480, 256)),
    ("demo/picture_256", Op::PictureOut(256)),
    ("demo/planes_256", Op::I420(256)),
    ("demo/picture_256", Op::Similarity(256, 3)),
    ("sd/conv_320_at_64", Op::Conv(64, 320, 320)),
    ("sd/conv_640_at_32", Op::Conv(32, 640, 640)),
    ("sd/conv_1280_at_16", Op::Conv(16, 1280, 1280)),
    ("sd/conv_1280_at_8", Op::Conv(8, 1280, 1280)),
    ("sd/joined_at_64", Op::ConvJoined(64, [640, 320], 320)),
    ("sd/fused_640_at_32", Op::ConvFused(32, 640)),
    ("sd/down_320_at_64", Op::ConvDown(64, 320)),
    ("sd/up_640_at_32", Op::ConvUp(32, 640)),
    ("sd/shortcut_at_32", Op::Conv1(32, 320, 640)),
    ("sd/vae_128_at_512", Op::Conv(512, 128, 128)),
    ("sd/vae_out_at_512", Op::Conv(512, 128, 3)),
    ("sd/tiny_vae_64_at_512", Op::Conv(512, 64, 64)),
    ("sd/tiny_vae_64_at_256", Op::Conv(256, 64, 64)),
    ("sd/gemm_4096x320x320", Op::Linear(4096, 320, 320)),
    ("sd/gemm_1024x640x640", Op::Linear(1024, 640, 640)),
    ("sd/gemm_256x1280x1280", Op::Linear(256, 1280, 1280)),
    ("sd/gemm_64x1280x1280", Op::Linear(64, 1280, 1280)),
    ("sd/feed_forward_4096x320x2560", Op::Linear(4096, 320, 2560)),
    ("sd/feed_forward_1024x640x5120", Op::Linear(1024, 640, 5120)),
    ("sd/self_4096_of_8x40", Op::Attention(4096, 4096, 8, 40)),
    ("sd/self_1024_of_8x80", Op::Attention(1024, 1024, 8, 80)),
    ("sd/self_256_of_8x160", Op::Attention(256, 256, 8, 160)),
    ("sd/vae_self_4096_of_1x512", Op::Attention(4096, 4096, 1, 512)),
    ("sd/cross_4096_to_77_of_8x40", Op::Attention(4096, 77, 8, 40)),
    ("sd/text_77_of_12x64", Op::Causal(77, 12, 64)),
    ("sd21/self_4096_of_5x64", Op::Attention(4096, 4096, 5, 64)),
    ("sd21/self_1024_of_10x64", Op::Attention(1024, 1024, 10, 64)),
    ("sd21/text_77_of_16x64", Op::Causal(77, 16, 64)),
    ("sd/feed_forward_4096x320", Op::FeedForward(4096, 320)),
    ("sd/320_at_64", Op::GroupNorm(64, 320, 32)),
    ("sd/1280_at_8", Op::GroupNorm(8, 1280, 32)),
    ("sd/vae_128_at_512", Op::GroupNorm(512, 128, 32)),
    ("sd/4096x320", Op::LayerNorm(4096, 320)),
    ("sd/77_of_49408x768", Op::Embedding(77, 49_408, 768)),
    ("sd/320", Op::TimestepEmbedding(1, 320)),
    ("sd/noise_4_at_64", Op::LinearCombination(64, 4, 2)),
    ("sd/step_4_at_64", Op::LinearCombination(64, 4, 4)),
    ("sd/camera_1280x720_to_512", Op::PictureIn(1280, 720, 512)),
    ("sd/picture_512", Op::PictureOut(512)),
    ("sd/planes_512", Op::I420(512)),
    ("sd/picture_512", Op::Similarity(512, 3)),
    ("probe/16_mib", Op::CopySweep(1 << 20, 1)),
    ("probe/64_rounds", Op::FmaChain(1 << 14, 64)),
];

impl Op {
    /// The group of the criterion report that it belongs to.
    pub fn group(self) -> &'static str {
        match self {
            Self::Conv(..) | Self::ConvJoined(..) | Self::ConvFused(..) => "conv2d",
            Self::ConvDown(..) | Self::ConvUp(..) | Self::Conv1(..) => "conv2d",
            Self::Linear(..) | Self::FeedForward(..) => "linear",
            Self::Attention(..) | Self::Causal(..) => "attention",
            Self::GroupNorm(..) => "group_norm",
            Self::LayerNorm(..) => "layer_norm",
            Self::Embedding(..) => "embedding",
            Self::TimestepEmbedding(..) => "timestep_embedding",
            Self::LinearCombination(..) => "linear_combination",
            Self::PictureIn(..) => "picture_in",
            Self::PictureOut(..) => "picture_out",
            Self::I420(..) => "i420",
            Self::Similarity(..) => "similarity",
            Self::CopySweep(..) => "copy_sweep",
            Self::FmaChain(..) => "fma_chain",
        }
    }
    /// Whether its rate is one of arithmetic; of memory otherwise.
    pub fn is_arithmetic(self) -> bool {
        matches!(self.group(), "conv2d" | "linear" | "attention" | "fma_chain")
    }
    /// Whether it has weights that may be bytes.
    pub fn is_product(self) -> bool {
        matches!(self.group(), "conv2d" | "linear")
    }
    /// Storage types that it is measured with.
    pub fn dtypes(self) -> &'static [DType] {
        match self {
            Self::CopySweep(..) | Self::FmaChain(..) => &[DType::F32],
            _ => &[DType::F32, DType::F16],
        }
    }
    /// Shapes of the inputs, those of words marked by their storage.
    pub fn inputs(self, dtype: DType) -> Vec<(Shape, DType)> {
        let map = |side, c| (Shape::new(1, side, side, c), dtype);
        let rows = |m, c| (Shape::tokens(1, m, c), dtype);
        match self {
            Self::Conv(side, c, _)
            | Self::ConvDown(side, c)
            | Self::ConvUp(side, c)
            | Self::Conv1(side, c, _)
            | Self::GroupNorm(side, c, _) => vec![map(side, c)],
            Self::ConvJoined(side, [c1, c2], _) => vec![map(side, c1), map(side, c2)],
            Self::ConvFused(side, c) => vec![map(side, c), (Shape::vector(1, c), dtype), map(side, c)],
            Self::Linear(m, k, _) => vec![rows(m, k)],
            Self::Attention(t, s, heads, d) => vec![rows(t, heads * d), rows(s, heads * d)],
            Self::Causal(t, heads, d) => vec![rows(t, heads * d); 2],
            Self::FeedForward(m, c) | Self::LayerNorm(m, c) => vec![rows(m, c)],
            Self::Embedding(t, _, _) => vec![(Shape::tokens(1, t, 1), DType::U32)],
            Self::TimestepEmbedding(n, _) => vec![(Shape::vector(n, 1), DType::F32)],
            Self::LinearCombination(side, c, terms) => vec![map(side, c); terms as usize],
            Self::PictureIn(w, h, _) => vec![(Shape::new(1, h, w, 1), DType::U32)],
            Self::PictureOut(side) => vec![map(side, 3)],
            Self::I420(side) => vec![(Shape::new(1, side, side, 1), DType::U32)],
            Self::Similarity(side, c) => vec![map(side, c); 2],
            Self::CopySweep(quads, _) => vec![rows(quads, 4)],
            Self::FmaChain(..) => vec![],
        }
    }
    /// Records it on tensors of [`Self::inputs`].
    ///
    /// # Errors
    /// What recording reports.
    pub fn record(self, plan: &mut PlanBuilder, x: &[Tensor], dtype: DType) -> Result<Tensor, KernelError> {
        let vector = |name, c| Param::new(name, &[c]);
        match self {
            Self::Attention(_, _, heads, _) => Attention::new(x[0], x[1], x[1], heads).record(plan),
            Self::Causal(_, heads, _) => {
                Attention { causal: true, ..Attention::new(x[0], x[1], x[1], heads) }.record(plan)
            }
            Self::Linear(_, k, n) => Linear::new(x[0], Param::new("w", &[n, k])).record(plan),
            Self::FeedForward(_, c) => {
                let (weight, bias) = (vector("weight", c), vector("bias", c));
                let norm = Some(Norm::Layer { weight, bias, eps: 1e-5 });
                let product = Linear::new(x[0], Param::new("w", &[8 * c, c]));
                Linear { norm, is_gated: true, ..product }.record(plan)
            }
            Self::GroupNorm(_, c, groups) => {
                let norm = GroupNorm::new(x[0], vector("weight", c), vector("bias", c), groups, 1e-5);
                GroupNorm { silu: true, ..norm }.record(plan)
            }
            Self::LayerNorm(_, c) => {
                let (weight, bias) = (vector("weight", c), vector("bias", c));
                LayerNorm { x: x[0], weight, bias, eps: 1e-5 }.record(plan)
            }
            Self::LinearCombination(_, _, terms) => {
                let coefficients = Coefficients::Constant(vec![0.5; terms as usize]);
                let terms = x.iter().copied().map(Term::from).collect();
                let activation = Activation::None;
                LinearCombination { terms, coefficients, offset: 0.0, activation, out_dtype: dtype }
                    .record(plan)
            }
            Self::PictureOut(_) => PictureOut { x: x[0] }.record(plan),
            Self::I420(_) => I420 { pixels: x[0] }.record(plan),
            Self::Similarity(..) => Similarity::new(x[0], x[1]).record(plan),
            Self::CopySweep(_, sweeps) => {
                let once = CopySweep { x: x[0], steps: 1 };
                CopySweep { steps: sweeps * once.sweep(), ..once }.record(plan)
            }
            Self::FmaChain(threads, steps) => FmaChain { threads, steps }.record(plan),
            Self::Embedding(..) | Self::TimestepEmbedding(..) | Self::PictureIn(..) => {
                self.record_source(plan, x[0], dtype)
            }
            _ => self.record_convolution(plan, x),
        }
    }

    /// Ops that make a float tensor of something else.
    fn record_source(
        self,
        plan: &mut PlanBuilder,
        x: Tensor,
        out_dtype: DType,
    ) -> Result<Tensor, KernelError> {
        match self {
            Self::Embedding(t, rows, c) => {
                let (table, positions) = (Param::new("table", &[rows, c]), Param::new("positions", &[t, c]));
                Embedding { ids: x, table, positions: Some(positions), out_dtype }.record(plan)
            }
            Self::PictureIn(w, h, side) => {
                let cut = w.min(h) as f32;
                let region = [(w as f32 - cut) / 2.0, (h as f32 - cut) / 2.0, cut, cut];
                let orientation = Orientation::default();
                PictureIn { pixels: x, region, orientation, size: [side, side], out_dtype }.record(plan)
            }
            Self::TimestepEmbedding(_, dim) => {
                let (shift, scale) = (0.0, 1.0);
                TimestepEmbedding { values: x, dim, cos_first: true, shift, scale, out_dtype }.record(plan)
            }
            _ => unreachable!("{self:?} has float inputs"),
        }
    }

    fn record_convolution(self, plan: &mut PlanBuilder, x: &[Tensor]) -> Result<Tensor, KernelError> {
        let conv = |c, out| Conv2d::new(x[0], Param::new("w", &[out, c, 3, 3]));
        let bias = |out| Some(Param::new("b", &[out]));
        match self {
            Self::Conv(_, c, out) => conv(c, out),
            Self::ConvJoined(_, [c1, c2], out) => {
                Conv2d { x2: Some(x[1]), bias: bias(out), ..conv(c1 + c2, out) }
            }
            Self::ConvFused(_, c) => {
                let (time_embedding, residual) = (Some(x[1]), Some(x[2]));
                let activation = Activation::Silu;
                Conv2d { time_embedding, residual, activation, bias: bias(c), ..conv(c, c) }
            }
            Self::ConvDown(_, c) => Conv2d { stride: 2, bias: bias(c), ..conv(c, c) },
            Self::ConvUp(side, c) => Conv2d { upsample: Some([2 * side; 2]), bias: bias(c), ..conv(c, c) },
            Self::Conv1(_, c, out) => {
                Conv2d { bias: bias(out), ..Conv2d::new(x[0], Param::new("w", &[out, c, 1, 1])) }
            }
            _ => unreachable!("{self:?} is no convolution"),
        }
        .record(plan)
    }
}
