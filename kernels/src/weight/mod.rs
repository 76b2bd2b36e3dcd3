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
use values::{Reader, scale_halves};

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
    /// All of the same as halves, for sources that hold just these: nothing is lost by reading them as they are. None
    /// where the source holds something else, or something is wrong that [`Self::read_block`] names. They may be such
    /// that are not finite.
    fn halves(&self, _name: &str, _shape: &[u32]) -> Option<&[f16]> {
        None
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

/// Values of a block in one type, as they are read, and as they are packed.
#[derive(Debug, Default)]
struct Stored<T> {
    values: Vec<T>,
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
    /// The same as halves, the columns of each row behind what `all` holds; none where the source does not hold them.
    fn halves<'a>(
        &self,
        source: &'a dyn WeightSource,
        rows: Range<usize>,
        columns: Range<usize>,
        all: &mut Vec<&'a [f16]>,
    ) -> Option<()> {
        let width = self.row();
        for (name, shape, rows) in self.parts_with(rows) {
            let halves = source.halves(name, &shape)?;
            let columns = |ix: usize| halves.get(ix * width + columns.start..ix * width + columns.end);
            for ix in rows {
                all.push(columns(ix)?);
            }
        }
        Some(())
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
            if let Some(rows) = self.halves(&reader, &parts, &block) {
                let pieces = self.pack_halves(&parts, &block, &rows, reader.scale(), &mut scratch.halves);
                hand_over(pieces, &scratch.halves.packed, before, &mut write)?;
                continue;
            }
            self.read(&reader, &parts, &block, &mut scratch.singles)?;
            let Scratch { singles, halves, bytes } = scratch;
            match self.dtype {
                DType::F16 => {
                    halves.values.resize(singles.values.len(), f16::ZERO);
                    halves.values.convert_from_f32_slice(&singles.values);
                    hand_over(self.pack_stored(&parts, &block, halves), &halves.packed, before, &mut write)?;
                }
                DType::I8 => {
                    let rows = rows_mut(&mut singles.values, &block);
                    int8::quantise(self.in_order(rows), &scales[block.rows.clone()]);
                    bytes.values.clear();
                    bytes.values.extend(singles.values.iter().map(|&whole| whole as i8));
                    hand_over(self.pack_stored(&parts, &block, bytes), &bytes.packed, before, &mut write)?;
                }
                DType::F32 | DType::U32 => {
                    hand_over(
                        self.pack_stored(&parts, &block, singles),
                        &singles.packed,
                        before,
                        &mut write,
                    )?;
                }
            }
        }
        Ok(())
    }
    /// Packs the `rows` of a block, in order, times `scale` where there is one; where they belong.
    fn pack_halves(
        &self,
        parts: &[Part],
        block: &Block,
        rows: &[&[f16]],
        scale: Option<&[f32]>,
        Stored { values, packed }: &mut Stored<f16>,
    ) -> Vec<Piece> {
        let Some(scale) = scale else { return self.layout.pack(parts, block, rows, packed) };
        values.clear();
        rows.iter().for_each(|row| scale_halves(row, &scale[block.columns(parts)], values));
        self.layout.pack(parts, block, &rows_of(values, block), packed)
    }
    /// Packs the values of a block, which are not in order; where they belong.
    fn pack_stored<T: Pod>(
        &self,
        parts: &[Part],
        block: &Block,
        Stored { values, packed }: &mut Stored<T>,
    ) -> Vec<Piece> {
        self.layout.pack(parts, block, &self.in_order(rows_of(values, block)), packed)
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
            let rows = self.in_order(rows_of(&scratch.singles.values, block));
            int8::raise(&mut scales[block.rows.clone()], rows);
        }
        scales.iter_mut().for_each(|largest| *largest = int8::scale(*largest));
        Ok(scales)
    }
    /// The values of a block before they are put in order, summed where the layout does, in place of those in `stored`.
    fn read(
        &self,
        reader: &Reader<'_>,
        parts: &[Part],
        block: &Block,
        stored: &mut Stored<f32>,
    ) -> Result<(), KernelError> {
        stored.values.clear();
        for rows in self.stored_rows(parts, block) {
            reader.read(block.part, rows, block.columns(parts), &mut stored.values)?;
        }
        self.layout.fold(&mut stored.values);
        Ok(())
    }
    /// The rows of a block in order, before they are scaled, where halves are wanted, the source holds them, and nothing
    /// else is computed of them.
    fn halves<'a>(&self, reader: &'a Reader<'_>, parts: &[Part], block: &Block) -> Option<Vec<&'a [f16]>> {
        if self.dtype != DType::F16 || self.layout.folds() {
            return None;
        }
        let mut all = Vec::with_capacity(block.rows.len());
        for rows in self.stored_rows(parts, block) {
            reader.halves(block.part, rows, block.columns(parts), &mut all)?;
        }
        // What is not is left to those that name it.
        all.iter().all(|row| halves_are_finite(row)).then(|| self.in_order(all))
    }
    /// The rows of a block as they are stored: those of gates apart from the values that they belong to.
    fn stored_rows(&self, parts: &[Part], block: &Block) -> [Range<usize>; 2] {
        let rows = block.rows.clone();
        if !self.is_gated {
            return [rows, 0..0];
        }
        let half = parts[block.part].outer as usize / 2;
        let rows = rows.start / 2..rows.end / 2;
        [rows.clone(), half + rows.start..half + rows.end]
    }
    /// Rows in the order in which they are packed, of such as are stored.
    fn in_order<R>(&self, mut rows: Vec<R>) -> Vec<R> {
        if !self.is_gated {
            return rows;
        }
        let gates = rows.split_off(rows.len() / 2);
        let (mut values, mut gates) = (rows.into_iter(), gates.into_iter());
        let mut order = Vec::with_capacity(values.len() + gates.len());
        while values.len() > 0 {
            order.extend(values.by_ref().take(2).chain(gates.by_ref().take(2)));
        }
        order
    }
}

/// The rows of the values of a block.
fn rows_of<'a, T>(values: &'a [T], block: &Block) -> Vec<&'a [T]> {
    let width = values.len() / block.rows.len().max(1);
    values.chunks_exact(width.max(1)).collect()
}

/// The same to be changed.
fn rows_mut<'a, T>(values: &'a mut [T], block: &Block) -> Vec<&'a mut [T]> {
    let width = values.len() / block.rows.len().max(1);
    values.chunks_exact_mut(width.max(1)).collect()
}

/// Whether no half is infinite or NaN: those that are have all bits of the exponent.
fn halves_are_finite(values: &[f16]) -> bool {
    const EXPONENT: u16 = 0x7c00;
    values.iter().fold(true, |finite, v| finite & (v.to_bits() & EXPONENT != EXPONENT))
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
