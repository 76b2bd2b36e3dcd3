//! Weights as a plan names them: where they come from, and how they lie in GPU memory.
//!
//! A plan holds names and layouts only. The bytes are read from a [`WeightSource`] when the plan
//! is prepared, packed tensor by tensor and dropped, so that host memory never holds a checkpoint.

mod layout;
mod values;

use half::slice::HalfFloatSliceExt;

use crate::error::{KernelError, shape_error};
use crate::tensor::DType;

pub use layout::Layout;
pub use values::Values;

/// Where weights come from: a checkpoint, or a test's generator. Several threads read at a time.
pub trait WeightSource: Sync {
    /// The named tensor in row-major order as f32, in its checkpoint shape.
    ///
    /// # Errors
    /// [`KernelError::Weight`] when it is missing, misshaped or not finite.
    fn read(&self, name: &str, shape: &[u32]) -> Result<Vec<f32>, KernelError>;
    /// The same, put behind what `values` holds: for sources that need no memory of their own.
    ///
    /// # Errors
    /// As [`Self::read`].
    fn read_into(&self, name: &str, shape: &[u32], values: &mut Vec<f32>) -> Result<(), KernelError> {
        values.append(&mut self.read(name, shape)?);
        Ok(())
    }
}

/// Memory that weights are packed in, one after the other: fresh pages cost more than what is done in them.
#[derive(Debug, Default)]
pub struct Scratch {
    packed: Vec<f32>,
    halves: Vec<half::f16>,
    spare: Vec<Vec<f32>>,
}

/// Values that are kept for the next weight; larger ones are rare.
const KEPT_VALUES: usize = 16 << 20;

impl Scratch {
    /// An empty vector, with the most room that there is from before.
    fn vector(&mut self) -> Vec<f32> {
        self.spare.sort_by_key(Vec::capacity);
        self.spare.pop().unwrap_or_default()
    }
    fn give_back(&mut self, mut values: Vec<f32>) {
        values.clear();
        if values.capacity() <= KEPT_VALUES {
            self.spare.push(values);
            self.spare.sort_by_key(|values| std::cmp::Reverse(values.capacity()));
            self.spare.truncate(2);
        }
    }
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
        self.read_into(source, Vec::new())
    }
    /// The same, in the memory of `values`, which is empty.
    fn read_into(&self, source: &dyn WeightSource, mut values: Vec<f32>) -> Result<Vec<f32>, KernelError> {
        let inner: usize = self.inner.iter().map(|&d| d as usize).product();
        values.reserve_exact(self.outer() as usize * inner);
        for (name, outer) in &self.parts {
            let mut shape = vec![*outer];
            shape.extend(&self.inner);
            let before = values.len();
            source.read_into(name, &shape, &mut values)?;
            let (expected, got) = (*outer as usize * inner, values.len() - before);
            if got != expected {
                let message = format!("expected {expected} values for shape {shape:?}, got {got}");
                return Err(KernelError::Weight { name: name.clone(), message });
            }
        }
        Ok(values)
    }
}

/// A weight as recorded: what, how laid out, in which storage type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Weight {
    /// What it is computed from.
    pub values: Values,
    /// Whether rows of axis 0 are paired for a gated unit: values `2i, 2i+1`, then the gates
    /// `O/2+2i, O/2+2i+1`, so that an invocation that owns a quad of columns owns both.
    pub is_gated: bool,
    /// Its layout in memory.
    pub layout: Layout,
    /// Its storage type, [`DType::F16`] or [`DType::F32`].
    pub dtype: DType,
}

/// Values of one shape `[O, inner…]`, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    /// Length of axis 0.
    pub(crate) outer: u32,
    /// Shape past axis 0.
    pub(crate) inner: Vec<u32>,
    /// The values; empty where only the shape is asked for.
    pub(crate) data: Vec<f32>,
}

impl Part {
    /// Values per row of axis 0.
    pub(crate) fn row(&self) -> usize {
        self.inner.iter().map(|&d| d as usize).product()
    }
    /// kh·kw of a convolution, 1 of anything else.
    pub(crate) fn taps(&self) -> usize {
        self.inner.iter().skip(1).map(|&d| d as usize).product()
    }
    /// Puts gates beside their values: see [`Weight::is_gated`].
    fn pair_gates(&mut self) {
        let (row, half) = (self.row(), self.outer as usize / 2);
        let order = (0..half / 2).flat_map(|i| [2 * i, 2 * i + 1, half + 2 * i, half + 2 * i + 1]);
        self.data = order.flat_map(|o| self.data[o * row..(o + 1) * row].iter().copied()).collect();
    }
}

impl Weight {
    /// The checkpoint's names.
    pub fn name(&self) -> String {
        self.values.params().iter().map(|p| p.name()).collect::<Vec<_>>().join(", ")
    }
    /// Elements after packing.
    pub fn packed_elements(&self) -> u64 {
        self.layout.elements(&self.values.shapes())
    }
    /// Bytes after packing.
    pub fn bytes(&self) -> u64 {
        self.packed_elements() * self.dtype.bytes()
    }
    /// Reads the checkpoint's values, and packs them into this layout and storage type: bytes in `scratch`.
    ///
    /// # Errors
    /// What the source reports, or [`KernelError::Weight`] when it returns the wrong length.
    pub fn load<'a>(
        &self,
        source: &dyn WeightSource,
        scratch: &'a mut Scratch,
    ) -> Result<&'a [u8], KernelError> {
        let mut parts = self.values.read(source, scratch)?;
        if self.is_gated {
            parts.iter_mut().for_each(Part::pair_gates);
        }
        self.layout.pack(&mut parts, &mut scratch.packed);
        parts.into_iter().for_each(|part| scratch.give_back(part.data));
        if self.dtype != DType::F16 {
            return Ok(bytemuck::cast_slice(&scratch.packed));
        }
        scratch.halves.clear();
        scratch.halves.resize(scratch.packed.len(), half::f16::ZERO);
        scratch.halves.convert_from_f32_slice(&scratch.packed);
        Ok(bytemuck::cast_slice(&scratch.halves))
    }
}

/// Converts values to their storage bytes, rounding to nearest even for f16.
pub fn to_bytes(values: &[f32], dtype: DType) -> Vec<u8> {
    match dtype {
        DType::F16 => {
            let mut halves = vec![half::f16::ZERO; values.len()];
            halves.convert_from_f32_slice(values);
            bytemuck::cast_slice(&halves).to_vec()
        }
        _ => bytemuck::cast_slice(values).to_vec(),
    }
}
