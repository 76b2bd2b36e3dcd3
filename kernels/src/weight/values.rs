//! What a weight is computed from: checkpoint tensors, and what is folded into them when they are read.

use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::{Param, Part, WeightSource, int8};
use crate::error::KernelError;
use crate::tensor::DType;

/// What a weight holds, in terms of checkpoint tensors. Sums are f32 over the values as stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Values {
    /// A checkpoint tensor as it is.
    Plain(Param),
    /// Vectors of one length, behind one another.
    Stack(Vec<Param>),
    /// Vectors of one length, added.
    Sum(Vec<Param>),
    /// Weights of the same outputs whose reductions follow one another: a 3×3 convolution `[O,C,3,3]`
    /// and the 1×1 shortcut `[O,I]` that is added to it.
    Chain([Param; 2]),
    /// `W[o,k]·scale[k]`: a linear layer `[O,K]` behind a normalisation, whose scale it takes over.
    Scaled {
        /// W.
        weight: Param,
        /// `[K]`.
        scale: Param,
    },
    /// What takes over the rest of that normalisation: `bias[o] + Σₖ W[o,k]·shift[k]`, and behind it
    /// `Σₖ W[o,k]·scale[k]`, of the products as `stored`.
    Folded {
        /// W.
        weight: Param,
        /// `[K]`.
        scale: Param,
        /// `[K]`.
        shift: Param,
        /// `[O]`; zero where there is none.
        bias: Option<Param>,
        /// Storage type of the scaled weight.
        stored: DType,
    },
}

impl From<&Param> for Values {
    fn from(param: &Param) -> Self {
        Self::Plain(param.clone())
    }
}

impl Values {
    /// Every checkpoint tensor that is read.
    pub fn params(&self) -> Vec<&Param> {
        match self {
            Self::Plain(param) => vec![param],
            Self::Stack(params) | Self::Sum(params) => params.iter().collect(),
            Self::Chain(params) => params.iter().collect(),
            Self::Scaled { weight, scale } => vec![weight, scale],
            Self::Folded { weight, scale, shift, bias, .. } => {
                [weight, scale, shift].into_iter().chain(bias).collect()
            }
        }
    }

    /// The shapes of the parts.
    pub(crate) fn shapes(&self) -> Vec<Part> {
        let shape = |p: &Param| Part { outer: p.outer(), inner: p.inner.clone() };
        match self {
            Self::Plain(param) | Self::Scaled { weight: param, .. } => vec![shape(param)],
            Self::Stack(params) => params.iter().map(shape).collect(),
            Self::Sum(params) => params.first().map(shape).into_iter().collect(),
            Self::Chain(params) => params.iter().map(shape).collect(),
            Self::Folded { weight, .. } => {
                let vector = Part { outer: weight.outer(), inner: Vec::new() };
                vec![vector.clone(), vector]
            }
        }
    }

    /// Ready to be read in blocks: what is small and computed, such as sums, is read at once.
    pub(super) fn open<'a>(&'a self, source: &'a dyn WeightSource) -> Result<Reader<'a>, KernelError> {
        let of = |params: Vec<&'a Param>| Reader::Params { source, params, scale: None };
        Ok(match self {
            Self::Plain(param) => of(vec![param]),
            Self::Stack(params) => of(params.iter().collect()),
            Self::Chain(params) => of(params.iter().collect()),
            Self::Sum(params) => {
                let mut sum = vec![0.0; params.first().map_or(0, |p| p.outer() as usize)];
                for param in params {
                    sum.iter_mut().zip(param.read(source)?).for_each(|(sum, v)| *sum += v);
                }
                Reader::Vectors(vec![sum])
            }
            Self::Scaled { weight, scale } => {
                let scale = Some(scale.read(source)?);
                Reader::Params { source, params: vec![weight], scale }
            }
            Self::Folded { weight, scale, shift, bias, stored } => {
                let norm = [scale.read(source)?, shift.read(source)?];
                let mut vectors = fold(source, weight, &norm, *stored)?;
                if let Some(bias) = bias {
                    vectors[0].iter_mut().zip(bias.read(source)?).for_each(|(sum, v)| *sum += v);
                }
                Reader::Vectors(vectors)
            }
        })
    }
}

/// Values that are read in blocks.
pub(super) enum Reader<'a> {
    /// Checkpoint tensors, each row times `scale` where there is one.
    Params {
        /// Where they come from.
        source: &'a dyn WeightSource,
        /// One for each part.
        params: Vec<&'a Param>,
        /// As long as a row.
        scale: Option<Vec<f32>>,
    },
    /// Vectors, one for each part.
    Vectors(Vec<Vec<f32>>),
}

impl Reader<'_> {
    /// Puts some rows and columns of a part behind what `values` holds.
    ///
    /// # Errors
    /// What the source reports, or [`KernelError::Weight`] when it returns the wrong length.
    pub(super) fn read(
        &self,
        part: usize,
        rows: Range<usize>,
        columns: Range<usize>,
        values: &mut Vec<f32>,
    ) -> Result<(), KernelError> {
        match self {
            Self::Vectors(vectors) => values.extend_from_slice(&vectors[part][rows]),
            Self::Params { source, params, scale } => {
                let before = values.len();
                params[part].read_block(*source, rows, columns.clone(), values)?;
                if let Some(scale) = scale {
                    multiply(&mut values[before..], &scale[columns]);
                }
            }
        }
        Ok(())
    }
    /// The same as halves, where they are what the source holds: the columns of each row behind what `all` holds, before
    /// they are scaled. None where it does not hold them.
    pub(super) fn halves<'s>(
        &'s self,
        part: usize,
        rows: Range<usize>,
        columns: Range<usize>,
        all: &mut Vec<&'s [f16]>,
    ) -> Option<()> {
        match self {
            Self::Params { source, params, .. } => params[part].halves(*source, rows, columns, all),
            Self::Vectors(_) => None,
        }
    }
    /// What each row is scaled by.
    pub(super) fn scale(&self) -> Option<&[f32]> {
        if let Self::Params { scale: Some(scale), .. } = self { Some(scale) } else { None }
    }
}

/// Every row times `scale`, element by element.
fn multiply(rows: &mut [f32], scale: &[f32]) {
    for row in rows.chunks_exact_mut(scale.len()) {
        row.iter_mut().zip(scale).for_each(|(w, s)| *w *= s);
    }
}

/// Puts `row` times `scale`, element by element, behind what `scaled` holds.
pub(super) fn scale_halves(row: &[f16], scale: &[f32], scaled: &mut Vec<f16>) {
    let (mut values, mut halves) = ([0.0; HALVES], [f16::ZERO; HALVES]);
    for (row, scale) in row.chunks(HALVES).zip(scale.chunks(HALVES)) {
        let (values, halves) = (&mut values[..row.len()], &mut halves[..row.len()]);
        row.convert_to_f32_slice(values);
        multiply(values, scale);
        halves.convert_from_f32_slice(values);
        scaled.extend_from_slice(halves);
    }
}

/// `Σₖ W[o,k]·shift[k]`, and `Σₖ W[o,k]·scale[k]` of the products as `stored`.
fn fold(
    source: &dyn WeightSource,
    weight: &Param,
    [scale, shift]: &[Vec<f32>; 2],
    stored: DType,
) -> Result<Vec<Vec<f32>>, KernelError> {
    let (outer, row) = (weight.outer() as usize, weight.row());
    let (mut shifts, mut sums) = (Vec::with_capacity(outer), Vec::with_capacity(outer));
    let mut values = Vec::new();
    let step = (FOLDED_AT_ONCE / row.max(1)).max(1);
    for first in (0..outer).step_by(step) {
        values.clear();
        weight.read_block(source, first..(first + step).min(outer), 0..row, &mut values)?;
        for row in values.chunks_exact_mut(row) {
            shifts.push(dot(row, shift));
            multiply(row, scale);
            sums.push(stored_sum(row, stored));
        }
    }
    Ok(vec![shifts, sums])
}

/// Values that are folded at a time: they stay where a core reaches them first.
const FOLDED_AT_ONCE: usize = 4 << 10;
/// Values that are rounded at a time.
const HALVES: usize = 256;
/// Terms that are added side by side.
const LANES: usize = 8;
/// Terms that are added in f32 before the sum goes to f64: thousands are added once, for every frame to come.
const RUN: usize = 8 * LANES;

/// `Σ aᵢ·bᵢ`.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let run = |(a, b): (&[f32], &[f32])| {
        let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        let mut sums = [0.0; LANES];
        for (a, b) in a.iter().zip(b) {
            sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
        }
        let rest = a_rest.iter().zip(b_rest).map(|(a, b)| a * b);
        f64::from(sums.into_iter().chain(rest).sum::<f32>())
    };
    a.chunks(RUN).zip(b.chunks(RUN)).map(run).sum::<f64>() as f32
}

/// The sum.
fn sum(values: &[f32]) -> f64 {
    let run = |values: &[f32]| {
        let (chunks, rest) = values.as_chunks::<LANES>();
        let mut sums = [0.0; LANES];
        for chunk in chunks {
            sums.iter_mut().zip(chunk).for_each(|(sum, v)| *sum += v);
        }
        f64::from(sums.into_iter().chain(rest.iter().copied()).sum::<f32>())
    };
    values.chunks(RUN).map(run).sum()
}

/// The sum of the values as `dtype` holds them: what is taken off must be what was put in. The values are changed to
/// what is stored of them.
fn stored_sum(row: &mut [f32], dtype: DType) -> f32 {
    let mut scale = [1.0];
    match dtype {
        DType::I8 => {
            scale = [0.0];
            int8::raise(&mut scale, [&*row]);
            scale = scale.map(int8::scale);
            int8::quantise([&mut *row], &scale);
        }
        DType::F16 => {
            let mut halves = [f16::ZERO; HALVES];
            for values in row.chunks_mut(HALVES) {
                let halves = &mut halves[..values.len()];
                halves.convert_from_f32_slice(values);
                halves.convert_to_f32_slice(values);
            }
        }
        DType::F32 | DType::U32 => {}
    }
    (sum(row) * f64::from(scale[0])) as f32
}
