//! Token and position embeddings.

use crate::error::KernelError;
use crate::plan::PlanBuilder;
use crate::tensor::{DType, Tensor};
use crate::weight::Param;

/// `y[n,t] = table[ids[n,t]] + positions[t]`.
///
/// Shapes: ids `[N,1,T,1]` of [`DType::U32`], table `[V,C]`, positions `[P,C]` with P ≥ T, result
/// `[N,1,T,C]`. An id past the table reads its last row (callers check ids).
///
/// # Errors
/// [`KernelError::Shape`], [`KernelError::DType`] when recording.
#[derive(Debug, Clone)]
pub struct Embedding {
    /// Token ids.
    pub ids: Tensor,
    /// One row per token.
    pub table: Param,
    /// One row per position.
    pub positions: Option<Param>,
    /// Storage of the result.
    pub out_dtype: DType,
}

impl Embedding {
    /// Records it.
    ///
    /// # Errors
    /// See [`Embedding`].
    pub fn record(self, plan: &mut PlanBuilder) -> Result<Tensor, KernelError> {
        let _ = plan;
        Err(KernelError::Unsupported { op: "embedding".into(), what: "not written yet".into() })
    }
}
