//! 2-D convolution, 1×1 or 3×3, with everything that follows it fused.

use std::ops::Range;

use crate::error::{KernelError, shape_error};
use crate::ops::check;
use crate::ops::matmul::{Form, Matmul};
use crate::ops::{Activation, Norm};
use crate::plan::{Define, PlanBuilder, Variant};
use crate::tensor::{DType, Shape, Tensor};
use crate::weight::Param;

/// `y = act(conv(up(norm(concat(x, x2)))) + bias + time_embedding + shortcut + residual)`, zero padding
/// `kernel/2` on every side.
///
/// Shapes: x `[N,H,W,C1]`, x2 `[N,H,W,C2]`, weight `[O, C1+C2, k, k]` with k 1 or 3 (checkpoint
/// order OIHW), bias `[O]`, time_embedding `[N,1,1,O]`, residual and result `[N,H',W',O]` with
/// `H' = ceil(H/stride)`, or `floor(H/2)` where zeros are put behind only. f16 or f32 storage, f32 accumulation.
///
/// A doubling before a 3×3 kernel costs less than half of what it seems to: each quarter of the result is a
/// 2×2 convolution of the picture before it (sub-pixel phases), whose weights are sums of the checkpoint's.
///
/// # Errors
/// [`KernelError::Shape`], [`KernelError::DType`], [`KernelError::Unsupported`],
/// [`KernelError::Limit`] when recording.
#[derive(Debug, Clone)]
pub struct Conv2d {
    /// Input.
    pub x: Tensor,
    /// Second input, joined behind x along channels without being materialised.
    pub x2: Option<Tensor>,
    /// Weight `[O,I,k,k]`; the kernel size is read from its shape (`[O,I]` counts as 1×1).
    pub weight: Param,
    /// What is done to the joined input first.
    pub norm: Option<Norm>,
    /// Bias `[O]`.
    pub bias: Option<Param>,
    /// Added, from tensors of the result's size: more terms of the same sum (stride 1, no resize).
    pub shortcut: Option<Shortcut>,
    /// 1 or 2.
    pub stride: u32,
    /// Whether zeros are put below and to the right only, so that windows begin at their pixel (3×3, stride 2).
    pub pads_behind: bool,
    /// Nearest-neighbour resize of the input to this `[H, W]` before the convolution
    /// (source index `floor(i·in/out)`).
    pub upsample: Option<[u32; 2]>,
    /// Added per batch row and channel.
    pub time_embedding: Option<Tensor>,
    /// Added per element.
    pub residual: Option<Tensor>,
    /// Applied last.
    pub activation: Activation,
    /// Whether a group norm reads the result: the kernel leaves its mean and variance where it can.
    pub statistics: bool,
    /// A strip of the result instead of all of it (3×3, one batch row, neither time embedding nor statistics).
    pub strip: Option<Strip>,
    /// Storage of the result; that of x when none.
    pub out_dtype: Option<DType>,
}

/// Rows of a convolution's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strip {
    /// Which are computed; even ones from and to, behind a doubling.
    pub rows: Range<u32>,
    /// A tensor of the plan with the result's width, channels and storage that takes them, and the row there
    /// of the first; a tensor of just these rows when none.
    pub into: Option<(Tensor, u32)>,
}

/// A 1×1 convolution beside a 3×3 one: `concat(x, x2)·Wᵀ + bias`.
///
/// Shapes: x `[N,H,W,C1]`, x2 `[N,H,W,C2]`, weight `[O, C1+C2]` (or `[O,I,1,1]`), bias `[O]`, in the
/// storage of the convolution's input.
#[derive(Debug, Clone)]
pub struct Shortcut {
    /// Input.
    pub x: Tensor,
    /// Second input, joined behind x.
    pub x2: Option<Tensor>,
    /// Weight `[O,I]`.
    pub weight: Param,
    /// Bias `[O]`.
    pub bias: Option<Param>,
}

impl Conv2d {
    /// A plain convolution with stride 1.
    pub fn new(x: Tensor, weight: Param) -> Self {
        Self {
            x,
            x2: None,
            weight,
            norm: None,
            bias: None,
            shortcut: None,
            stride: 1,
            pads_behind: false,
            upsample: None,
            time_embedding: None,
            residual: None,
            activation: Activation::None,
            statistics: false,
            strip: None,
            out_dtype: None,
        }
    }
    /// Records it.
    ///
    /// # Errors
    /// See [`Conv2d`].
    pub fn record(self, plan: &mut PlanBuilder) -> Result<Tensor, KernelError> {
        let (kernel, [virtual_h, virtual_w]) = self.check()?;
        let x = self.x.shape;
        let whole = [virtual_h, virtual_w].map(|size| match self.pads_behind {
            true => size / self.stride,
            false => size.div_ceil(self.stride),
        });
        let pad = if self.pads_behind { 0 } else { kernel / 2 };
        let rows = self.strip.as_ref().map_or(0..whole[0], |strip| strip.rows.clone());
        let out = Shape::new(x.n, rows.end.saturating_sub(rows.start), whole[1], self.weight.outer());
        let is_plain = self.stride == 1 && self.upsample.is_none();
        let is_doubled = self.stride == 1 && self.upsample == Some([2 * x.h, 2 * x.w]);
        let form = match kernel {
            1 if is_plain => Form::Product,
            3 if is_doubled => Form::Phases,
            3 if is_plain && self.x2.is_none() && self.shortcut.is_none() && out.c <= 4 => Form::Narrow,
            _ => Form::Window,
        };
        self.check_strip(form, whole[0], out)?;
        let taps = if form == Form::Phases { 4 } else { kernel * kernel };
        let product = Matmul {
            op: "conv2d",
            form,
            x: self.x,
            x2: self.x2,
            norm: self.norm,
            weight: self.weight,
            bias: self.bias,
            shortcut: self.shortcut,
            time_embedding: self.time_embedding,
            residual: self.residual,
            activation: self.activation,
            is_gated: false,
            statistics: self.statistics,
            strip: self.strip,
            out,
            out_dtype: self.out_dtype.unwrap_or(self.x.dtype),
            taps,
            defines: if matches!(form, Form::Window | Form::Phases) {
                vec![("taps", Define::U32(taps)), ("has_upsample", Define::Bool(self.upsample.is_some()))]
            } else {
                Vec::new()
            },
            immediates: match form {
                Form::Product => Vec::new(),
                Form::Phases => vec![x.h, x.w],
                Form::Window | Form::Narrow => {
                    vec![x.h, x.w, virtual_h, virtual_w, out.w, self.stride, pad]
                }
            },
        };
        product.record(plan)
    }

    /// Refuses a strip that the kernels of `form` cannot compute, of a result with `h` rows.
    fn check_strip(&self, form: Form, h: u32, out: Shape) -> Result<(), KernelError> {
        let Some(strip) = &self.strip else { return Ok(()) };
        let is_plain = self.time_embedding.is_none() && self.shortcut.is_none() && !self.statistics;
        if form == Form::Product || out.n != 1 || self.norm.is_some() || !is_plain {
            let what = "a strip of a 1×1 kernel, of several batch rows, or with a norm".into();
            return Err(KernelError::Unsupported { op: "conv2d".into(), what });
        }
        let Range { start, end } = strip.rows;
        let is_odd = form == Form::Phases && (start % 2 != 0 || end % 2 != 0);
        if start >= end || end > h || is_odd {
            return Err(shape_error("conv2d", format!("rows of 0..{h}"), format!("{:?}", strip.rows)));
        }
        let Some((y, row)) = strip.into else { return Ok(()) };
        let needed = Shape { h: row.saturating_add(out.h), ..out };
        if y.shape != (Shape { h: y.shape.h.max(needed.h), ..out }) || y.shape.h < needed.h {
            return Err(shape_error("conv2d", format!("a tensor with rows of {needed}"), y));
        }
        check::dtype("conv2d", y, self.out_dtype.unwrap_or(self.x.dtype))
    }

    /// Kernel size and the size of the input after upsampling.
    fn check(&self) -> Result<(u32, [u32; 2]), KernelError> {
        let unsupported = |what: String| KernelError::Unsupported { op: "conv2d".into(), what };
        let kernel = match self.weight.inner[..] {
            [_] | [_, 1, 1] => 1,
            [_, 3, 3] => 3,
            _ => {
                return Err(unsupported(format!(
                    "weight {} of shape {:?}: only 1×1 and 3×3",
                    self.weight.name(),
                    self.weight.shape()
                )));
            }
        };
        if !matches!(self.stride, 1 | 2) {
            return Err(unsupported(format!("stride {}: only 1 and 2", self.stride)));
        }
        let is_resized = self.stride != 1 || self.upsample.is_some();
        if self.shortcut.is_some() && (is_resized || kernel != 3) {
            return Err(unsupported("a shortcut beside a stride, a resize or a 1×1 kernel".into()));
        }
        if self.pads_behind && (self.stride != 2 || self.upsample.is_some() || kernel != 3) {
            return Err(unsupported("zeros behind only, of anything but a 3×3 kernel with stride 2".into()));
        }
        let size = self.upsample.unwrap_or([self.x.shape.h, self.x.shape.w]);
        let least = if self.pads_behind { 2 } else { 1 };
        if size.iter().any(|&s| s < least || s > 1 << 15) {
            let expected = format!("an input of {least} to 32768 pixels a side");
            return Err(shape_error("conv2d", expected, format!("{size:?}")));
        }
        Ok((kernel, size))
    }
}

/// Strips of a picture and of twice and half its size, and of few channels, into a tensor and without one.
fn strips(plan: &mut PlanBuilder, x: Tensor) -> Result<(), KernelError> {
    let conv = |o| Conv2d::new(x, Param::new("s0", &[o, 8, 3, 3]));
    let strip = |rows, into| Some(Strip { rows, into });
    let y = Conv2d { strip: strip(2..6, None), ..conv(12) }.record(plan)?;
    Conv2d { strip: strip(1..3, Some((y, 1))), ..conv(12) }.record(plan)?;
    Conv2d { strip: strip(0..2, None), stride: 2, ..conv(12) }.record(plan)?;
    Conv2d { strip: strip(4..8, None), upsample: Some([16, 32]), ..conv(12) }.record(plan)?;
    Conv2d { strip: strip(4..8, None), ..conv(3) }.record(plan)?;
    Ok(())
}

/// Convolutions that hand statistics on, behind group norms of one input and of two, with shortcuts.
fn normed(plan: &mut PlanBuilder, x: Tensor, out: DType) -> Result<(), KernelError> {
    let weight = |name, o, i| Param::new(name, &[o, i, 3, 3]);
    let norm = |c| Norm::Group {
        weight: Param::new("scale", &[c]),
        bias: Param::new("shift", &[c]),
        groups: 4,
        eps: 1e-5,
        silu: true,
    };
    let first = Conv2d { statistics: true, ..Conv2d::new(x, weight("n0", 16, 8)) };
    let h = first.clone().record(plan)?;
    Conv2d { upsample: Some([16, 32]), ..first.clone() }.record(plan)?;
    for x2 in [None, Some(h)] {
        let c = if x2.is_some() { 32 } else { 16 };
        let shortcut = Shortcut { x: h, x2, weight: Param::new("s", &[16, c]), bias: None };
        let conv =
            Conv2d { x2, norm: Some(norm(c)), statistics: true, ..Conv2d::new(h, weight("n1", 16, c)) };
        conv.clone().record(plan)?;
        let (shortcut, out_dtype) = (Some(shortcut), Some(out));
        Conv2d { shortcut, out_dtype, ..conv }.record(plan)?;
    }
    Conv2d { norm: Some(norm(16)), out_dtype: Some(out), ..Conv2d::new(h, weight("n2", 4, 16)) }
        .record(plan)?;
    Ok(())
}

/// One of every kind of kernel that convolutions lead to.
pub(crate) fn variants() -> Vec<Variant> {
    check::recorded(|plan| {
        for (dtype, out) in [
            (DType::F32, DType::F32),
            (DType::F16, DType::F16),
            (DType::F32, DType::F16),
            (DType::F16, DType::F32),
        ] {
            let x = plan.input("x", Shape::new(1, 8, 16, 8), dtype);
            let time = plan.input("t", Shape::vector(1, 12), dtype);
            let plain = Conv2d::new(x, Param::new("w", &[12, 8, 3, 3]));
            let wide = Conv2d::new(x, Param::new("w2", &[12, 16, 3, 3]));
            let residual = Conv2d {
                out_dtype: Some(out),
                time_embedding: Some(time),
                bias: Some(Param::new("b", &[12])),
                ..plain.clone()
            }
            .record(plan)?;
            Conv2d { residual: Some(residual), activation: Activation::Relu, ..plain.clone() }
                .record(plan)?;
            Conv2d { x2: Some(x), activation: Activation::Silu, ..wide }.record(plan)?;
            Conv2d { upsample: Some([16, 32]), ..plain.clone() }.record(plan)?;
            Conv2d { upsample: Some([15, 13]), ..plain.clone() }.record(plan)?;
            // Wide enough for two and three quads of columns a lane.
            Conv2d::new(x, Param::new("w4", &[128, 8, 3, 3])).record(plan)?;
            Conv2d::new(x, Param::new("w5", &[192, 8, 3, 3])).record(plan)?;
            let narrow = Conv2d::new(x, Param::new("w3", &[3, 8, 3, 3]));
            let residual = Conv2d { out_dtype: Some(out), ..narrow.clone() }.record(plan)?;
            Conv2d { residual: Some(residual), bias: Some(Param::new("b3", &[3])), ..narrow }.record(plan)?;
            Conv2d { stride: 2, weight: Param::new("w1", &[12, 8, 1, 1]), ..plain }.record(plan)?;
            normed(plan, x, out)?;
            strips(plan, x)?;
            if dtype == out {
                // Long enough for slices, before a doubling and without one.
                let x = plan.input("long", Shape::new(1, 8, 16, 256), dtype);
                let product = Conv2d::new(x, Param::new("w6", &[64, 256, 3, 3]));
                let product = Conv2d { statistics: true, ..product };
                product.clone().record(plan)?;
                Conv2d { upsample: Some([16, 32]), ..product }.record(plan)?;
            }
        }
        Ok(())
    })
}
