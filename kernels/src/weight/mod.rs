//! Weights as a plan names them: where they come from, and how they lie in GPU memory.
//!
//! A plan holds names and layouts only. The bytes are read from a [`WeightSource`] when the plan
//! is prepared, block by block, and packed and handed over at once: host memory never holds a whole tensor.

mod int8;
mod layout;
mod values;

use std::ops::Range;

use bytemuck::Pod;
use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::error::{KernelError, shape_error};
use crate::tensor::DType;

use layout::{Block, Piece};
use values::Reader;

pub use layout::Layout;
pub use values::Values;

/// Where weights come from: a checkpoint, or a test's generator. Several threads read at a time.
pub trait WeightSource: Sync {
    /// The named tensor in row-major order as f32, in its checkpoint shape.
    ///
    /// # Errors
    /// [`KernelError::Weight`] when it is missing, misshaped or not finite.
    fn read(&self, name: &str, shape: &[u32]) -> Result<Vec<f32>, KernelError>;
    /// Rows of axis 0 of the same, and of each some columns (values past axis 0), behind what `values` holds: for
    /// sources that need not read all of it.
    ///
    /// # Errors
    /// As [`Self::read`].
    fn read_block(
        &self,
        name: &str,
        shape: &[u32],
        rows: Range<usize>,
        columns: Range<usize>,
        values: &mut Vec<f32>,
    ) -> Result<(), KernelError> {
        let all = self.read(name, shape)?;
        expect_values(name, shape, all.len(), shape.iter().map(|&d| d as usize).product())?;
        let row: usize = shape.iter().skip(1).map(|&d| d as usize).product();
        rows.for_each(|ix| values.extend_from_slice(&all[ix * row..][columns.clone()]));
        Ok(())
    }
    /// The same as halves, for sources that hold just these: nothing is lost by reading them as they are. False, and
    /// nothing is added, where the source holds something else, or something is wrong that [`Self::read_block`] names.
    fn read_halves(
        &self,
        _name: &str,
        _shape: &[u32],
        _rows: Range<usize>,
        _columns: Range<usize>,
        _values: &mut Vec<f16>,
    ) -> bool {
        false
    }
}

/// That a source returned as many values as it was asked for.
fn expect_values(name: &str, shape: &[u32], got: usize, expected: usize) -> Result<(), KernelError> {
    if got == expected {
        return Ok(());
    }
    let message = format!("expected {expected} values for shape {shape:?}, got {got}");
    Err(KernelError::Weight { name: name.into(), message })
}

/// Values that are read and packed at a time: what of them is in work stays in a core's cache.
const VALUES_AT_ONCE: usize = 64 << 10;

/// Memory that weights are packed in, block after block: fresh pages cost more than what is done in them.
#[derive(Debug, Default)]
pub struct Scratch {
    singles: Stored<f32>,
    halves: Stored<f16>,
    bytes: Stored<i8>,
}

/// Values of a block in one type, before they are paired with their gates, and where they are put in order.
#[derive(Debug, Default)]
struct Stored<T> {
    values: Vec<T>,
    apart: Vec<T>,
    packed: Vec<T>,
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
        let mut values = Vec::new();
        self.read_block(source, 0..self.outer() as usize, 0..self.row(), &mut values)?;
        Ok(values)
    }
    /// Values per row of axis 0.
    pub(crate) fn row(&self) -> usize {
        self.inner.iter().map(|&d| d as usize).product()
    }
    /// Some rows of the joined parts, and of each some columns, behind what `values` holds.
    fn read_block(
        &self,
        source: &dyn WeightSource,
        rows: Range<usize>,
        columns: Range<usize>,
        values: &mut Vec<f32>,
    ) -> Result<(), KernelError> {
        self.parts_with(rows).try_for_each(|(name, shape, rows)| {
            let (before, expected) = (values.len(), rows.len() * columns.len());
            source.read_block(name, &shape, rows, columns.clone(), values)?;
            expect_values(name, &shape, values.len() - before, expected)
        })
    }
    /// The same as halves, where the source holds those of all parts, and whether it does.
    fn read_halves(
        &self,
        source: &dyn WeightSource,
        rows: Range<usize>,
        columns: Range<usize>,
        values: &mut Vec<f16>,
    ) -> bool {
        let expected = values.len() + rows.len() * columns.len();
        self.parts_with(rows)
            .all(|(name, shape, rows)| source.read_halves(name, &shape, rows, columns.clone(), values))
            && values.len() == expected
    }
    /// The parts that have some of `rows`: name, shape, and which rows of theirs.
    fn parts_with(&self, rows: Range<usize>) -> impl Iterator<Item = (&str, Vec<u32>, Range<usize>)> {
        let mut end = 0;
        self.parts.iter().filter_map(move |(name, outer)| {
            let first = end;
            end += *outer as usize;
            let here = rows.start.max(first)..rows.end.min(end);
            let shape = || [*outer].iter().chain(&self.inner).copied().collect();
            (!here.is_empty()).then(|| (name.as_str(), shape(), here.start - first..here.end - first))
        })
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
    /// Its storage type: [`DType::F16`], [`DType::F32`], or [`DType::I8`], where the scales of all columns lie before
    /// the bytes.
    pub dtype: DType,
}

/// The shape `[O, inner…]` of values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    /// Length of axis 0.
    pub(crate) outer: u32,
    /// Shape past axis 0.
    pub(crate) inner: Vec<u32>,
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
        self.scale_bytes() + self.packed_elements() * self.dtype.bytes()
    }
    /// Bytes of the scales before the elements.
    fn scale_bytes(&self) -> u64 {
        if self.dtype == DType::I8 { 4 * self.layout.columns(&self.values.shapes()) } else { 0 }
    }
    /// Reads the checkpoint's values block by block, packs them into this layout and storage type, and hands each run
    /// of bytes to `write` with the bytes of the weight before it. Together they are all of it.
    ///
    /// # Errors
    /// What the source or `write` reports, or [`KernelError::Weight`] when the source returns the wrong length.
    pub fn pack(
        &self,
        source: &dyn WeightSource,
        scratch: &mut Scratch,
        write: impl FnMut(u64, &[u8]) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        self.pack_by(VALUES_AT_ONCE, source, scratch, write)
    }
    fn pack_by(
        &self,
        values_at_once: usize,
        source: &dyn WeightSource,
        scratch: &mut Scratch,
        mut write: impl FnMut(u64, &[u8]) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        let parts = self.values.shapes();
        let reader = self.values.open(source)?;
        let blocks = self.layout.blocks(&parts, values_at_once);
        let mut scales = Vec::new();
        if self.dtype == DType::I8 {
            scales = self.scales(&reader, &parts, &blocks, scratch)?;
            write(0, bytemuck::cast_slice(&scales))?;
        }
        let before = self.scale_bytes();
        for block in blocks {
            let layout = &self.layout;
            let has_halves =
                self.dtype == DType::F16 && self.read_halves(&reader, &parts, &block, &mut scratch.halves);
            if !has_halves {
                self.read(&reader, &parts, &block, &mut scratch.singles)?;
            }
            let Scratch { singles: Stored { values, packed, .. }, halves, bytes } = scratch;
            match self.dtype {
                DType::F16 => {
                    if !has_halves {
                        halves.values.resize(values.len(), f16::ZERO);
                        halves.values.convert_from_f32_slice(values);
                    }
                    let pieces = layout.pack(&parts, &block, &halves.values, &mut halves.packed);
                    hand_over(pieces, &halves.packed, before, &mut write)?;
                }
                DType::I8 => {
                    int8::quantise(values, &scales[block.rows.clone()]);
                    bytes.values.clear();
                    bytes.values.extend(values.iter().map(|&whole| whole as i8));
                    let pieces = layout.pack(&parts, &block, &bytes.values, &mut bytes.packed);
                    hand_over(pieces, &bytes.packed, before, &mut write)?;
                }
                DType::F32 | DType::U32 => {
                    let pieces = layout.pack(&parts, &block, values, packed);
                    hand_over(pieces, packed, before, &mut write)?;
                }
            }
        }
        Ok(())
    }
    /// The scale of every column, zeros behind the last: what is read once more for them is not kept.
    fn scales(
        &self,
        reader: &Reader<'_>,
        parts: &[Part],
        blocks: &[Block],
        scratch: &mut Scratch,
    ) -> Result<Vec<f32>, KernelError> {
        let mut scales = vec![0.0; self.layout.columns(parts) as usize];
        for block in blocks {
            self.read(reader, parts, block, &mut scratch.singles)?;
            int8::raise(&mut scales[block.rows.clone()], &scratch.singles.values);
        }
        scales.iter_mut().for_each(|largest| *largest = int8::scale(*largest));
        Ok(scales)
    }
    /// The values of a block as the layout packs them, in place of those in `stored`.
    fn read(
        &self,
        reader: &Reader<'_>,
        parts: &[Part],
        block: &Block,
        stored: &mut Stored<f32>,
    ) -> Result<(), KernelError> {
        self.read_rows(parts, block, stored, |rows, columns, values| {
            reader.read(block.part, rows, columns, values)
        })?;
        self.layout.fold(&mut stored.values);
        Ok(())
    }
    /// The same where the source holds halves, and nothing is computed of them; whether it does.
    fn read_halves(
        &self,
        reader: &Reader<'_>,
        parts: &[Part],
        block: &Block,
        stored: &mut Stored<f16>,
    ) -> bool {
        let read = |rows, columns, values: &mut Vec<f16>| {
            reader.read_halves(block.part, rows, columns, values).then_some(()).ok_or(())
        };
        !self.layout.folds() && self.read_rows(parts, block, stored, read).is_ok()
    }
    /// The rows and columns of a block that `read` puts behind what a list holds, gates among the values they belong to.
    fn read_rows<T: Copy, E>(
        &self,
        parts: &[Part],
        block: &Block,
        stored: &mut Stored<T>,
        mut read: impl FnMut(Range<usize>, Range<usize>, &mut Vec<T>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Stored { values, apart, .. } = stored;
        let Block { part, rows, channels } = block;
        let taps = parts[*part].taps();
        let columns = channels.start * taps..channels.end * taps;
        values.clear();
        if !self.is_gated {
            return read(rows.clone(), columns, values);
        }
        let half = parts[*part].outer as usize / 2;
        let rows = rows.start / 2..rows.end / 2;
        apart.clear();
        read(rows.clone(), columns.clone(), apart)?;
        let middle = apart.len();
        read(half + rows.start..half + rows.end, columns.clone(), apart)?;
        let (of_values, of_gates) = apart.split_at(middle);
        let pair = 2 * columns.len();
        for (value, gate) in of_values.chunks_exact(pair).zip(of_gates.chunks_exact(pair)) {
            values.extend_from_slice(value);
            values.extend_from_slice(gate);
        }
        Ok(())
    }
}

/// Writes pieces of what is packed behind `before` bytes.
fn hand_over<T: Pod>(
    pieces: Vec<Piece>,
    packed: &[T],
    before: u64,
    write: &mut impl FnMut(u64, &[u8]) -> Result<(), KernelError>,
) -> Result<(), KernelError> {
    pieces.into_iter().try_for_each(|Piece { at, from }| {
        write(before + (at * size_of::<T>()) as u64, bytemuck::cast_slice(&packed[from]))
    })
}

/// Converts values to their storage bytes, rounding to nearest even for f16.
pub fn to_bytes(values: &[f32], dtype: DType) -> Vec<u8> {
    match dtype {
        DType::F16 => {
            let mut halves = vec![f16::ZERO; values.len()];
            halves.convert_from_f32_slice(values);
            bytemuck::cast_slice(&halves).to_vec()
        }
        _ => bytemuck::cast_slice(values).to_vec(),
    }
}

#[cfg(test)]
mod tests;
