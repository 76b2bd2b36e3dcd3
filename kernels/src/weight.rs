//! Weights as a plan names them: where they come from, and how they lie in GPU memory.
//!
//! A plan holds names and layouts only. The bytes are read from a [`WeightSource`] when the plan
//! is prepared, packed tensor by tensor and dropped, so that host memory never holds a checkpoint.

use crate::error::{KernelError, shape_error};
use crate::tensor::DType;

/// Where weights come from: a checkpoint, or a test's generator.
pub trait WeightSource {
    /// The named tensor in row-major order as f32, in its checkpoint shape.
    ///
    /// # Errors
    /// [`KernelError::Weight`] when it is missing, misshaped or not finite.
    fn read(&self, name: &str, shape: &[u32]) -> Result<Vec<f32>, KernelError>;
}

/// One or more checkpoint tensors of one shape past axis 0, joined along axis 0.
///
/// `names` holds one name for a plain weight, three for a fused q,k,v projection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Param {
    /// Checkpoint names, each with its own length of axis 0.
    pub parts: Vec<(String, u32)>,
    /// Shape of each part past axis 0: `[I,kh,kw]` of a convolution, `[I]` of a linear, `[]` of a vector.
    pub inner: Vec<u32>,
}

impl Param {
    /// A single checkpoint tensor.
    pub fn new(name: impl Into<String>, shape: &[u32]) -> Self {
        let (first, inner) = shape.split_first().map_or((1, &[][..]), |(f, i)| (*f, i));
        Self { parts: vec![(name.into(), first)], inner: inner.to_vec() }
    }
    /// Several tensors joined along axis 0 (output channels).
    ///
    /// # Errors
    /// [`KernelError::Shape`] when they differ past axis 0 or there is none.
    pub fn join(params: &[Self]) -> Result<Self, KernelError> {
        let first = params.first().ok_or_else(|| shape_error("join", "at least one weight", "none"))?;
        let mut parts = Vec::new();
        for p in params {
            if p.inner != first.inner {
                return Err(shape_error(&p.name(), format!("{:?}", first.inner), format!("{:?}", p.inner)));
            }
            parts.extend(p.parts.iter().cloned());
        }
        Ok(Self { parts, inner: first.inner.clone() })
    }
    /// Length of axis 0 over all parts.
    pub fn outer(&self) -> u32 {
        self.parts.iter().map(|p| p.1).sum()
    }
    /// The whole shape, axis 0 first.
    pub fn shape(&self) -> Vec<u32> {
        let mut shape = vec![self.outer()];
        shape.extend(&self.inner);
        shape
    }
    /// The parts' names joined by `+`.
    pub fn name(&self) -> String {
        self.parts.iter().map(|p| p.0.as_str()).collect::<Vec<_>>().join("+")
    }
    /// Reads and joins the parts.
    ///
    /// # Errors
    /// What the source reports, or [`KernelError::Weight`] when it returns the wrong length.
    pub fn read(&self, source: &dyn WeightSource) -> Result<Vec<f32>, KernelError> {
        let inner: usize = self.inner.iter().map(|&d| d as usize).product();
        let mut all = Vec::with_capacity(self.outer() as usize * inner);
        for (name, outer) in &self.parts {
            let mut shape = vec![*outer];
            shape.extend(&self.inner);
            let data = source.read(name, &shape)?;
            let expected = *outer as usize * inner;
            if data.len() != expected {
                let message = format!("expected {expected} values for shape {shape:?}, got {}", data.len());
                return Err(KernelError::Weight { name: name.clone(), message });
            }
            all.extend(data);
        }
        Ok(all)
    }
}

/// How a weight lies in GPU memory. `O` is axis 0, `K` the channels read, `taps` = kh·kw.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Layout {
    /// A vector of `[O]`, zero-padded to `padded` elements.
    Vector {
        /// Length with padding.
        padded: u32,
    },
    /// A table `[O][I]` with each row padded to a multiple of four (embeddings).
    Rows,
    /// `[taps][K][N]`, N fastest: each source's channels are padded to four (`k` lists their
    /// unpadded counts, one or two), N is padded to `n_padded`. For workgroup-tile kernels.
    Kn {
        /// Channels of each source, unpadded.
        k: Vec<u32>,
        /// Output channels with padding.
        n_padded: u32,
    },
    /// `[N/(lanes·columns)][taps][K/4][columns][lanes][4]`: the four K values that one lane reads
    /// as a `vec4`, lanes fastest. For subgroup kernels of CPU adapters. Sources as in `Kn`.
    Panels {
        /// Channels of each source, unpadded.
        k: Vec<u32>,
        /// Lanes of a subgroup.
        lanes: u32,
        /// Columns that a lane owns; column `(panel·lanes + lane)·columns + j`.
        columns: u32,
    },
    /// A 3×3 weight behind a doubling of the picture, as the four 2×2 weights that do the same on the
    /// picture before it: sixteen taps, those of the phase `(py, px)` from `4·(2·py + px)` on, laid out as
    /// the inner layout says. Taps that meet the same pixel are added, in f32.
    Phases(Box<Self>),
}

/// A weight as recorded: what, how laid out, in which storage type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Weight {
    /// Its source tensors.
    pub param: Param,
    /// Its layout in memory.
    pub layout: Layout,
    /// Its storage type, [`DType::F16`] or [`DType::F32`].
    pub dtype: DType,
}

impl Weight {
    /// Elements after packing.
    pub fn packed_elements(&self) -> u64 {
        let o = u64::from(self.param.outer());
        let taps: u64 = self.param.inner.iter().skip(1).map(|&d| u64::from(d)).product();
        let k4 = |k: &[u32]| -> u64 { k.iter().map(|&c| u64::from(c.next_multiple_of(4))).sum() };
        match &self.layout {
            Layout::Vector { padded } => u64::from(*padded),
            Layout::Rows => o * u64::from(self.param.inner[0].next_multiple_of(4)),
            Layout::Kn { k, n_padded } => taps * k4(k) * u64::from(*n_padded),
            Layout::Panels { k, lanes, columns } => {
                o.next_multiple_of(u64::from(lanes * columns)) * taps * k4(k)
            }
            Layout::Phases(layout) => self.phases(layout).packed_elements(),
        }
    }
    /// The weight of the phases, as if the checkpoint held it.
    fn phases(&self, layout: &Layout) -> Self {
        let inner = vec![self.param.inner[0], 4, 4];
        let param = Param { parts: self.param.parts.clone(), inner };
        Self { param, layout: layout.clone(), dtype: self.dtype }
    }
    /// Bytes after packing.
    pub fn bytes(&self) -> u64 {
        self.packed_elements() * self.dtype.bytes()
    }
    /// Packs row-major checkpoint values into this layout and storage type.
    pub fn pack(&self, data: &[f32]) -> Vec<u8> {
        if let Layout::Phases(layout) = &self.layout {
            return self.phases(layout).pack(&fold_phases(data));
        }
        let mut packed = vec![0.0f32; self.packed_elements() as usize];
        match &self.layout {
            Layout::Vector { .. } | Layout::Phases(_) => packed[..data.len()].copy_from_slice(data),
            Layout::Rows => {
                let inner = self.param.inner[0] as usize;
                let pitch = inner.next_multiple_of(4);
                for (row, values) in data.chunks_exact(inner).enumerate() {
                    packed[row * pitch..row * pitch + inner].copy_from_slice(values);
                }
            }
            Layout::Kn { k, n_padded } => {
                let n_padded = *n_padded as usize;
                self.for_each(k, data, |tap, kp, k_len, o, v| {
                    packed[(tap * k_len + kp) * n_padded + o] = v;
                });
            }
            Layout::Panels { k, lanes, columns } => {
                let (lanes, columns) = (*lanes as usize, *columns as usize);
                let taps: usize = self.param.inner.iter().skip(1).map(|&d| d as usize).product();
                self.for_each(k, data, |tap, kp, k_len, o, v| {
                    let (panel, column, lane) = (o / (lanes * columns), o % columns, o / columns % lanes);
                    let quad = (panel * taps + tap) * (k_len / 4) + kp / 4;
                    packed[((quad * columns + column) * lanes + lane) * 4 + kp % 4] = v;
                });
            }
        }
        to_bytes(&packed, self.dtype)
    }

    /// Calls `put(tap, padded k, padded K, o, value)` for every value of an `[O, I, taps…]` weight.
    fn for_each(&self, k: &[u32], data: &[f32], mut put: impl FnMut(usize, usize, usize, usize, f32)) {
        let i_len = self.param.inner[0] as usize;
        let taps: usize = self.param.inner.iter().skip(1).map(|&d| d as usize).product();
        let k_len: usize = k.iter().map(|&c| c.next_multiple_of(4) as usize).sum();
        let first = k[0] as usize;
        let first_padded = first.next_multiple_of(4);
        for o in 0..self.param.outer() as usize {
            for i in 0..i_len {
                let kp = if i < first { i } else { i - first + first_padded };
                for tap in 0..taps {
                    put(tap, kp, k_len, o, data[(o * i_len + i) * taps + tap]);
                }
            }
        }
    }
}

/// Sixteen taps, four of each phase, for every nine.
///
/// Row `2·y + py` of a doubled picture meets the rows `(2·y + py + d) / 2` of the picture, `d` from -1 to 1:
/// `y - 1, y, y` where py is 0, and `y, y, y + 1` where it is 1.
fn fold_phases(data: &[f32]) -> Vec<f32> {
    // Taps 0 | 1, 2 where the phase is 0, and 0, 1 | 2 where it is 1.
    let second_tap = |phase: usize, tap: usize| usize::from(tap > phase);
    let mut folded = vec![0.0; data.len() / 9 * 16];
    for (nine, sixteen) in data.chunks_exact(9).zip(folded.chunks_exact_mut(16)) {
        for (phase, four) in sixteen.chunks_exact_mut(4).enumerate() {
            for (tap, value) in nine.iter().enumerate() {
                four[2 * second_tap(phase / 2, tap / 3) + second_tap(phase % 2, tap % 3)] += value;
            }
        }
    }
    folded
}

/// Converts values to their storage bytes, rounding to nearest even for f16.
pub fn to_bytes(values: &[f32], dtype: DType) -> Vec<u8> {
    match dtype {
        DType::F16 => {
            let halves: Vec<half::f16> = values.iter().map(|&v| half::f16::from_f32(v)).collect();
            bytemuck::cast_slice(&halves).to_vec()
        }
        _ => bytemuck::cast_slice(values).to_vec(),
    }
}
