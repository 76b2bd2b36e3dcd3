//! What linear layers and convolutions share: operands, weight layouts, epilogue and grid.

use std::cmp::Reverse;

use super::Activation;
use super::check;
use crate::error::{KernelError, shape_error};
use crate::plan::{Define, Dispatch, Operand, PlanBuilder, Variant};
use crate::target::{Target, Tier};
use crate::tensor::{DType, Shape, Tensor};
use crate::weight::{Layout, Param};

/// Rows and columns of a workgroup tile of the [`Tier::Tile`] kernels.
const TILE: u32 = 64;
/// Threads of a workgroup of the narrow kernel on the [`Tier::Tile`].
const NARROW_THREADS: u32 = 64;

/// Which family of kernels computes a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Rows times a matrix.
    Product,
    /// Windows of pixels times a matrix.
    Window,
    /// 3×3 windows behind a doubling of the picture, as four phases of 2×2 windows before it.
    Phases,
    /// 3×3 windows with stride 1 of one source, times at most four columns.
    Narrow,
}

impl Form {
    fn stem(self, tier: Tier) -> &'static str {
        match (self, tier) {
            (Self::Product, Tier::Lane) => "gemm_lane",
            (Self::Product, Tier::Tile) => "gemm_tile",
            (Self::Window | Self::Phases, Tier::Lane) => "conv2d_lane",
            (Self::Window | Self::Phases, Tier::Tile) => "conv2d_tile",
            (Self::Narrow, _) => "conv2d_narrow",
        }
    }
}

/// The operands and epilogue of a product of pixels or tokens with a weight.
pub(super) struct Matmul {
    /// Name for errors.
    pub op: &'static str,
    /// Family of kernels.
    pub form: Form,
    /// Input `[N,H,W,C1]`.
    pub x: Tensor,
    /// Second input, joined behind x.
    pub x2: Option<Tensor>,
    /// Weight `[O, C1+C2, …]`.
    pub weight: Param,
    /// Bias `[O]`.
    pub bias: Option<Param>,
    /// `[N,1,1,O]`, added per batch row.
    pub time_embedding: Option<Tensor>,
    /// Added per element.
    pub residual: Option<Tensor>,
    /// Applied last.
    pub activation: Activation,
    /// Shape of the result.
    pub out: Shape,
    /// Storage of the result.
    pub out_dtype: DType,
    /// Taps of the kernel: 1, 9, or 4 of each phase.
    pub taps: u32,
    /// Further defines of the kernel.
    pub defines: Vec<(&'static str, Define)>,
    /// Further immediates of the kernel, after the shared ones.
    pub immediates: Vec<u32>,
}

impl Matmul {
    /// Checks operands, adds weights and records the dispatch.
    pub(super) fn record(self, plan: &mut PlanBuilder) -> Result<Tensor, KernelError> {
        self.check()?;
        let target = plan.target();
        let rows_per_lane = self.rows_per_lane(target);
        let columns = match (self.form, target.tier) {
            (Form::Narrow, _) => 4,
            (_, Tier::Lane) => 4 * self.column_quads(target) * target.lanes,
            (_, Tier::Tile) => TILE,
        };
        // Of one phase, where there are phases.
        let rows = if self.form == Form::Phases { self.x.shape.rows() } else { self.out.rows() };
        let row_tiles = match (self.form, target.tier) {
            (Form::Narrow, tier) => {
                let threads = if tier == Tier::Lane { target.lanes } else { NARROW_THREADS };
                (self.out.n * self.out.h * self.out.w.div_ceil(rows_per_lane)).div_ceil(threads)
            }
            (_, Tier::Lane) => rows.div_ceil(rows_per_lane * target.lanes),
            (_, Tier::Tile) => rows.div_ceil(TILE),
        };
        let phases = if self.form == Form::Phases { 4 } else { 1 };
        let ([row_groups, folds, _], _) = check::fold(plan, phases * row_tiles);
        let grid = [row_groups, self.out.c.div_ceil(columns), folds];
        let y = plan.slot(self.out, self.out_dtype);
        let bindings = self.bindings(plan, columns, y);
        let mut immediates = vec![
            rows,
            rows / self.out.n.max(1),
            self.out.pitch() / 4,
            self.out.c,
            self.x.shape.pitch() / 4,
            self.x2.map_or(0, |t| t.shape.pitch() / 4),
            row_groups,
        ];
        immediates.extend(&self.immediates);
        if self.form == Form::Phases {
            immediates.push(row_tiles);
        }
        let variant = self.variant(target, rows_per_lane);
        let label = self.weight.parts[0].0.trim_end_matches(".weight").to_string();
        let flops = 2 * u64::from(self.out.rows()) * u64::from(self.out.c) * self.reduction();
        plan.dispatch(Dispatch { label, variant, bindings, immediates, grid, flops })?;
        Ok(y)
    }

    fn reduction(&self) -> u64 {
        u64::from(self.x.shape.c + self.x2.map_or(0, |t| t.shape.c)) * u64::from(self.taps)
    }

    fn check(&self) -> Result<(), KernelError> {
        let op = self.op;
        check::float(op, self.x)?;
        check::float_dtype(op, self.out_dtype)?;
        let channels = self.x.shape.c + self.x2.map_or(0, |t| t.shape.c);
        if self.weight.inner.first() != Some(&channels) || self.weight.outer() != self.out.c {
            let expected = format!("a weight [{},{channels},…] for {}", self.out.c, self.x);
            return Err(shape_error(
                op,
                expected,
                format!("{} {:?}", self.weight.name(), self.weight.shape()),
            ));
        }
        let is_like_x = |t: &Tensor| t.shape.with_c(0) == self.x.shape.with_c(0) && t.dtype == self.x.dtype;
        if let Some(x2) = self.x2.filter(|t| !is_like_x(t)) {
            return Err(shape_error(op, format!("a second input like {}", self.x), x2));
        }
        if let Some(bias) = self.bias.as_ref().filter(|b| b.shape() != [self.out.c]) {
            return Err(shape_error(op, format!("a bias [{}]", self.out.c), format!("{:?}", bias.shape())));
        }
        let time = Shape::vector(self.out.n, self.out.c);
        for (tensor, expected) in [(self.time_embedding, time), (self.residual, self.out)] {
            let Some(tensor) = tensor else { continue };
            check::float(op, tensor)?;
            if tensor.shape != expected {
                return Err(shape_error(op, expected, tensor));
            }
        }
        Ok(())
    }

    /// Output rows, or neighbouring pixels of the narrow form, that one invocation computes.
    fn rows_per_lane(&self, target: Target) -> u32 {
        match (self.form, target.tier) {
            (Form::Narrow, Tier::Lane) => 8,
            (Form::Narrow, Tier::Tile) => 4,
            _ if self.out.rows() <= target.lanes => 1,
            _ => (32 / target.lanes.max(1)).clamp(1, 4),
        }
    }

    /// Quads of columns that a lane owns: more read less per product, unless they stay empty.
    fn column_quads(&self, target: Target) -> u32 {
        let padded = |quads: u32| self.out.c.next_multiple_of(4 * quads * target.lanes);
        (1..=3).min_by_key(|&quads| (padded(quads), Reverse(quads))).unwrap_or(1)
    }

    fn bindings(
        &self,
        plan: &mut PlanBuilder,
        columns: u32,
        y: Tensor,
    ) -> Vec<(&'static str, Operand, bool)> {
        let mut k = vec![self.x.shape.c];
        k.extend(self.x2.map(|t| t.shape.c));
        let n_padded = self.out.c.next_multiple_of(columns);
        let layout = match plan.target().tier {
            Tier::Lane if self.form != Form::Narrow => {
                Layout::Panels { k, lanes: plan.target().lanes, columns: columns / plan.target().lanes }
            }
            _ => Layout::Kn { k, n_padded },
        };
        let layout = if self.form == Form::Phases { Layout::Phases(Box::new(layout)) } else { layout };
        let mut bindings = vec![("x", self.x.operand(), false)];
        bindings.extend(self.x2.map(|t| ("x2", t.operand(), false)));
        bindings.push(("weight", plan.weight(&self.weight, layout, self.weight_dtype()), false));
        bindings.push(("y", y.operand(), true));
        if let Some(bias) = &self.bias {
            let layout = Layout::Vector { padded: n_padded };
            bindings.push(("bias", plan.weight(bias, layout, DType::F32), false));
        }
        bindings.extend(self.time_embedding.map(|t| ("time_embedding", t.operand(), false)));
        bindings.extend(self.residual.map(|t| ("residual", t.operand(), false)));
        bindings
    }

    /// Weights follow the wider of input and result only where both are f32.
    fn weight_dtype(&self) -> DType {
        if self.x.dtype == DType::F16 { DType::F16 } else { DType::F32 }
    }

    fn variant(&self, target: Target, rows_per_lane: u32) -> Variant {
        let dtype_of = |t: Option<Tensor>| check::define(t.map_or(DType::F32, |t| t.dtype));
        let mut defines = vec![
            ("x_dtype", check::define(self.x.dtype)),
            ("w_dtype", check::define(self.weight_dtype())),
            ("out_dtype", check::define(self.out_dtype)),
            ("has_x2", Define::Bool(self.x2.is_some())),
            ("has_windows", Define::Bool(self.form != Form::Product)),
            ("has_phases", Define::Bool(self.form == Form::Phases)),
            ("has_bias", Define::Bool(self.bias.is_some())),
            ("has_time", Define::Bool(self.time_embedding.is_some())),
            ("time_dtype", dtype_of(self.time_embedding)),
            ("has_residual", Define::Bool(self.residual.is_some())),
            ("residual_dtype", dtype_of(self.residual)),
            ("activation", Define::Str(self.activation.name())),
        ];
        defines.extend(self.defines.iter().cloned());
        let lanes = if target.tier == Tier::Lane { target.lanes } else { 0 };
        if self.form == Form::Narrow {
            defines.extend([("lanes", Define::U32(lanes)), ("pixels", Define::U32(rows_per_lane))]);
        } else if lanes > 0 {
            defines.extend([
                ("lanes", Define::U32(lanes)),
                ("quads", Define::U32(self.column_quads(target))),
                ("rows_per_lane", Define::U32(rows_per_lane)),
            ]);
        }
        Variant { stem: self.form.stem(target.tier), defines }
    }
}
