//! `AutoencoderTiny`: pictures to latents and back.
//!
//! Tensors of the picture's own size are by far the largest of a frame. Where they would be larger than
//! [`AutoencoderConfig::strip_bytes`], the finest level is computed strip by strip, each with the few rows more on either side that
//! its convolutions look at, so that only strips of it are ever in memory.

use std::ops::Range;

use dreamglass_kernels::ops::{Activation, Conv2d, Strip, Term};
use dreamglass_kernels::{DType, KernelError, PlanBuilder, Shape, Tensor};

use super::affine;
use crate::model::config::{AutoencoderConfig, TinyLayers};
use crate::model::layers::{conv3, conv3_without_bias};

/// Convolutions of a block.
const BLOCK_CONVS: u32 = 3;

/// Picture `[N,H,W,3]` to latents `[N,H/factor,W/factor,latent_channels]` in f32.
pub(super) fn encoder(
    b: &mut PlanBuilder,
    config: &AutoencoderConfig,
    layers: &TinyLayers,
    picture: Tensor,
    dtype: DType,
) -> Result<Tensor, KernelError> {
    b.push_scope("encoder");
    // The network was trained on [0, 1].
    let picture = affine(b, picture.into(), 0.5, 0.5, Activation::None, dtype)?;
    let c = layers.encoder_channels;
    let mut layer = Layers::new("encoder");
    let (finest, coarser) = layer.levels(&layers.encoder_blocks, 0);
    let mut x = encode_finest(b, config.strip_bytes, c, &finest, coarser.first(), picture)?;
    for (level, next) in coarser.iter().zip((1..).map(|ix| coarser.get(ix))) {
        x = blocks(b, level, x)?;
        if let Some(next) = next {
            x = halving(next, x, c).record(b)?;
        }
    }
    let mut latents = conv3(&layer.next(), x, config.latent_channels);
    latents.out_dtype = Some(DType::F32);
    let latents = latents.record(b)?;
    b.pop_scope();
    Ok(latents)
}

/// The finest level and, where there is a next one, the halving that leads there: picture `[N,H,W,3]` to
/// `[N,H/2,W/2,c]`.
fn encode_finest(
    b: &mut PlanBuilder,
    strip_bytes: u64,
    c: u32,
    level: &Level,
    next: Option<&Level>,
    picture: Tensor,
) -> Result<Tensor, KernelError> {
    let first = conv3(&level.conv, picture, c);
    let whole = picture.shape.with_c(c);
    let strips = strips(whole, picture.dtype, strip_bytes);
    let Some(next) = next.filter(|_| strips.len() > 1) else {
        let x = first.record(b)?;
        let x = blocks(b, level, x)?;
        return next.map_or(Ok(x), |next| halving(next, x, c).record(b));
    };
    let y = b.slot(Shape::new(1, whole.h / 2, whole.w.div_ceil(2), c), picture.dtype);
    for rows in strips {
        let read = level.read_for(&rows, whole.h);
        let x =
            Conv2d { strip: Some(Strip { rows: read.clone(), into: None }), ..first.clone() }.record(b)?;
        let x = blocks(b, level, x)?;
        let into = Some((y, rows.start / 2));
        let rows = (rows.start - read.start) / 2..(rows.end - read.start) / 2;
        Conv2d { strip: Some(Strip { rows, into }), ..halving(next, x, c) }.record(b)?;
    }
    Ok(y)
}

/// Latents `[N,h,w,latent_channels]` times `scale` to picture `[N,h·factor,w·factor,3]` in f32.
pub(super) fn decoder(
    b: &mut PlanBuilder,
    config: &AutoencoderConfig,
    layers: &TinyLayers,
    latents: Term,
    scale: f32,
    dtype: DType,
) -> Result<Tensor, KernelError> {
    b.push_scope("decoder");
    let x = affine(b, latents, 1.0 / scale, 0.0, Activation::SoftClamp3, dtype)?;
    let c = layers.decoder_channels;
    let mut layer = Layers::new("decoder");
    let (coarsest, finer) = layer.levels(&layers.decoder_blocks, 1);
    let mut first = conv3(&coarsest.conv, x, c);
    first.activation = Activation::Relu;
    let mut x = first.record(b)?;
    let mut level = &coarsest;
    for next in &finer {
        x = blocks(b, level, x)?;
        level = next;
        if level.is_last {
            break;
        }
        x = doubling(next, x, c).record(b)?;
    }
    let picture = decode_finest(b, config.strip_bytes, level, x, &layer.next())?;
    b.pop_scope();
    Ok(picture)
}

/// The finest level, with the doubling that leads there from a coarser one: to the picture `[N,H,W,3]`.
fn decode_finest(
    b: &mut PlanBuilder,
    strip_bytes: u64,
    level: &Level,
    x: Tensor,
    last: &str,
) -> Result<Tensor, KernelError> {
    let c = x.shape.c;
    let finish = |x| {
        let mut picture = conv3(last, x, 3);
        picture.activation = Activation::Signed;
        picture.out_dtype = Some(DType::F32);
        picture
    };
    let whole = Shape { h: 2 * x.shape.h, w: 2 * x.shape.w, ..x.shape };
    if level.is_first {
        let x = blocks(b, level, x)?;
        return finish(x).record(b);
    }
    let strips = strips(whole, x.dtype, strip_bytes);
    if strips.len() == 1 {
        let x = doubling(level, x, c).record(b)?;
        let x = blocks(b, level, x)?;
        return finish(x).record(b);
    }
    let picture = b.slot(whole.with_c(3), DType::F32);
    for rows in strips {
        let read = level.read_for(&rows, whole.h);
        let strip = Some(Strip { rows: read.clone(), into: None });
        let x = Conv2d { strip, ..doubling(level, x, c) }.record(b)?;
        let x = blocks(b, level, x)?;
        let into = Some((picture, rows.start));
        let strip = Some(Strip { rows: rows.start - read.start..rows.end - read.start, into });
        Conv2d { strip, ..finish(x) }.record(b)?;
    }
    Ok(picture)
}

/// Rows of the strips of a tensor of `shape`: as few as fit in `most` bytes, all from and to even rows. One of
/// all rows where strips are not possible, or not needed.
fn strips(shape: Shape, dtype: DType, most: u64) -> Vec<Range<u32>> {
    let count = shape.bytes(dtype).div_ceil(most.max(1));
    let is_whole = shape.n != 1 || !shape.h.is_multiple_of(2) || count < 2;
    let step = if is_whole { shape.h } else { (u64::from(shape.h / 2).div_ceil(count) * 2) as u32 };
    (0..shape.h).step_by(step.max(1) as usize).map(|start| start..(start + step).min(shape.h)).collect()
}

/// The convolution that halves x on the way to the level `next`.
fn halving(next: &Level, x: Tensor, c: u32) -> Conv2d {
    Conv2d { stride: 2, ..conv3_without_bias(&next.conv, x, c) }
}

/// The convolution behind a doubling of x on the way to the level `next`.
fn doubling(next: &Level, x: Tensor, c: u32) -> Conv2d {
    Conv2d { upsample: Some([x.shape.h * 2, x.shape.w * 2]), ..conv3_without_bias(&next.conv, x, c) }
}

/// The blocks of a level.
fn blocks(b: &mut PlanBuilder, level: &Level, x: Tensor) -> Result<Tensor, KernelError> {
    level.blocks.iter().try_fold(x, |x, name| block(b, name, x))
}

/// `AutoencoderTinyBlock`: three convolutions, the residual, ReLU; `[N,H,W,C]` to the same.
fn block(b: &mut PlanBuilder, name: &str, x: Tensor) -> Result<Tensor, KernelError> {
    let mut h = x;
    for index in (0..BLOCK_CONVS).map(|conv| 2 * conv) {
        let mut conv = conv3(&format!("{name}.conv.{index}"), h, x.shape.c);
        conv.activation = Activation::Relu;
        conv.residual = (index == 2 * (BLOCK_CONVS - 1)).then_some(x);
        h = conv.record(b)?;
    }
    Ok(h)
}

/// Names of a level's layers: the convolution that leads to it, and its blocks.
struct Level {
    conv: String,
    blocks: Vec<String>,
    is_first: bool,
    is_last: bool,
}

impl Level {
    /// Rows that have to be computed for `rows` of a picture of `h` rows behind the blocks and one convolution
    /// more; from and to even ones.
    ///
    /// Behind each convolution, a row more at the inner edges is wrong: it was told that nothing lies beyond.
    fn read_for(&self, rows: &Range<u32>, h: u32) -> Range<u32> {
        let margin = 1 + BLOCK_CONVS * self.blocks.len() as u32;
        let start = rows.start.saturating_sub(margin) / 2 * 2;
        start..(rows.end + margin).next_multiple_of(2).min(h)
    }
}

/// Names of a `Sequential`'s layers in order, those without weights included.
struct Layers {
    prefix: &'static str,
    next: u32,
}

impl Layers {
    fn new(prefix: &'static str) -> Self {
        Self { prefix, next: 0 }
    }
    fn next(&mut self) -> String {
        let name = format!("{}.layers.{}", self.prefix, self.next);
        self.next += 1;
        name
    }
    /// The first level with so many blocks, and those that follow; `unnamed` layers without weights lie behind
    /// the first convolution, and before each that follows.
    fn levels(&mut self, blocks: &[u32], unnamed: u32) -> (Level, Vec<Level>) {
        let last = blocks.len().saturating_sub(1);
        let mut levels = blocks.iter().enumerate().map(|(ix, &count)| {
            let is_first = ix == 0;
            self.next += if is_first { 0 } else { unnamed };
            let conv = self.next();
            self.next += if is_first { unnamed } else { 0 };
            let blocks = (0..count).map(|_| self.next()).collect();
            Level { conv, blocks, is_first, is_last: ix == last }
        });
        let first = levels.next();
        let rest = levels.collect();
        let none = Level { conv: String::new(), blocks: Vec::new(), is_first: true, is_last: true };
        (first.unwrap_or(none), rest)
    }
}
