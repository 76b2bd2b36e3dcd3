//! Cosine similarity of two tensors: how alike two pictures are.

use crate::error::{KernelError, shape_error};
use crate::ops::check;
use crate::plan::{Define, Dispatch, PlanBuilder, Variant};
use crate::target::Tier;
use crate::tensor::{DType, Shape, Tensor};

/// `y = a·b / max(|a|·|b|, 1e-6)`, both tensors flattened into one vector.
///
/// Shapes: a and b `[N,H,W,C]` of any float storage, result `[1,1,1,1]` f32 in −1…1, 0 where either
/// is all zeros. Sums in f32, always in the same order.
///
/// # Errors
/// [`KernelError::Shape`] when the shapes differ or are empty, [`KernelError::DType`].
#[derive(Debug, Clone, Copy)]
pub struct Similarity {
    /// First tensor.
    pub a: Tensor,
    /// Second tensor.
    pub b: Tensor,
}

impl Similarity {
    /// Smallest divisor: the similarity with nothing is 0, not a NaN.
    pub const LEAST: f32 = 1e-6;

    /// The similarity of `a` and `b`.
    pub fn new(a: Tensor, b: Tensor) -> Self {
        Self { a, b }
    }
    /// Records it.
    ///
    /// # Errors
    /// See [`Similarity`].
    pub fn record(self, plan: &mut PlanBuilder) -> Result<Tensor, KernelError> {
        let op = "similarity";
        check::float(op, self.a)?;
        check::float(op, self.b)?;
        if self.a.shape != self.b.shape || self.a.shape.elements() == 0 {
            return Err(shape_error(op, self.a, self.b));
        }
        let parts = self.record_parts(plan)?;
        record_combine(plan, parts)
    }

    /// Sums over shares of the elements: `[1, 1, shares, 3]` f32.
    fn record_parts(self, plan: &mut PlanBuilder) -> Result<Tensor, KernelError> {
        // Quads that an invocation should have to itself, so that starting it is worth while.
        const SPAN: u32 = 16;
        let tier = plan.target().tier;
        // Workgroups: a GPU wants all its cores busy, a CPU adapter few parts to combine.
        let most = match tier {
            Tier::Tile => 256,
            Tier::Lane => 16,
        };
        let quads = self.a.shape.rows() * (self.a.shape.pitch() / 4);
        let groups = quads.div_ceil(SPAN * check::THREADS).clamp(1, most);
        let threads = groups * check::THREADS;
        let shares = match tier {
            Tier::Tile => groups,
            Tier::Lane => threads,
        };
        let parts = plan.slot(Shape::tokens(1, shares, 3), DType::F32);
        plan.dispatch(Dispatch {
            label: "similarity sums".into(),
            variant: Variant {
                stem: "similarity_partial",
                defines: vec![
                    ("tier", Define::Str(tier.name())),
                    ("a_dtype", check::define(self.a.dtype)),
                    ("b_dtype", check::define(self.b.dtype)),
                ],
            },
            bindings: vec![
                ("a", self.a.operand(), false),
                ("b", self.b.operand(), false),
                ("parts", parts.operand(), true),
            ],
            immediates: vec![quads, threads],
            grid: [groups, 1, 1],
            // Three products and sums.
            flops: 6 * self.a.shape.elements(),
        })?;
        Ok(parts)
    }
}

/// The quotient: `[1, 1, 1, 1]` f32.
fn record_combine(plan: &mut PlanBuilder, parts: Tensor) -> Result<Tensor, KernelError> {
    let y = plan.slot(Shape::vector(1, 1), DType::F32);
    let tier = Define::Str(plan.target().tier.name());
    plan.dispatch(Dispatch {
        label: "similarity".into(),
        variant: Variant { stem: "similarity_combine", defines: vec![("tier", tier)] },
        bindings: vec![("parts", parts.operand(), false), ("y", y.operand(), true)],
        immediates: vec![parts.shape.w, Similarity::LEAST.to_bits()],
        grid: [1, 1, 1],
        flops: parts.shape.elements(),
    })?;
    Ok(y)
}

/// Every kind of variant that this op records.
pub(crate) fn variants() -> Vec<Variant> {
    const F: [DType; 2] = [DType::F16, DType::F32];
    check::recorded(|plan| {
        for (i, (a, b)) in F.into_iter().flat_map(|a| F.map(|b| (a, b))).enumerate() {
            let shape = Shape::new(1, 4, 4, 3);
            let a = plan.input(&format!("a{i}"), shape, a);
            let b = plan.input(&format!("b{i}"), shape, b);
            Similarity::new(a, b).record(plan)?;
        }
        Ok(())
    })
}
