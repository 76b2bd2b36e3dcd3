//! Group normalisation, optionally with SiLU.

use crate::error::{KernelError, shape_error};
use crate::ops::{Activation, check};
use crate::plan::{Define, Dispatch, PlanBuilder, Variant};
use crate::target::Tier;
use crate::tensor::{DType, Shape, Tensor};
use crate::weight::{Layout, Param};

/// `y = act((x − mean_g)/sqrt(var_g + eps)·weight + bias)` over each group of `C/groups` channels
/// and all positions of a batch row, act being SiLU or nothing.
///
/// Shapes: x `[N,H,W,C1]`, x2 `[N,H,W,C2]` (joined behind x; the result is materialised), weight
/// and bias `[C1+C2]`, result `[N,H,W,C1+C2]`. Statistics in f32, combined after Chan.
///
/// # Errors
/// [`KernelError::Shape`] when groups do not divide the channels, [`KernelError::DType`].
#[derive(Debug, Clone)]
pub struct GroupNorm {
    /// Input.
    pub x: Tensor,
    /// Second input, joined behind x along channels.
    pub x2: Option<Tensor>,
    /// Scale `[C]`.
    pub weight: Param,
    /// Shift `[C]`.
    pub bias: Param,
    /// Number of groups.
    pub groups: u32,
    /// Added to the variance.
    pub eps: f32,
    /// Whether SiLU follows.
    pub silu: bool,
    /// Storage of the result; that of x when none.
    pub out_dtype: Option<DType>,
}

impl GroupNorm {
    /// Normalisation without an activation.
    pub fn new(x: Tensor, weight: Param, bias: Param, groups: u32, eps: f32) -> Self {
        Self { x, x2: None, weight, bias, groups, eps, silu: false, out_dtype: None }
    }
    /// Records it.
    ///
    /// # Errors
    /// See [`GroupNorm`].
    pub fn record(self, plan: &mut PlanBuilder) -> Result<Tensor, KernelError> {
        let shape = self.check()?;
        if plan.target().tier == Tier::Lane {
            return self.record_whole(plan, shape);
        }
        let parts = self.record_parts(plan, shape)?;
        let factors = self.record_combine(plan, shape, parts)?;
        self.record_apply(plan, shape, factors)
    }

    /// The result's shape.
    fn check(&self) -> Result<Shape, KernelError> {
        let op = "group_norm";
        check::float(op, self.x)?;
        check::float_dtype(op, self.out_dtype.unwrap_or(self.x.dtype))?;
        let mut shape = self.x.shape;
        if let Some(x2) = self.x2 {
            check::float(op, x2)?;
            if x2.shape.with_c(shape.c) != shape || !shape.c.is_multiple_of(4) {
                let expected = format!("x2 like {} and a multiple of 4 channels before it", self.x);
                return Err(shape_error(op, expected, x2));
            }
            shape.c += x2.shape.c;
        }
        if self.groups == 0 || !shape.c.is_multiple_of(self.groups) || shape.elements() == 0 {
            return Err(shape_error(op, format!("channels that {} groups divide", self.groups), shape));
        }
        check::vector("group_norm weight", &self.weight, shape.c)?;
        check::vector("group_norm bias", &self.bias, shape.c)?;
        Ok(shape)
    }

    /// Storage types of x and x2 as the templates see them.
    fn defines(&self) -> Vec<(&'static str, Define)> {
        let x2 = self.x2.map_or(Define::Str("none"), |x2| check::define(x2.dtype));
        vec![("x_dtype", check::define(self.x.dtype)), ("x2_dtype", x2)]
    }

    /// Positions in a chunk of the statistics.
    fn span(positions: u32) -> u32 {
        // Many short chunks fill a GPU.
        positions.div_ceil(128).max(32).min(positions)
    }

    /// Storage type and activation of the result as the templates see them.
    fn result_defines(&self) -> [(&'static str, Define); 2] {
        let activation = if self.silu { Activation::Silu } else { Activation::None };
        let dtype = self.out_dtype.unwrap_or(self.x.dtype);
        [("y_dtype", check::define(dtype)), ("activation_name", Define::Str(activation.name()))]
    }

    /// All of it in one dispatch, for CPU adapters: they have few threads, and each dispatch costs them and the
    /// program time.
    fn record_whole(&self, plan: &mut PlanBuilder, shape: Shape) -> Result<Tensor, KernelError> {
        let y = plan.slot(shape, self.out_dtype.unwrap_or(self.x.dtype));
        let layout = Layout::Vector { padded: shape.pitch() };
        let weight = plan.weight(&self.weight, layout.clone(), DType::F32);
        let bias = plan.weight(&self.bias, layout, DType::F32);
        // The fewest groups that fill whole quads of channels.
        let group_c = shape.c / self.groups;
        let bundle = if group_c.is_multiple_of(4) {
            group_c / 4
        } else if group_c.is_multiple_of(2) {
            group_c / 2
        } else {
            group_c
        };
        let quads = shape.pitch() / 4;
        let mut defines = self.defines();
        defines.extend(self.result_defines());
        defines.push(("lanes", Define::U32(plan.target().lanes)));
        let mut bindings = vec![
            ("x", self.x.operand(), false),
            ("weight", weight, false),
            ("bias", bias, false),
            ("y", y.operand(), true),
        ];
        bindings.extend(self.x2.map(|x2| ("x2", x2.operand(), false)));
        let sizes = [bundle, group_c, shape.c, quads, self.x.shape.pitch() / 4, shape.positions()];
        plan.dispatch(Dispatch {
            label: "group_norm".into(),
            variant: Variant { stem: "group_norm_lane", defines },
            bindings,
            immediates: [&sizes[..], &[self.eps.to_bits()]].concat(),
            grid: [quads.div_ceil(bundle), shape.n, 1],
            // Statistics six, as of the parts; difference, product, sum; SiLU four more.
            flops: if self.silu { 13 } else { 9 } * shape.elements(),
        })?;
        Ok(y)
    }

    /// Mean and squared deviations of every channel in each chunk: `[N, chunks, 2, C]` f32.
    fn record_parts(&self, plan: &mut PlanBuilder, shape: Shape) -> Result<Tensor, KernelError> {
        let span = Self::span(shape.positions());
        let chunks = shape.positions().div_ceil(span);
        let parts = plan.slot(Shape::new(shape.n, chunks, 2, shape.c), DType::F32);
        let quads = shape.pitch() / 4;
        let count = shape.n * chunks * quads;
        let (grid, width) = check::cover(plan, count);
        let mut bindings = vec![("x", self.x.operand(), false), ("parts", parts.operand(), true)];
        bindings.extend(self.x2.map(|x2| ("x2", x2.operand(), false)));
        plan.dispatch(Dispatch {
            label: "group_norm statistics".into(),
            variant: Variant { stem: "group_norm_partial", defines: self.defines() },
            bindings,
            immediates: vec![count, shape.positions(), span, chunks, quads, self.x.shape.pitch() / 4, width],
            grid,
            // Welford: two differences, a quotient, a product and two sums.
            flops: 6 * shape.elements(),
        })?;
        Ok(parts)
    }

    /// Each channel's group mean and factor: `[N, 1, 2, C]` f32.
    fn record_combine(
        &self,
        plan: &mut PlanBuilder,
        shape: Shape,
        parts: Tensor,
    ) -> Result<Tensor, KernelError> {
        let factors = plan.slot(Shape::new(shape.n, 1, 2, shape.c), DType::F32);
        let weight = plan.weight(&self.weight, Layout::Vector { padded: shape.pitch() }, DType::F32);
        let count = shape.n * self.groups;
        let group_c = shape.c / self.groups;
        let (positions, span) = (shape.positions(), Self::span(shape.positions()));
        let sizes = [count, self.groups, group_c, shape.c, shape.pitch(), positions, span, parts.shape.h];
        plan.dispatch(Dispatch {
            label: "group_norm combine".into(),
            variant: Variant { stem: "group_norm_combine", defines: Vec::new() },
            bindings: vec![
                ("parts", parts.operand(), false),
                ("weight", weight, false),
                ("factors", factors.operand(), true),
            ],
            immediates: [&sizes[..], &[self.eps.to_bits()]].concat(),
            grid: [count, 1, 1],
            // Two passes over one mean and one sum for each channel and chunk.
            flops: 9 * parts.shape.elements() / 2,
        })?;
        Ok(factors)
    }

    /// The result.
    fn record_apply(
        &self,
        plan: &mut PlanBuilder,
        shape: Shape,
        factors: Tensor,
    ) -> Result<Tensor, KernelError> {
        // Enough positions to read each channel's numbers seldom, few enough to fill a GPU.
        const SPAN: u32 = 8;
        let out = self.out_dtype.unwrap_or(self.x.dtype);
        let y = plan.slot(shape, out);
        let bias = plan.weight(&self.bias, Layout::Vector { padded: shape.pitch() }, DType::F32);
        let strips = shape.positions().div_ceil(SPAN);
        let quads = shape.pitch() / 4;
        let count = shape.n * strips * quads;
        let (grid, width) = check::cover(plan, count);
        let mut defines = self.defines();
        defines.extend(self.result_defines());
        let mut bindings = vec![
            ("x", self.x.operand(), false),
            ("factors", factors.operand(), false),
            ("bias", bias, false),
            ("y", y.operand(), true),
        ];
        bindings.extend(self.x2.map(|x2| ("x2", x2.operand(), false)));
        plan.dispatch(Dispatch {
            label: "group_norm".into(),
            variant: Variant { stem: "group_norm_apply", defines },
            bindings,
            immediates: vec![count, shape.positions(), SPAN, strips, quads, self.x.shape.pitch() / 4, width],
            grid,
            // Difference, product, sum; the exponential and quotient of SiLU count four.
            flops: if self.silu { 7 } else { 3 } * shape.elements(),
        })?;
        Ok(y)
    }
}

/// Every kind of variant that this op records.
pub(crate) fn variants() -> Vec<Variant> {
    const F: [DType; 2] = [DType::F16, DType::F32];
    check::recorded(|plan| {
        for (i, dtype) in F.into_iter().enumerate() {
            let x = plan.input(&format!("x{i}"), Shape::new(1, 4, 4, 8), dtype);
            for x2_dtype in [None, Some(DType::F16), Some(DType::F32)] {
                let name = format!("x{i}{x2_dtype:?}");
                let x2 = x2_dtype.map(|dtype| plan.input(&name, x.shape, dtype));
                let c = if x2.is_some() { 16 } else { 8 };
                let vector = |name| Param::new(name, &[c]);
                let norm = GroupNorm { x2, ..GroupNorm::new(x, vector("weight"), vector("bias"), 2, 1e-5) };
                for (silu, out) in [(false, F[0]), (false, F[1]), (true, F[0]), (true, F[1])] {
                    GroupNorm { silu, out_dtype: Some(out), ..norm.clone() }.record(plan)?;
                }
            }
        }
        Ok(())
    })
}
