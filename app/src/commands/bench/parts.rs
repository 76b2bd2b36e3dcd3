//! Which part of a frame a span of the device's time belongs to, and sums over frames.

use std::collections::HashMap;

use dreamglass_engine::kernels::profile::Span;
use serde::{Deserialize, Serialize};

use super::stats::Spread;

/// Sums of one part, one kernel or one dispatch over a frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub name: String,
    /// Dispatches in a frame.
    pub calls: f64,
    /// Device time in a frame.
    pub gpu_ms: Spread,
    /// Share of all rows' medians.
    pub share: f64,
    /// Useful floating-point operations in a frame, in 10⁹.
    pub gflop: f64,
    /// Bytes that must be moved in a frame, in 10⁹.
    pub gbytes: f64,
    pub gflop_per_s: f64,
    pub gbytes_per_s: f64,
}

/// The part of a frame that `span` belongs to: its stage, or a block of the UNet.
pub fn part(span: &Span) -> String {
    match (span.stage.as_str(), span.kernel.as_str()) {
        ("denoise", "") => "denoise".into(),
        ("denoise", _) => block(&span.label),
        (stage, _) => stage.into(),
    }
}

/// The block of the UNet that a dispatch called `label` belongs to.
fn block(label: &str) -> String {
    let scope = label.split('/').next().unwrap_or_default();
    let mut words = scope.split('.');
    let name = match (words.next().unwrap_or_default(), words.next()) {
        (kind @ ("down_blocks" | "up_blocks"), Some(level)) => format!("{kind}.{level}"),
        ("mid_block", _) => "mid_block".into(),
        ("conv_in", _) => "conv_in".into(),
        // The norm before the last convolution has no scope of its own.
        ("conv_out" | "conv_norm_out", _) => "conv_out".into(),
        (name, _) if name.starts_with("group_norm") => "conv_out".into(),
        // What is left mixes samples: entry, scaling and the scheduler's step.
        _ => return "scheduler".into(),
    };
    format!("unet {name}")
}

/// Rows of `frames` by `key`, in the order in which they first appear.
pub fn rows<'a>(frames: &'a [Vec<Span>], key: impl Fn(&'a Span) -> String) -> Vec<Row> {
    #[derive(Default)]
    struct Sums {
        ms: Vec<f64>,
        calls: usize,
        flops: u64,
        bytes: u64,
    }
    let mut order = Vec::new();
    let mut sums = HashMap::<String, Sums>::new();
    for (ix, frame) in frames.iter().enumerate() {
        for span in frame {
            let name = key(span);
            let sum = sums.entry(name).or_insert_with_key(|name| {
                order.push(name.clone());
                Sums { ms: vec![0.0; frames.len()], ..Sums::default() }
            });
            sum.ms[ix] += span.duration_ns() / 1e6;
            sum.calls += 1;
            sum.flops += span.flops;
            sum.bytes += span.bytes;
        }
    }
    let count = frames.len() as f64;
    let row = |name: String| {
        let sum = sums.remove(&name)?;
        let gpu_ms = Spread::of(&sum.ms)?;
        let [gflop, gbytes] = [sum.flops, sum.bytes].map(|v| v as f64 / count / 1e9);
        let per_s = |work: f64| if gpu_ms.mean > 0.0 { work / gpu_ms.mean * 1e3 } else { 0.0 };
        let (gflop_per_s, gbytes_per_s) = (per_s(gflop), per_s(gbytes));
        let calls = sum.calls as f64 / count;
        Some(Row { name, calls, gpu_ms, share: 0.0, gflop, gbytes, gflop_per_s, gbytes_per_s })
    };
    let mut rows: Vec<Row> = order.into_iter().filter_map(row).collect();
    let total: f64 = rows.iter().map(|r| r.gpu_ms.p50).sum();
    rows.iter_mut().for_each(|r| r.share = if total > 0.0 { r.gpu_ms.p50 / total } else { 0.0 });
    rows
}

/// From the first beginning to the last end, in milliseconds.
pub fn whole_ms(frame: &[Span]) -> f64 {
    let start = frame.iter().map(|s| s.start_ns).fold(f64::INFINITY, f64::min);
    let end = frame.iter().map(|s| s.end_ns).fold(f64::NEG_INFINITY, f64::max);
    if frame.is_empty() { 0.0 } else { (end - start) / 1e6 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(stage: &str, label: &str, kernel: &str, [start, end]: [f64; 2]) -> Span {
        let [start_ns, end_ns] = [start * 1e6, end * 1e6];
        let [stage, label, kernel] = [stage, label, kernel].map(String::from);
        Span { stage, label, kernel, start_ns, end_ns, flops: 2_000_000, bytes: 1_000_000 }
    }

    #[test]
    fn labels_find_their_block() {
        let cases = [
            ("denoise", "down_blocks.1.resnets.0/conv1", "conv2d", "unet down_blocks.1"),
            ("denoise", "up_blocks.0.attentions.2.transformer_blocks.0/ff.net.2", "gemm", "unet up_blocks.0"),
            ("denoise", "mid_block.resnets.1/group_norm", "group_norm", "unet mid_block"),
            ("denoise", "conv_in", "conv2d", "unet conv_in"),
            ("denoise", "conv_out", "conv2d", "unet conv_out"),
            ("denoise", "group_norm statistics", "group_norm", "unet conv_out"),
            ("denoise", "linear_combination", "linear_combination", "scheduler"),
            ("denoise", "denoise", "", "denoise"),
            ("encode", "encoder/layers.0", "conv2d", "encode"),
            ("show", "picture_out", "picture_out", "show"),
        ];
        for (stage, label, kernel, expected) in cases {
            assert_eq!(part(&span(stage, label, kernel, [0.0, 1.0])), expected, "{label}");
        }
    }

    #[test]
    fn rows_are_sums_of_frames() {
        let frame = |last: f64| {
            vec![
                span("encode", "a", "conv2d", [1.0, 2.0]),
                span("encode", "b", "conv2d", [2.0, 4.0]),
                span("show", "c", "picture_out", [4.0, last]),
            ]
        };
        let frames = [frame(5.0), frame(6.0), frame(7.0), vec![]];
        assert_eq!(frames.each_ref().map(|f| whole_ms(f)), [4.0, 5.0, 6.0, 0.0]);
        let rows = rows(&frames[..3], part);
        let [encode, show] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((encode.name.as_str(), encode.calls, encode.gpu_ms.p50), ("encode", 2.0, 3.0));
        assert_eq!((show.gpu_ms.p50, show.gpu_ms.max, show.share), (2.0, 3.0, 0.4));
        assert!((encode.gflop_per_s - 4.0 / 3.0).abs() < 1e-9 && (encode.gbytes - 0.002).abs() < 1e-12);
    }
}
