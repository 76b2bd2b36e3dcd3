//! Weighted sums of tensors: noise, guidance and scheduler steps.

use crate::error::KernelError;
use crate::ops::Activation;
use crate::plan::PlanBuilder;
use crate::tensor::{DType, Tensor};

/// Factors of a [`LinearCombination`].
#[derive(Debug, Clone, PartialEq)]
pub enum Coefficients {
    /// The same for every batch row, fixed when recording.
    Constant(Vec<f32>),
    /// `[N,1,1,terms]` f32: one set per batch row, written before a replay.
    PerRow(Tensor),
}

/// `y = act(Σ_i c_i·x_i + offset)`.
///
/// Shapes: one to four terms `[N or 1,H,W,C]` of any float storage (a batch of 1 serves every
/// row), result `[N,H,W,C]`. Padding channels of the result are zero.
///
/// # Errors
/// [`KernelError::Shape`], [`KernelError::DType`] when recording.
#[derive(Debug, Clone)]
pub struct LinearCombination {
    /// The tensors.
    pub terms: Vec<Tensor>,
    /// Their factors.
    pub coefficients: Coefficients,
    /// Added to every element.
    pub offset: f32,
    /// Applied last.
    pub activation: Activation,
    /// Storage of the result.
    pub out_dtype: DType,
}

impl LinearCombination {
    /// Records it.
    ///
    /// # Errors
    /// See [`LinearCombination`].
    pub fn record(self, plan: &mut PlanBuilder) -> Result<Tensor, KernelError> {
        let _ = plan;
        Err(KernelError::Unsupported { op: "linear_combination".into(), what: "not written yet".into() })
    }
}
