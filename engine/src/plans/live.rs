//! The plans of a frame in a stream: arrive, compare, encode, step, decode, show.
//!
//! A frame runs some of them one after the other in one compute pass. They meet in tensors of the
//! same name, which stay on the device between frames.

use std::cell::RefCell;
use std::collections::HashMap;

use dreamglass_kernels::ops::{
    Activation, Coefficients, I420, LinearCombination, Orientation, PictureIn, PictureOut, Similarity, Term,
};
use dreamglass_kernels::{DType, KernelError, Plan, PlanBuilder, Shape, Target, Tensor};

use super::{INPUT, LATENTS, NEGATIVE, NEXT, NOISE, PICTURE, PIXELS, STEP};
use crate::frame::Size;
use crate::model::unet::{Frame, unet};
use crate::model::{AutoencoderConfig, UnetConfig, autoencoder};
use crate::params::{Batching, GuidanceMode};
use crate::stream::Layout;

/// The picture of the last processed frame `[1,H,W,3]`.
pub(crate) const LAST: &str = "last";
/// Cosine similarity of [`PICTURE`] and [`LAST`] `[1,1,1,1]`.
pub(crate) const SIMILARITY: &str = "similarity";
/// The samples that the last frame left: [`NEXT`]'s buffer.
pub(crate) const PREVIOUS: &str = "previous";
/// Factors of `[latents, first noise, row before, last clean latents]` `[N,1,1,4]`.
pub(crate) const ENTRY: &str = "entry";
/// Noise s that would carry the source to each sample, after a step.
pub(crate) const RESIDUAL_NEXT: &str = "residual_next";
/// The same as the last frame left it: [`RESIDUAL_NEXT`]'s buffer.
pub(crate) const RESIDUAL_PREVIOUS: &str = "residual_previous";
/// Factors of a step's s `[N,1,1,4]`.
pub(crate) const RESIDUAL: &str = "residual";
/// Factors of s where a frame enters: `[N,1,1,2]` of `[first noise, row before]`, or `[N,1,1,3]` of
/// `[sample, unconditional output, row before]`.
pub(crate) const RESIDUAL_ENTRY: &str = "residual_entry";
/// The decoded picture `[1,H,W,3]`, before smoothing.
pub(crate) const RESULT: &str = "result";
/// The smoothed picture.
pub(crate) const SMOOTHED: &str = "smoothed";
/// [`PIXELS`](super::PIXELS) for a video encoder.
pub(crate) const PLANES: &str = "planes";
/// The smoothed picture of the last frame: [`SMOOTHED`], copied.
pub(crate) const SMOOTHED_BEFORE: &str = "smoothed_before";
/// Factors of `[this picture, the last one]` `[1,1,1,2]`.
pub(crate) const SMOOTHING: &str = "smoothing";
/// Put before the names of the time embeddings of the unconditional first row in a batch.
pub(crate) const FIRST: &str = "first.";

/// What puts the time embeddings of step k apart from those of others in [`Batching::Latency`].
pub(crate) fn step_prefix(k: u32) -> String {
    format!("step{k}.")
}

fn picture_shape(size: Size) -> Shape {
    Shape::new(1, size.height, size.width, 3)
}

fn sum(b: &mut PlanBuilder, terms: Vec<Term>, factors: Term, out: DType) -> Result<Tensor, KernelError> {
    let coefficients = Coefficients::PerRow(factors);
    LinearCombination { terms, coefficients, offset: 0.0, activation: Activation::None, out_dtype: out }
        .record(b)
}

fn copy(b: &mut PlanBuilder, x: Tensor) -> Result<Tensor, KernelError> {
    let (terms, coefficients) = (vec![x.into()], Coefficients::Constant(vec![1.0]));
    let (activation, out_dtype) = (Activation::None, x.dtype);
    LinearCombination { terms, coefficients, offset: 0.0, activation, out_dtype }.record(b)
}

/// How a source picture becomes one of the stream's size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Arrival {
    /// Size of the source.
    pub source: Size,
    /// The part of it that is read.
    pub region: [f32; 4],
    /// How it is turned.
    pub orientation: Orientation,
    /// Size of the result.
    pub size: Size,
}

/// From RGBA8 words to the picture.
pub(crate) fn arrive(target: Target, arrival: Arrival) -> Result<Plan, KernelError> {
    let Arrival { source, region, orientation, size } = arrival;
    let mut b = PlanBuilder::new(target);
    let pixels = b.input(PIXELS, Shape::new(1, source.height, source.width, 1), DType::U32);
    let size = [size.height, size.width];
    let picture = PictureIn { pixels, region, orientation, size, out_dtype: DType::F32 }.record(&mut b)?;
    b.output(PICTURE, picture)?;
    Ok(b.finish())
}

/// How alike the picture and the last processed one are.
pub(crate) fn compare(target: Target, size: Size) -> Result<Plan, KernelError> {
    let mut b = PlanBuilder::new(target);
    let [picture, last] = [PICTURE, LAST].map(|name| b.input(name, picture_shape(size), DType::F32));
    let similarity = Similarity::new(picture, last).record(&mut b)?;
    b.output(SIMILARITY, similarity)?;
    Ok(b.finish())
}

/// Keeps the picture for comparison.
pub(crate) fn remember(target: Target, size: Size) -> Result<Plan, KernelError> {
    let mut b = PlanBuilder::new(target);
    let picture = b.input(PICTURE, picture_shape(size), DType::F32);
    let last = copy(&mut b, picture)?;
    b.output(LAST, last)?;
    Ok(b.finish())
}

/// From the clean latents in the last of `rows` rows to the picture.
pub(crate) fn decode(
    target: Target,
    vae: &AutoencoderConfig,
    shape: Shape,
    rows: u32,
    is_smoothed: bool,
    dtype: DType,
) -> Result<Plan, KernelError> {
    let mut b = PlanBuilder::new(target);
    let next = b.input(NEXT, Shape { n: rows, ..shape }, DType::F32);
    let latents = Term::only(next, rows - 1);
    let picture = autoencoder::decoder(&mut b, vae, latents, vae.scaling_factor as f32, dtype)?;
    b.output(RESULT, picture)?;
    if is_smoothed {
        let before = b.input(SMOOTHED_BEFORE, picture.shape, DType::F32);
        let factors = b.input(SMOOTHING, Shape::vector(1, 2), DType::F32);
        let smoothed = sum(&mut b, vec![picture.into(), before.into()], factors.into(), DType::F32)?;
        b.output(SMOOTHED, smoothed)?;
    }
    Ok(b.finish())
}

/// From the picture to RGBA8 words.
pub(crate) fn show(target: Target, size: Size, is_smoothed: bool) -> Result<Plan, KernelError> {
    let mut b = PlanBuilder::new(target);
    let picture = b.input(if is_smoothed { SMOOTHED } else { RESULT }, picture_shape(size), DType::F32);
    let pixels = PictureOut { x: picture }.record(&mut b)?;
    b.output(PIXELS, pixels)?;
    if is_smoothed {
        let before = copy(&mut b, picture)?;
        b.output(SMOOTHED_BEFORE, before)?;
    }
    Ok(b.finish())
}

/// From RGBA8 words to planes for a video encoder.
pub(crate) fn planes(target: Target, size: Size) -> Result<Plan, KernelError> {
    let mut b = PlanBuilder::new(target);
    let pixels = b.input(PIXELS, Shape { c: 1, ..picture_shape(size) }, DType::U32);
    let planes = I420 { pixels }.record(&mut b)?;
    b.output(PLANES, planes)?;
    Ok(b.finish())
}

/// From source latents of `shape` `[1,h,w,C]` to the samples after a step of each row, the last one
/// clean ([`Batching::Throughput`]), or to the clean latents after all steps
/// ([`Batching::Latency`]).
pub(crate) fn steps(
    target: Target,
    config: &UnetConfig,
    layout: &Layout,
    shape: Shape,
    tokens: u32,
    dtype: DType,
) -> Result<Plan, KernelError> {
    let mut b = PlanBuilder::new(target);
    let (rows, slots) = (layout.rows, layout.slots() as u32);
    let table =
        |b: &mut PlanBuilder, name: &str, columns| b.input(name, Shape::vector(rows, columns), DType::F32);
    let batch = Shape { n: rows, ..shape };
    let inputs = RefCell::default();
    let recorder = Recorder {
        config,
        guidance: layout.guidance,
        rows,
        tokens,
        dtype,
        noise: b.input(NOISE, batch, DType::F32),
        input: table(&mut b, INPUT, 1),
        step: table(&mut b, STEP, 4),
        residual: layout.has_residual().then(|| table(&mut b, RESIDUAL, 4)),
        inputs: &inputs,
    };
    let latents = b.input(LATENTS, shape, DType::F32);
    let previous = b.input(PREVIOUS, Shape { n: slots, ..shape }, DType::F32);
    let entry = table(&mut b, ENTRY, 4);
    let last = Term::only(previous, slots - 1);
    let noise = Term::only(recorder.noise, 0);
    let (next, residual) = if layout.batching == Batching::Throughput {
        let terms = vec![latents.into(), noise, Term::shifted(previous, -1), last];
        let x = sum(&mut b, terms, entry.into(), DType::F32)?;
        recorder.batch(&mut b, x)?
    } else {
        let terms = vec![latents.into(), noise, Term::only(previous, 0), last];
        let x = sum(&mut b, terms, Term::only(entry, 0), DType::F32)?;
        (recorder.sequence(&mut b, x)?, None)
    };
    b.output(NEXT, next)?;
    if let Some(residual) = residual {
        b.output(RESIDUAL_NEXT, residual)?;
    }
    Ok(b.finish())
}

impl Layout {
    /// Whether guidance carries a noise s along.
    pub(crate) fn has_residual(&self) -> bool {
        matches!(self.guidance, GuidanceMode::SelfNegative | GuidanceMode::Initialize)
    }
    /// Columns of [`RESIDUAL_ENTRY`], where it is read.
    pub(crate) fn residual_columns(&self) -> Option<u32> {
        match (self.guidance, self.batching) {
            (GuidanceMode::SelfNegative, Batching::Throughput) => Some(2),
            (GuidanceMode::Initialize, _) => Some(3),
            _ => None,
        }
    }
}

/// Which rows of the tables a step reads.
#[derive(Clone, Copy)]
enum Reach {
    /// All, one for each row of the sample.
    All,
    /// This one; the sample has one row.
    Only(u32),
}

impl Reach {
    /// Rows `k + shift`.
    fn of(self, table: Tensor, shift: i32) -> Term {
        match self {
            Self::All if shift == 0 => table.into(),
            Self::All => Term::shifted(table, shift),
            Self::Only(k) => Term::only(table, k.saturating_add_signed(shift).min(table.shape.n - 1)),
        }
    }
}

/// What all steps of a plan share.
struct Recorder<'a> {
    config: &'a UnetConfig,
    guidance: GuidanceMode,
    rows: u32,
    tokens: u32,
    dtype: DType,
    noise: Tensor,
    input: Tensor,
    step: Tensor,
    residual: Option<Tensor>,
    inputs: &'a RefCell<HashMap<String, Tensor>>,
}

impl Recorder<'_> {
    /// One step of every row.
    fn batch(&self, b: &mut PlanBuilder, x: Tensor) -> Result<(Tensor, Option<Tensor>), KernelError> {
        let s = match self.guidance {
            GuidanceMode::SelfNegative => {
                let before = Term::shifted(self.residual_previous(b, x), -1);
                let factors = self.residual_entry(b, 2).into();
                Some(sum(b, vec![Term::only(self.noise, 0), before], factors, DType::F32)?.into())
            }
            GuidanceMode::Initialize => {
                let (one, only) = (Coefficients::Constant(vec![1.0]), Term::only(x, 0));
                let (terms, activation, out_dtype) = (vec![only], Activation::None, DType::F32);
                let first =
                    LinearCombination { terms, coefficients: one, offset: 0.0, activation, out_dtype }
                        .record(b)?;
                let u = self.predict(b, first, Reach::Only(0), NEGATIVE, FIRST)?;
                let before = Term::shifted(self.residual_previous(b, x), -1);
                let factors = self.residual_entry(b, 3).into();
                Some(sum(b, vec![x.into(), u.into(), before], factors, DType::F32)?.into())
            }
            GuidanceMode::None | GuidanceMode::Full => None,
        };
        self.step(b, x, s, Reach::All, "")
    }
    /// All steps of one row.
    fn sequence(&self, b: &mut PlanBuilder, mut x: Tensor) -> Result<Tensor, KernelError> {
        let mut s = match self.guidance {
            GuidanceMode::SelfNegative => Some(Term::only(self.noise, 0)),
            GuidanceMode::Initialize => {
                let u = self.predict(b, x, Reach::Only(0), NEGATIVE, &step_prefix(0))?;
                // There is no row before: its factor is 0.
                let factors = Term::only(self.residual_entry(b, 3), 0);
                Some(sum(b, vec![x.into(), u.into(), u.into()], factors, DType::F32)?.into())
            }
            GuidanceMode::None | GuidanceMode::Full => None,
        };
        for k in 0..self.rows {
            let (next, residual) = self.step(b, x, s, Reach::Only(k), &step_prefix(k))?;
            x = next;
            s = residual.map(Term::from);
        }
        Ok(x)
    }
    /// The samples after a step, and the noise s of them.
    fn step(
        &self,
        b: &mut PlanBuilder,
        x: Tensor,
        s: Option<Term>,
        reach: Reach,
        time: &str,
    ) -> Result<(Tensor, Option<Tensor>), KernelError> {
        let m = self.predict(b, x, reach, "", time)?;
        let noise = reach.of(self.noise, 1);
        let other = match (self.guidance, s) {
            (GuidanceMode::Full, _) => self.predict(b, x, reach, NEGATIVE, time)?.into(),
            (_, Some(s)) => s,
            // Its factor is 0.
            (_, None) => m.into(),
        };
        let next = sum(b, vec![x.into(), m.into(), other, noise], reach.of(self.step, 0), DType::F32)?;
        // Nothing comes after the last of a sequence.
        let is_last = matches!(reach, Reach::Only(k) if k + 1 == self.rows);
        let residual = match (self.residual, s) {
            (Some(factors), Some(s)) if !is_last => {
                let terms = vec![x.into(), m.into(), s, noise];
                Some(sum(b, terms, reach.of(factors, 0), DType::F32)?)
            }
            _ => None,
        };
        Ok((next, residual))
    }
    /// The UNet's output for the prompt called `prefix` at the timesteps called `time`.
    fn predict(
        &self,
        b: &mut PlanBuilder,
        x: Tensor,
        reach: Reach,
        prefix: &'static str,
        time: &str,
    ) -> Result<Tensor, KernelError> {
        let scaled = sum(b, vec![x.into()], reach.of(self.input, 0), self.dtype)?;
        let Self { config, dtype, tokens, inputs, .. } = *self;
        unet(b, &Frame { config, dtype, prompt_rows: 1, tokens, prefix, time_prefix: time, inputs }, scaled)
    }
    fn residual_previous(&self, b: &mut PlanBuilder, x: Tensor) -> Tensor {
        b.input(RESIDUAL_PREVIOUS, x.shape, DType::F32)
    }
    fn residual_entry(&self, b: &mut PlanBuilder, columns: u32) -> Tensor {
        b.input(RESIDUAL_ENTRY, Shape::vector(self.rows, columns), DType::F32)
    }
}
