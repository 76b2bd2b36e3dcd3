//! Token and position embeddings.

use crate::error::{KernelError, shape_error};
use crate::ops::check;
use crate::plan::{Define, Dispatch, Operand, PlanBuilder, Variant};
use crate::tensor::{DType, Shape, Tensor};
use crate::weight::{Layout, Param};

/// `y[n,t] = table[ids[n,t]] + positions[t]`.
///
/// Shapes: ids `[N,1,T,1]` of [`DType::U32`], table `[V,C]`, positions `[P,C]` with P ≥ T, result
/// `[N,1,T,C]`. An id past the table reads its last row (callers check ids).
/// Tables are stored like the result, or as f16 where f32 would not fit a binding.
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
        let op = "embedding";
        check::dtype(op, self.ids, DType::U32)?;
        check::float_dtype(op, self.out_dtype)?;
        let shape = self.ids.shape;
        let (vocabulary, c) = rows("embedding table", &self.table)?;
        if shape.c != 1 || shape.h != 1 || vocabulary == 0 {
            return Err(shape_error(op, "ids [N,1,T,1] and a table with rows", self.ids));
        }
        let y = plan.slot(shape.with_c(c), self.out_dtype);
        let (table, table_dtype) = self.table(plan, &self.table);
        let mut bindings = vec![("ids", self.ids.operand(), false), ("table", table, false)];
        bindings.push(("y", y.operand(), true));
        let mut positions_dtype = self.out_dtype;
        if let Some(param) = &self.positions {
            let (tokens, width) = rows("embedding positions", param)?;
            if width != c || tokens < shape.w {
                let expected = format!("[P,{c}] with P >= {}", shape.w);
                return Err(shape_error("embedding positions", expected, format!("[{tokens},{width}]")));
            }
            let (positions, dtype) = self.table(plan, param);
            bindings.push(("positions", positions, false));
            positions_dtype = dtype;
        }
        let quads = y.shape.pitch() / 4;
        let count = shape.rows() * quads;
        let (grid, width) = check::cover(plan, count);
        plan.dispatch(Dispatch {
            label: op.into(),
            variant: Variant {
                stem: "embedding",
                defines: vec![
                    ("table_dtype", check::define(table_dtype)),
                    ("positions_dtype", check::define(positions_dtype)),
                    ("y_dtype", check::define(self.out_dtype)),
                    ("positions", Define::Bool(self.positions.is_some())),
                ],
            },
            bindings,
            immediates: vec![count, quads, shape.w, vocabulary, width],
            grid,
            flops: if self.positions.is_some() { y.shape.elements() } else { 0 },
        })?;
        Ok(y)
    }

    /// A table as a weight and its storage: that of the result, or f16 where f32 is larger than
    /// the adapter binds.
    fn table(&self, plan: &mut PlanBuilder, param: &Param) -> (Operand, DType) {
        let bytes = u64::from(param.outer()) * u64::from(param.inner[0].next_multiple_of(4)) * 4;
        let fits = bytes <= plan.target().max_binding_bytes;
        let dtype = if fits { self.out_dtype } else { DType::F16 };
        (plan.weight(param, Layout::Rows, dtype), dtype)
    }
}

/// Rows and columns of a table.
fn rows(op: &str, param: &Param) -> Result<(u32, u32), KernelError> {
    match param.inner[..] {
        [c] if c > 0 => Ok((param.outer(), c)),
        _ => Err(shape_error(op, "[rows, C]", format!("{:?}", param.shape()))),
    }
}

/// Every kind of variant that this op records.
pub(crate) fn variants() -> Vec<Variant> {
    check::recorded(|plan| {
        let ids = plan.input("ids", Shape::tokens(1, 8, 1), DType::U32);
        for out_dtype in [DType::F16, DType::F32] {
            for positions in [None, Some(Param::new("positions", &[8, 16]))] {
                let table = Param::new("table", &[32, 16]);
                Embedding { ids, table, positions, out_dtype }.record(plan)?;
            }
        }
        // A table too large for the adapter as f32.
        let table = Param::new("large", &[1 << 20, 64]);
        Embedding { ids, table, positions: None, out_dtype: DType::F32 }.record(plan)?;
        Ok(())
    })
}
