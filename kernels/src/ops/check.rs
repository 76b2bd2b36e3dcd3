//! Checks, grids and variant lists that several ops share.

use crate::error::{KernelError, shape_error};
use crate::plan::{Define, PlanBuilder, Variant};
use crate::target::{Matrices, Target};
use crate::tensor::{DType, Tensor};
use crate::weight::Param;

/// Invocations in a workgroup of the kernels that treat every element by itself.
pub(super) const THREADS: u32 = 64;

/// Refuses a tensor that does not hold f16 or f32.
pub(super) fn float(op: &str, tensor: Tensor) -> Result<(), KernelError> {
    float_dtype(op, tensor.dtype)
}

/// Refuses a storage type other than f16 and f32.
pub(super) fn float_dtype(op: &str, dtype: DType) -> Result<(), KernelError> {
    if !matches!(dtype, DType::F16 | DType::F32) {
        return Err(KernelError::DType {
            op: op.into(),
            expected: "f16 or f32".into(),
            got: dtype.to_string(),
        });
    }
    Ok(())
}

/// Refuses a tensor that is not of `expected` storage.
pub(super) fn dtype(op: &str, tensor: Tensor, expected: DType) -> Result<(), KernelError> {
    if tensor.dtype != expected {
        return Err(KernelError::DType {
            op: op.into(),
            expected: expected.to_string(),
            got: tensor.dtype.to_string(),
        });
    }
    Ok(())
}

/// Refuses a weight that is not a vector of `c`.
pub(super) fn vector(op: &str, param: &Param, c: u32) -> Result<(), KernelError> {
    if param.shape() != [c] {
        return Err(shape_error(op, format!("[{c}]"), format!("{:?}", param.shape())));
    }
    Ok(())
}

/// `groups` workgroups folded into two dimensions where one would be too long, and the length
/// of a row of that grid: workgroup `(x, y)` is number `y·row + x`.
pub(super) fn fold(plan: &PlanBuilder, groups: u32) -> ([u32; 3], u32) {
    let rows = groups.div_ceil(plan.target().max_workgroups).max(1);
    let row = groups.div_ceil(rows).max(1);
    ([row, rows, 1], row)
}

/// A grid of [`THREADS`]-wide workgroups that covers `threads` invocations, and the invocations
/// in a row of that grid: invocation `(x, y)` is number `y·row + x`.
pub(super) fn cover(plan: &PlanBuilder, threads: u32) -> ([u32; 3], u32) {
    let (grid, row) = fold(plan, threads.div_ceil(THREADS));
    (grid, row * THREADS)
}

/// A storage type as a template sees it.
pub(super) fn define(dtype: DType) -> Define {
    Define::Str(dtype.name())
}

/// The distinct variants that `record` leads to on every tier.
pub(super) fn recorded(record: impl Fn(&mut PlanBuilder) -> Result<(), KernelError>) -> Vec<Variant> {
    let mut variants = Vec::new();
    let mut targets = vec![Target::tile(), Target::lane(4), Target::lane(8), Target::lane(16)];
    // Matrix units as on NVIDIA and AMD, on Apple's, and on a CPU adapter.
    for (fragment, has_vectors, lanes) in [(16, true, 32), (8, false, 32), (8, true, 8)] {
        let matrices = Some(Matrices { fragment, has_vectors, lanes });
        targets.push(Target { matrices, max_workgroup_bytes: 48 << 10, ..Target::tile() });
    }
    for target in targets {
        let mut plan = PlanBuilder::new(target);
        // The arguments are ours and fixed: a refusal is a bug in the op.
        record(&mut plan).expect("a listed variant records");
        let plan = plan.finish();
        for plan in [plan.clone().with_int8_weights(), plan] {
            let others = plan.choices.into_values().flat_map(|choices| choices.candidates);
            variants.extend(others.map(|candidate| candidate.variant));
            variants.extend(plan.dispatches.into_iter().map(|d| d.variant));
        }
    }
    variants.sort();
    variants.dedup();
    variants
}
