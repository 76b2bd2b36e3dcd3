//! Tensor handles: a shape and a storage type, no data and no arithmetic.
//!
//! Every tensor is NHWC. A row is one pixel or token; its channels are padded with zeros to a
//! multiple of four (the pitch), so that kernels read and write whole `vec4`s.

use std::fmt;

/// How an element is stored. Kernels always accumulate in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// Half precision, two in a `u32` word: every adapter reads it with `unpack2x16float`.
    F16,
    /// Single precision.
    F32,
    /// Unsigned words: token ids, RGBA8 pixels (red in the low byte).
    U32,
    /// Signed bytes, four in a `u32` word, each times the f32 scale of its output channel: weights of products only.
    I8,
}

impl DType {
    /// Bytes of one element.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::F16 => 2,
            Self::F32 | Self::U32 => 4,
            Self::I8 => 1,
        }
    }
    /// The short name used in variants and dumps.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::F32 => "f32",
            Self::U32 => "u32",
            Self::I8 => "i8",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `[N, H, W, C]`; a token sequence is `[N, 1, T, C]`, a vector per batch row `[N, 1, 1, C]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Batch.
    pub n: u32,
    /// Rows of pixels; 1 for tokens.
    pub h: u32,
    /// Pixels in a row; tokens in a sequence.
    pub w: u32,
    /// Channels, without padding.
    pub c: u32,
}

impl Shape {
    /// `[n, h, w, c]`.
    pub const fn new(n: u32, h: u32, w: u32, c: u32) -> Self {
        Self { n, h, w, c }
    }
    /// A sequence of `t` tokens per batch row: `[n, 1, t, c]`.
    pub const fn tokens(n: u32, t: u32, c: u32) -> Self {
        Self::new(n, 1, t, c)
    }
    /// One vector per batch row: `[n, 1, 1, c]`.
    pub const fn vector(n: u32, c: u32) -> Self {
        Self::new(n, 1, 1, c)
    }
    /// Pixels or tokens of one batch row.
    pub const fn positions(self) -> u32 {
        self.h * self.w
    }
    /// Rows of the tensor seen as a matrix `[N·H·W, C]`.
    pub const fn rows(self) -> u32 {
        self.n * self.h * self.w
    }
    /// Channels with padding: the distance between rows, in elements. [`DType::U32`] tensors are
    /// never padded.
    pub const fn pitch(self) -> u32 {
        self.c.next_multiple_of(4)
    }
    /// Elements without padding.
    pub const fn elements(self) -> u64 {
        self.n as u64 * self.h as u64 * self.w as u64 * self.c as u64
    }
    /// Bytes of storage, channel padding included.
    pub const fn bytes(self, dtype: DType) -> u64 {
        let rows = self.n as u64 * self.h as u64 * self.w as u64;
        match dtype {
            DType::U32 => rows * self.c as u64 * 4,
            _ => rows * self.pitch() as u64 * dtype.bytes(),
        }
    }
    /// The same shape with `c` channels.
    pub const fn with_c(self, c: u32) -> Self {
        Self { c, ..self }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{},{},{},{}]", self.n, self.h, self.w, self.c)
    }
}

/// A handle on a tensor of one plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tensor {
    pub(crate) id: u32,
    /// Shape `[N,H,W,C]`.
    pub shape: Shape,
    /// Storage type.
    pub dtype: DType,
}

impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}:{}{}", self.id, self.dtype, self.shape)
    }
}

/// `c` channels of a tensor starting at channel `offset`: a column block of `[N·H·W, C]`, as a
/// fused q,k,v projection leaves it. `offset` and `c` are multiples of four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Columns {
    /// The tensor that holds the columns.
    pub tensor: Tensor,
    /// First channel.
    pub offset: u32,
    /// Number of channels.
    pub c: u32,
}

impl From<Tensor> for Columns {
    fn from(tensor: Tensor) -> Self {
        Self { tensor, offset: 0, c: tensor.shape.c }
    }
}
