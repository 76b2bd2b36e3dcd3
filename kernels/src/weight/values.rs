//! What a weight is computed from: checkpoint tensors, and what is folded into them when they are read.

use super::{Param, Part, Scratch, WeightSource};
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

    /// The shapes of what [`Self::read`] returns.
    pub(super) fn shapes(&self) -> Vec<Part> {
        let shape = |p: &Param| Part { outer: p.outer(), inner: p.inner.clone(), data: Vec::new() };
        match self {
            Self::Plain(param) | Self::Scaled { weight: param, .. } => vec![shape(param)],
            Self::Stack(params) => params.iter().map(shape).collect(),
            Self::Sum(params) => params.first().map(shape).into_iter().collect(),
            Self::Chain(params) => params.iter().map(shape).collect(),
            Self::Folded { weight, .. } => {
                let vector = Part { outer: weight.outer(), inner: Vec::new(), data: Vec::new() };
                vec![vector.clone(), vector]
            }
        }
    }

    /// Reads and folds.
    pub(super) fn read(
        &self,
        source: &dyn WeightSource,
        scratch: &mut Scratch,
    ) -> Result<Vec<Part>, KernelError> {
        let mut parts = self.shapes();
        match self {
            Self::Plain(_) | Self::Stack(_) | Self::Chain(_) => {
                for (part, param) in parts.iter_mut().zip(self.params()) {
                    part.data = param.read_into(source, scratch.vector())?;
                }
            }
            Self::Sum(params) => {
                let mut sum = vec![0.0; parts.iter().map(|p| p.outer as usize).sum()];
                for param in params {
                    sum.iter_mut().zip(param.read(source)?).for_each(|(sum, v)| *sum += v);
                }
                parts.iter_mut().for_each(|part| part.data = std::mem::take(&mut sum));
            }
            Self::Scaled { weight, scale } => {
                let weight = weight.read_into(source, scratch.vector())?;
                parts[0].data = scaled(weight, &scale.read(source)?);
            }
            Self::Folded { weight, scale, shift, bias, stored } => {
                let weight = weight.read_into(source, scratch.vector())?;
                let shift = shift.read(source)?;
                let mut folded: Vec<f32> =
                    weight.chunks_exact(shift.len()).map(|row| dot(row, &shift)).collect();
                if let Some(bias) = bias {
                    folded.iter_mut().zip(bias.read(source)?).for_each(|(sum, v)| *sum += v);
                }
                let weight = scaled(weight, &scale.read(source)?);
                parts[0].data = folded;
                parts[1].data =
                    weight.chunks_exact(shift.len()).map(|row| stored_sum(row, *stored)).collect();
                scratch.give_back(weight);
            }
        }
        Ok(parts)
    }
}

/// Every row times `scale`, element by element.
fn scaled(mut weight: Vec<f32>, scale: &[f32]) -> Vec<f32> {
    for row in weight.chunks_exact_mut(scale.len()) {
        row.iter_mut().zip(scale).for_each(|(w, s)| *w *= s);
    }
    weight
}

/// In f64: thousands of terms are added once, for every frame to come.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
}

/// The sum of the values as `dtype` holds them: what is taken off must be what was put in.
fn stored_sum(row: &[f32], dtype: DType) -> f32 {
    let sum: f64 = match dtype {
        DType::F16 => row.iter().map(|&v| half::f16::from_f32(v).to_f64()).sum(),
        _ => row.iter().map(|&v| f64::from(v)).sum(),
    };
    sum as f32
}
