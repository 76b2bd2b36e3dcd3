//! What linear layers and convolutions share: operands, kernel families, grid and checks.

mod blocking;
mod fusion;
mod operands;
mod tiling;

use super::conv2d::{Shortcut, Strip};
use super::{Activation, Norm, check};
use crate::choice::Candidate;
use crate::error::{KernelError, shape_error};
use crate::plan::{Define, PlanBuilder, Variant};
use crate::target::Target;
use crate::tensor::{DType, Shape, Tensor};
use crate::weight::Param;

use blocking::Blocking;
use fusion::Fusion;

/// Rows and columns of a workgroup tile of the [`Tier::Tile`] kernels.
const TILE: u32 = 64;
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
    /// Name in classes of dispatches.
    const fn name(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::Window => "window",
            Self::Phases => "phases",
            Self::Narrow => "narrow",
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
    /// What is done to the joined input first.
    pub norm: Option<Norm>,
    /// Weight `[O, C1+C2, …]`.
    pub weight: Param,
    /// Bias `[O]`.
    pub bias: Option<Param>,
    /// A product with a 1×1 weight of pixels at the same place, added.
    pub shortcut: Option<Shortcut>,
    /// `[N,1,1,O]`, added per batch row.
    pub time_embedding: Option<Tensor>,
    /// Added per element.
    pub residual: Option<Tensor>,
    /// Applied last.
    pub activation: Activation,
    /// Whether the second half of the columns gates the first.
    pub is_gated: bool,
    /// Whether a group norm reads the result.
    pub statistics: bool,
    /// Which rows of the result `out` are, and where they go.
    pub strip: Option<Strip>,
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
    pub(super) fn record(mut self, plan: &mut PlanBuilder) -> Result<Tensor, KernelError> {
        self.check()?;
        let fusion = self.fuse(plan)?;
        let into = self.strip.as_ref().and_then(|strip| strip.into);
        let y = into.map_or_else(|| plan.slot(self.out, self.out_dtype), |(y, _)| y);
        let blockings = self.blockings(plan.target(), &fusion);
        let mut candidates: Vec<Candidate> =
            blockings.iter().map(|b| self.candidate(plan, *b, y, &fusion)).collect();
        self.bind_slices(plan, &blockings, &fusion, &mut candidates);
        if let Some(statistics) = fusion.statistics {
            plan.set_statistics(y, statistics);
        }
        let label = self.weight.parts[0].0.trim_end_matches(".weight").to_string();
        plan.dispatch_any(&label, self.class(&fusion), candidates, self.flops(&fusion))?;
        Ok(y)
    }

    /// The product shared out in one way.
    fn candidate(&self, plan: &PlanBuilder, blocking: Blocking, y: Tensor, fusion: &Fusion) -> Candidate {
        let target = plan.target();
        let rows = match blocking {
            Blocking::Narrow { pixels, .. } => self.out.n * self.out.h * self.out.w.div_ceil(pixels),
            _ => self.rows(),
        };
        let (row_tiles, columns) = (rows.div_ceil(blocking.rows()), blocking.columns());
        let ([row_groups, folds, _], _) = check::fold(plan, self.phases() * row_tiles);
        let n_padded = self.columns().next_multiple_of(columns);
        Candidate {
            name: blocking.to_string(),
            variant: self.variant(target, blocking, fusion),
            bindings: self.bindings(target, columns, y, fusion),
            immediates: self.immediates(row_groups, row_tiles, n_padded, fusion),
            grid: [row_groups, self.columns().div_ceil(columns) * blocking.splits(), folds],
        }
    }

    /// Gives the candidates whose reduction is cut memory for the sums of their slices, and counters of those that
    /// are done.
    fn bind_slices(
        &self,
        plan: &mut PlanBuilder,
        blockings: &[Blocking],
        fusion: &Fusion,
        candidates: &mut [Candidate],
    ) {
        let cut = || blockings.iter().enumerate().filter(|(_, blocking)| blocking.splits() > 1);
        let slices = |candidate: &Candidate| candidate.grid.iter().product::<u32>();
        let words = cut().map(|(ix, b)| slices(&candidates[ix]) * b.rows() * b.columns()).max();
        let tiles = cut().map(|(ix, b)| slices(&candidates[ix]) / b.splits()).max();
        let (Some(words), Some(tiles)) = (words, tiles) else { return };
        let sums = plan.slot(Shape::vector(1, words), DType::F32);
        // Those of statistics come first.
        let before = if fusion.statistics.is_some() { self.out.n * self.out.c.div_ceil(TILE) } else { 0 };
        let counters = plan.counters(before + tiles);
        for (ix, _) in cut() {
            let bindings = &mut candidates[ix].bindings;
            bindings.push(("sums", sums.into(), true));
            if fusion.statistics.is_none() {
                bindings.push(("counters", counters.into(), true));
            }
        }
    }

    /// What is computed, for tuning: dispatches of one class take equally long on one device.
    fn class(&self, fusion: &Fusion) -> String {
        let channels = |x: Tensor, x2: Option<Tensor>| {
            x2.map_or(x.shape.c.to_string(), |x2| format!("{}+{}", x.shape.c, x2.shape.c))
        };
        let Self { form, x, x2, taps, out, out_dtype, .. } = self;
        let mut class =
            format!("{} {x_dtype} {x_shape}", form.name(), x_dtype = x.dtype, x_shape = x.shape.with_c(0));
        class += &format!(" {}x{taps}", channels(*x, *x2));
        if let Some(shortcut) = &self.shortcut {
            class += &format!(" and {}", channels(shortcut.x, shortcut.x2));
        }
        class += &format!(" to {out_dtype} {out}");
        let activation = self.activation.name();
        let silu =
            fusion.group_norm.is_some() && fusion.defines().contains(&("norm_silu", Define::Bool(true)));
        let has = [
            (fusion.layer_norm.is_some(), "layer norm"),
            (fusion.group_norm.is_some(), "group norm"),
            (silu, "silu first"),
            (self.has_bias(fusion), "bias"),
            (self.time_embedding.is_some(), "time"),
            (self.residual.is_some(), "residual"),
            (self.activation != Activation::None, activation),
            (self.is_gated, "gates"),
            (fusion.statistics.is_some(), "statistics"),
            (self.strip.is_some(), "strip"),
        ];
        for (_, word) in has.into_iter().filter(|(has, _)| *has) {
            class += &format!(", {word}");
        }
        class
    }

    /// Columns of the product: twice those of the result where half of them are gates.
    fn columns(&self) -> u32 {
        if self.is_gated { 2 * self.out.c } else { self.out.c }
    }

    /// Rows of the product; of one phase, where there are phases.
    fn rows(&self) -> u32 {
        self.out.rows() / self.phases()
    }

    fn phases(&self) -> u32 {
        if self.form == Form::Phases { 4 } else { 1 }
    }

    fn flops(&self, fusion: &Fusion) -> u64 {
        let channels = |x: Tensor, x2: Option<Tensor>| u64::from(x.shape.c + x2.map_or(0, |t| t.shape.c));
        let reduction = channels(self.x, self.x2) * u64::from(self.taps)
            + self.shortcut.as_ref().map_or(0, |s| channels(s.x, s.x2));
        let product = 2 * u64::from(self.out.rows()) * u64::from(self.columns()) * reduction;
        product + fusion.flops(self)
    }

    fn check(&self) -> Result<(), KernelError> {
        let op = self.op;
        check::float(op, self.x)?;
        check::float_dtype(op, self.out_dtype)?;
        let channels = self.x.shape.c + self.x2.map_or(0, |t| t.shape.c);
        self.check_weight(&self.weight, channels)?;
        self.check_like(self.x2, "a second input")?;
        if let Some(norm) = &self.norm {
            norm.check(op, channels)?;
        }
        for bias in [&self.bias, &self.shortcut.as_ref().and_then(|s| s.bias.clone())].into_iter().flatten() {
            check::vector(&format!("{op} bias"), bias, self.columns())?;
        }
        if let Some(shortcut) = &self.shortcut {
            let c = shortcut.x.shape.c + shortcut.x2.map_or(0, |t| t.shape.c);
            self.check_weight(&shortcut.weight, c)?;
            self.check_like(Some(shortcut.x), "a shortcut from an input")?;
            self.check_like(shortcut.x2, "a shortcut from a second input")?;
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

    fn check_weight(&self, weight: &Param, channels: u32) -> Result<(), KernelError> {
        if weight.inner.first() == Some(&channels) && weight.outer() == self.columns() {
            return Ok(());
        }
        let expected = format!("a weight [{},{channels},…] for {}", self.columns(), self.x);
        Err(shape_error(self.op, expected, format!("{} {:?}", weight.name(), weight.shape())))
    }

    /// Refuses a tensor that differs from x in more than its channels.
    fn check_like(&self, tensor: Option<Tensor>, what: &str) -> Result<(), KernelError> {
        let is_like_x = |t: &Tensor| t.shape.with_c(0) == self.x.shape.with_c(0) && t.dtype == self.x.dtype;
        match tensor.filter(|t| !is_like_x(t)) {
            Some(other) => Err(shape_error(self.op, format!("{what} like {}", self.x), other)),
            None => Ok(()),
        }
    }

    /// Weights follow the wider of input and result only where both are f32.
    fn weight_dtype(&self) -> DType {
        if self.x.dtype == DType::F16 { DType::F16 } else { DType::F32 }
    }

    fn variant(&self, target: Target, blocking: Blocking, fusion: &Fusion) -> Variant {
        let dtype_of = |t: Option<Tensor>| check::define(t.map_or(DType::F32, |t| t.dtype));
        let mut defines = vec![
            ("x_dtype", check::define(self.x.dtype)),
            ("w_dtype", check::define(self.weight_dtype())),
            ("out_dtype", check::define(self.out_dtype)),
            ("has_x2", Define::Bool(self.x2.is_some())),
            ("has_windows", Define::Bool(self.form != Form::Product)),
            ("has_phases", Define::Bool(self.form == Form::Phases)),
            ("has_bias", Define::Bool(self.has_bias(fusion))),
            ("has_shortcut", Define::Bool(self.shortcut.is_some())),
            ("has_shortcut2", Define::Bool(self.shortcut.as_ref().is_some_and(|s| s.x2.is_some()))),
            ("has_time", Define::Bool(self.time_embedding.is_some())),
            ("time_dtype", dtype_of(self.time_embedding)),
            ("has_residual", Define::Bool(self.residual.is_some())),
            ("residual_dtype", dtype_of(self.residual)),
            ("activation", Define::Str(self.activation.name())),
            ("is_gated", Define::Bool(self.is_gated)),
            ("has_strip", Define::Bool(self.strip.is_some())),
            ("has_padding", Define::Bool(!self.out.c.is_multiple_of(4))),
        ];
        defines.extend(fusion.defines());
        defines.extend(self.defines.iter().cloned());
        defines.extend(blocking.defines(target.tier, self.columns()));
        Variant { stem: blocking.stem(self.form), defines }
    }
}
