//! Arguments that the ops refuse when recording, without a device.

use dreamglass_kernels::ops::{
    Activation, Attention, Coefficients, Conv2d, Embedding, GroupNorm, I420, LayerNorm, Linear,
    LinearCombination, Norm, Orientation, PictureIn, PictureOut, Shortcut, Similarity, Strip, Term,
    TimestepEmbedding,
};
use dreamglass_kernels::{Columns, DType, KernelError, Param, PlanBuilder, Shape, Target, Tensor};

const F16: DType = DType::F16;
const F32: DType = DType::F32;
const U32: DType = DType::U32;

fn plan() -> PlanBuilder {
    PlanBuilder::new(Target::tile())
}

fn refused_shape(result: Result<Tensor, KernelError>) {
    assert!(matches!(result, Err(KernelError::Shape { .. })), "{result:?}");
}

fn refused_dtype(result: Result<Tensor, KernelError>) {
    assert!(matches!(result, Err(KernelError::DType { .. })), "{result:?}");
}

#[test]
fn attention_refuses_what_does_not_fit() {
    let mut b = plan();
    let q = b.input("q", Shape::tokens(2, 8, 64), F16);
    let k = b.input("k", Shape::tokens(3, 8, 64), F16);
    refused_shape(Attention::new(q, k, k, 2).record(&mut b));
    let short = b.input("short", Shape::tokens(2, 7, 64), F16);
    refused_shape(Attention::new(q, q, short, 2).record(&mut b));
    let past = Columns { tensor: q, offset: 32, c: 64 };
    refused_shape(Attention::new(q, past, q, 2).record(&mut b));
    let crooked = Columns { tensor: q, offset: 2, c: 32 };
    refused_shape(
        Attention::new(Columns { tensor: q, offset: 0, c: 32 }, crooked, crooked, 2).record(&mut b),
    );
    let words = b.input("words", Shape::tokens(2, 8, 64), U32);
    refused_dtype(Attention::new(words, q, q, 2).record(&mut b));
    // 64 columns are no 3 heads, and 64 heads would have one column each.
    for heads in [0, 3, 64] {
        let result = Attention::new(q, q, q, heads).record(&mut b);
        assert!(matches!(result, Err(KernelError::Unsupported { .. })), "{result:?}");
    }
    let wide = b.input("wide", Shape::tokens(1, 8, 516), F16);
    let result = Attention::new(wide, wide, wide, 1).record(&mut b);
    assert!(matches!(result, Err(KernelError::Unsupported { .. })), "{result:?}");
}

fn unsupported(result: Result<Tensor, KernelError>) {
    assert!(matches!(result, Err(KernelError::Unsupported { .. })), "{result:?}");
}

#[test]
fn products_refuse_what_does_not_fit() {
    let mut b = plan();
    let x = b.input("x", Shape::new(1, 8, 6, 12), F16);
    let weight = |o, i, k| Param::new("w", &[o, i, k, k]);
    let conv = || Conv2d::new(x, weight(8, 12, 3));
    refused_shape(Conv2d { weight: weight(8, 13, 3), ..conv() }.record(&mut b));
    unsupported(Conv2d { weight: weight(8, 12, 5), ..conv() }.record(&mut b));
    // Strips: rows that are not there, none, odd ones behind a doubling, too many for where they go.
    let strip = |rows, into| Some(Strip { rows, into });
    refused_shape(Conv2d { strip: strip(6..9, None), ..conv() }.record(&mut b));
    refused_shape(Conv2d { strip: strip(3..3, None), ..conv() }.record(&mut b));
    let doubled = Conv2d { upsample: Some([16, 12]), strip: strip(3..8, None), ..conv() };
    refused_shape(doubled.record(&mut b));
    let y = b.slot(Shape::new(1, 8, 6, 8), F16);
    refused_shape(Conv2d { strip: strip(0..4, Some((y, 5))), ..conv() }.record(&mut b));
    refused_shape(Conv2d { strip: strip(0..4, Some((y, u32::MAX))), ..conv() }.record(&mut b));
    refused_shape(
        Conv2d { strip: strip(0..4, Some((y, 0))), ..Conv2d::new(x, weight(9, 12, 3)) }.record(&mut b),
    );
    let out_dtype = Some(F32);
    refused_dtype(Conv2d { strip: strip(0..4, Some((y, 0))), out_dtype, ..conv() }.record(&mut b));
    unsupported(Conv2d { strip: strip(0..4, None), ..Conv2d::new(x, weight(8, 12, 1)) }.record(&mut b));
    unsupported(Conv2d { strip: strip(0..4, None), statistics: true, ..conv() }.record(&mut b));
    // Shortcuts: from another size, of other channels, beside a stride.
    let shortcut = |x, i| Some(Shortcut { x, x2: None, weight: Param::new("s", &[8, i]), bias: None });
    let other = b.input("other", Shape::new(1, 4, 6, 12), F16);
    refused_shape(Conv2d { shortcut: shortcut(other, 12), ..conv() }.record(&mut b));
    refused_shape(Conv2d { shortcut: shortcut(x, 16), ..conv() }.record(&mut b));
    unsupported(Conv2d { shortcut: shortcut(x, 12), stride: 2, ..conv() }.record(&mut b));
    // Zeros behind only: with another stride, of another kernel, behind a doubling, of one pixel.
    let behind = || Conv2d { pads_behind: true, stride: 2, ..conv() };
    unsupported(Conv2d { stride: 1, ..behind() }.record(&mut b));
    unsupported(Conv2d { weight: weight(8, 12, 1), ..behind() }.record(&mut b));
    unsupported(Conv2d { upsample: Some([16, 12]), ..behind() }.record(&mut b));
    let line = b.input("line", Shape::new(1, 1, 6, 12), F16);
    refused_shape(Conv2d { x: line, ..behind() }.record(&mut b));
    // Gates: an odd half, and what would have to follow them.
    let linear = |o| Linear { is_gated: true, ..Linear::new(x, Param::new("w", &[o, 12])) };
    refused_shape(linear(12).record(&mut b));
    refused_shape(linear(0).record(&mut b));
    unsupported(Linear { activation: Activation::Silu, ..linear(16) }.record(&mut b));
    // Norms for other channels.
    let vector = |c| Param::new("v", &[c]);
    let norm = Some(Norm::Layer { weight: vector(12), bias: vector(13), eps: 1e-5 });
    refused_shape(Linear { norm, ..linear(16) }.record(&mut b));
    let group =
        |groups| Some(Norm::Group { weight: vector(12), bias: vector(12), groups, eps: 1e-5, silu: true });
    refused_shape(Conv2d { norm: group(5), ..conv() }.record(&mut b));
    refused_shape(Conv2d { norm: group(0), ..conv() }.record(&mut b));
}

#[test]
fn norms_refuse_what_does_not_fit() {
    let vector = |c| Param::new("v", &[c]);
    let mut b = plan();
    let x = b.input("x", Shape::new(1, 4, 4, 12), F16);
    refused_shape(GroupNorm::new(x, vector(12), vector(12), 5, 1e-5).record(&mut b));
    refused_shape(GroupNorm::new(x, vector(12), vector(12), 0, 1e-5).record(&mut b));
    refused_shape(GroupNorm::new(x, vector(8), vector(12), 3, 1e-5).record(&mut b));
    let x2 = Some(b.input("x2", Shape::new(1, 4, 5, 12), F16));
    refused_shape(GroupNorm { x2, ..GroupNorm::new(x, vector(24), vector(24), 3, 1e-5) }.record(&mut b));
    // A quad of the joined channels would straddle both inputs.
    let six = b.input("six", Shape::new(1, 4, 4, 6), F16);
    let x2 = Some(x);
    refused_shape(GroupNorm { x2, ..GroupNorm::new(six, vector(18), vector(18), 3, 1e-5) }.record(&mut b));
    refused_shape(LayerNorm { x, weight: vector(12), bias: vector(13), eps: 1e-5 }.record(&mut b));
    let words = b.input("words", Shape::new(1, 4, 4, 12), U32);
    refused_dtype(LayerNorm { x: words, weight: vector(12), bias: vector(12), eps: 1e-5 }.record(&mut b));
    refused_dtype(GroupNorm::new(words, vector(12), vector(12), 3, 1e-5).record(&mut b));
}

#[test]
fn linear_combination_refuses_what_does_not_fit() {
    let mut b = plan();
    let x = b.input("x", Shape::new(2, 4, 4, 4), F16);
    let three = b.input("three", Shape::new(3, 4, 4, 4), F16);
    let factors = b.input("factors", Shape::vector(2, 3), F32);
    let halves = b.input("halves", Shape::vector(2, 2), F16);
    let sum = |terms: Vec<Tensor>, coefficients| LinearCombination {
        terms: terms.into_iter().map(Term::from).collect(),
        coefficients,
        offset: 0.0,
        activation: Activation::None,
        out_dtype: F16,
    };
    refused_shape(sum(vec![], Coefficients::Constant(vec![])).record(&mut b));
    refused_shape(sum(vec![x; 5], Coefficients::Constant(vec![1.0; 5])).record(&mut b));
    refused_shape(sum(vec![x, x], Coefficients::Constant(vec![1.0])).record(&mut b));
    refused_shape(sum(vec![x, three], Coefficients::Constant(vec![1.0; 2])).record(&mut b));
    refused_shape(sum(vec![x, x], Coefficients::PerRow(factors.into())).record(&mut b));
    refused_dtype(sum(vec![x, x], Coefficients::PerRow(halves.into())).record(&mut b));
    let mut beyond = sum(vec![x], Coefficients::Constant(vec![1.0]));
    beyond.terms = vec![Term::only(x, 2)];
    refused_shape(beyond.record(&mut b));
    let pairs = b.input("pairs", Shape::vector(2, 2), F32);
    refused_shape(sum(vec![x, x], Coefficients::PerRow(Term::only(pairs, 2))).record(&mut b));
}

#[test]
fn embeddings_refuse_what_does_not_fit() {
    let mut b = plan();
    let ids = b.input("ids", Shape::tokens(1, 8, 1), U32);
    let x = b.input("x", Shape::tokens(1, 8, 1), F32);
    let table = || Param::new("table", &[16, 8]);
    let embedding = |ids, positions, out_dtype| Embedding { ids, table: table(), positions, out_dtype };
    refused_dtype(embedding(x, None, F16).record(&mut b));
    refused_dtype(embedding(ids, None, U32).record(&mut b));
    refused_shape(embedding(ids, Some(Param::new("p", &[7, 8])), F16).record(&mut b));
    refused_shape(embedding(ids, Some(Param::new("p", &[8, 4])), F16).record(&mut b));
    let t = b.input("t", Shape::vector(2, 1), F32);
    let time =
        |dim, shift| TimestepEmbedding { values: t, dim, cos_first: true, shift, scale: 1.0, out_dtype: F16 };
    refused_shape(time(7, 0.0).record(&mut b));
    refused_shape(time(0, 0.0).record(&mut b));
    refused_shape(time(2, 1.0).record(&mut b));
}

#[test]
fn a_table_too_large_for_a_binding_is_stored_as_halves() {
    let mut b = plan();
    let ids = b.input("ids", Shape::tokens(1, 8, 1), U32);
    // CLIP's vocabulary at 768 channels: 152 MB as f32, 128 MiB is what every adapter binds.
    let table = Param::new("table", &[49_408, 768]);
    let recorded = Embedding { ids, table, positions: None, out_dtype: F32 }.record(&mut b);
    assert!(recorded.is_ok_and(|y| y.dtype == F32));
    assert_eq!(b.finish().weights[0].dtype, F16);
}

#[test]
fn pictures_refuse_what_does_not_fit() {
    let mut b = plan();
    let pixels = b.input("pixels", Shape::new(1, 20, 30, 1), U32);
    let orientation = Orientation::default();
    let resized = |region, size| PictureIn { pixels, region, orientation, size, out_dtype: F16 };
    for region in [
        [0.0, 0.0, 30.0 * 65.0, 20.0],
        [-11.0, 0.0, 10.0, 10.0],
        [0.0, 20.0, 10.0, 10.0],
        [0.0, 0.0, 0.0, 20.0],
        [0.0, f32::NAN, 30.0, 20.0],
        [0.0, 0.0, f32::INFINITY, 20.0],
    ] {
        refused_shape(resized(region, [8, 8]).record(&mut b));
    }
    refused_shape(resized([0.0, 0.0, 30.0, 20.0], [0, 8]).record(&mut b));
    let x = b.input("x", Shape::new(1, 4, 4, 4), F16);
    refused_shape(PictureOut { x }.record(&mut b));
    for (width, height, channels) in [(12, 8, 1), (8, 7, 1), (8, 8, 2)] {
        let pixels = b.input("odd", Shape::new(1, height, width, channels), U32);
        refused_shape(I420 { pixels }.record(&mut b));
    }
    refused_dtype(I420 { pixels: x }.record(&mut b));
    let region = [0.0; 4];
    refused_dtype(PictureIn { pixels: x, region, orientation, size: [4, 4], out_dtype: F16 }.record(&mut b));
}

#[test]
fn similarity_refuses_what_does_not_fit() {
    let mut b = plan();
    let x = b.input("x", Shape::new(1, 8, 8, 3), F32);
    let wide = b.input("wide", Shape::new(1, 8, 9, 3), F32);
    let empty = b.input("empty", Shape::new(1, 0, 8, 3), F32);
    let words = b.input("words", Shape::new(1, 8, 8, 3), U32);
    refused_shape(Similarity::new(x, wide).record(&mut b));
    refused_shape(Similarity::new(empty, empty).record(&mut b));
    refused_dtype(Similarity::new(x, words).record(&mut b));
    refused_dtype(Similarity::new(words, x).record(&mut b));
}
