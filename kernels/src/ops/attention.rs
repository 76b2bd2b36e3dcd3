//! Fused multi-head attention with an online softmax.

use crate::error::KernelError;
use crate::plan::PlanBuilder;
use crate::tensor::{Columns, Tensor};

/// `softmax(q·kᵀ·scale + mask)·v` per head; scores are never stored.
///
/// Shapes: q `[N,H,W,heads·D]` (T = H·W queries), k and v `[N or 1, H',W', heads·D]` (S keys); a
/// batch of 1 serves every row of q. Result `[N,H,W,heads·D]` in q's storage. Head `i` has
/// channels `i·D…`. D is a multiple of 4 up to 160. Each may be a column block of a fused
/// projection. Logits, maximum, sum and output are accumulated in f32.
///
/// # Errors
/// [`KernelError::Shape`], [`KernelError::DType`], [`KernelError::Unsupported`] when recording.
#[derive(Debug, Clone)]
pub struct Attention {
    /// Queries.
    pub q: Columns,
    /// Keys.
    pub k: Columns,
    /// Values.
    pub v: Columns,
    /// Number of heads.
    pub heads: u32,
    /// Factor on the scores, usually `1/sqrt(D)`.
    pub scale: f32,
    /// Whether query `t` sees keys `0..=t` only.
    pub causal: bool,
}

impl Attention {
    /// Attention with `scale = 1/sqrt(head_dim)` and no mask.
    pub fn new(q: impl Into<Columns>, k: impl Into<Columns>, v: impl Into<Columns>, heads: u32) -> Self {
        let q = q.into();
        let scale = 1.0 / ((q.c / heads.max(1)) as f32).sqrt();
        Self { q, k: k.into(), v: v.into(), heads, scale, causal: false }
    }
    /// Records it.
    ///
    /// # Errors
    /// See [`Attention`].
    pub fn record(self, plan: &mut PlanBuilder) -> Result<Tensor, KernelError> {
        let _ = plan;
        Err(KernelError::Unsupported { op: "attention".into(), what: "not written yet".into() })
    }
}
