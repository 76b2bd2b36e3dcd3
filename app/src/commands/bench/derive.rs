//! From measurements to figures.

use dreamglass_engine::kernels::ceiling::Ceilings;
use dreamglass_engine::kernels::profile::Span;

use super::figures::{
    CeilingFigures, Consistency, FilterFigures, MemoryFigures, Series, SingleFigures, StreamFigures, Work,
};
use super::parts::{self, Row, part};
use super::single::Single;
use super::stats::{Spread, median};
use super::streaming::Streamed;

/// How far the parts may be from the whole.
const TOLERANCE: f64 = 0.05;

/// Rows by part, by kernel and by dispatch.
pub struct Tables {
    pub stages: Vec<Row>,
    pub kernels: Vec<Row>,
    pub dispatches: Vec<Row>,
}

impl Tables {
    pub fn of(single: &Single) -> Self {
        // Whole stages are better than nothing.
        let frames = if single.dispatches.is_empty() { &single.stages } else { &single.dispatches };
        let mut kernels = parts::rows(&single.dispatches, |span| span.kernel.clone());
        kernels.sort_by(|a, b| b.gpu_ms.p50.total_cmp(&a.gpu_ms.p50));
        let dispatch = |span: &Span| format!("{}: {} ({})", span.stage, span.label, span.kernel);
        let mut dispatches = parts::rows(&single.dispatches, dispatch);
        dispatches.sort_by(|a, b| b.gpu_ms.p50.total_cmp(&a.gpu_ms.p50));
        Self { stages: parts::rows(frames, part), kernels, dispatches }
    }
}

/// Device times of the frames that were measured by stages.
pub fn frame_times(single: &Single) -> Vec<f64> {
    single.stages.iter().map(|frame| parts::whole_ms(frame)).collect()
}

pub fn single(single: &Single) -> Option<SingleFigures> {
    Some(SingleFigures {
        job_ms: Spread::of(&single.job_ms)?,
        push_ms: Spread::of(&single.push_ms)?,
        submit_ms: Spread::of(&single.submit_ms)?,
        read_back_ms: Spread::of(&single.finish_ms)?,
    })
}

pub fn stream(streamed: &Streamed, frame_ms: Option<f64>) -> Option<StreamFigures> {
    let interval_ms = Spread::of(&streamed.intervals())?;
    let fps = streamed.fps()?;
    let is_whole = streamed.skipped == 0;
    Some(StreamFigures {
        outputs: streamed.done_ms.len(),
        fps,
        latency_ms: Spread::of(&streamed.latency_ms)?,
        jitter_ms: interval_ms.jitter(),
        jitter_stddev_ms: interval_ms.stddev,
        interval_ms,
        cpu_ms: Spread::of(&streamed.cpu_ms)?,
        encode_ms: Spread::of(&streamed.encode_ms),
        submit_ms: Spread::of(&streamed.submit_ms)?,
        device_busy: frame_ms.filter(|_| is_whole).map(|ms| ms * fps / 1e3),
    })
}

/// Work of a frame over its median device time.
pub fn work(single: &Single, frame_ms: f64) -> Option<Work> {
    let sum = |count: fn(&Span) -> u64| {
        let sums: Vec<f64> =
            single.stages.iter().map(|f| f.iter().map(count).sum::<u64>() as f64 / 1e9).collect();
        median(&sums)
    };
    let [gflop, gbytes] = [sum(|s| s.flops), sum(|s| s.bytes)];
    let counts: Vec<f64> = single.dispatches.iter().map(|f| f.len() as f64).collect();
    let per_s = |work: f64| work / frame_ms * 1e3;
    (frame_ms > 0.0).then(|| Work {
        dispatches: Spread::of(&counts).map(|s| s.p50),
        gflop,
        gbytes,
        gflop_per_s: per_s(gflop),
        gbytes_per_s: per_s(gbytes),
    })
}

pub fn ceilings(ceilings: &Ceilings, work: &Work) -> CeilingFigures {
    let gflop_per_s = ceilings.fma_flops_per_s / 1e9;
    let gbytes_per_s = ceilings.copy_bytes_per_s / 1e9;
    CeilingFigures {
        gflop_per_s,
        gbytes_per_s,
        flop_share: work.gflop_per_s / gflop_per_s,
        byte_share: work.gbytes_per_s / gbytes_per_s,
    }
}

/// Compares the sum of the parts with the whole; none where one of them is missing.
pub fn consistency(single: &Single, stages: &[Row], warnings: &mut Vec<String>) -> Option<Consistency> {
    let wholes: Vec<f64> = single.dispatches.iter().map(|frame| parts::whole_ms(frame)).collect();
    let whole_ms = Spread::of(&wholes)?.p50;
    let plain_ms = Spread::of(&frame_times(single))?.p50;
    let parts_ms: f64 = stages.iter().map(|row| row.gpu_ms.p50).sum();
    let parts_over_whole = parts_ms / whole_ms;
    if (parts_over_whole - 1.0).abs() > TOLERANCE {
        warnings.push(format!(
            "the parts' medians add up to {:.1} % of the whole frame's: the device was busy with other \
             work, or more frames are needed",
            100.0 * parts_over_whole
        ));
    }
    let parts_over_plain = parts_ms / plain_ms;
    if (parts_over_plain - 1.0).abs() > TOLERANCE {
        let why = match parts_over_plain > 1.0 {
            true => "shares of parts and kernels are sound, their milliseconds less so",
            false => "the device had other work, or more frames are needed",
        };
        warnings.push(format!(
            "frames measured dispatch by dispatch take {:.1} % of the others' time: {why}",
            100.0 * parts_over_plain
        ));
    }
    Some(Consistency { parts_ms, whole_ms, parts_over_whole, plain_ms, parts_over_plain })
}

/// Tells of a device that had other work while frames were measured alone: one that is busier than
/// always was faster in the stream.
pub fn check_load(stream: Option<&StreamFigures>, warnings: &mut Vec<String>) {
    if let Some(busy) = stream.and_then(|s| s.device_busy).filter(|busy| *busy > 1.0 + TOLERANCE) {
        warnings.push(format!(
            "frames took {:.1} % of the stream's time when they were measured alone: the device had other work",
            100.0 * busy
        ));
    }
}

/// What the filter saved against processing every frame in `frame_ms`.
pub fn filter(streamed: &Streamed, frame_ms: Option<f64>) -> Option<FilterFigures> {
    let (processed, skipped) = (streamed.processed, streamed.skipped);
    let handled = processed + skipped;
    let times = |wanted: bool| {
        let is_wanted = |frame: &&Vec<Span>| frame.iter().any(|s| s.stage == "compare") == wanted;
        let times: Vec<f64> = streamed.spans.iter().filter(is_wanted).map(|f| parts::whole_ms(f)).collect();
        Spread::of(&times).map(|s| s.p50)
    };
    let compare_gpu_ms = times(true);
    // Without any job in the stream, one costs what a frame alone does.
    let job_ms = times(false).or(frame_ms);
    let saved = |full: f64| {
        let spent = processed as f64 * job_ms? + handled as f64 * compare_gpu_ms?;
        Some(1.0 - spent / (handled as f64 * full))
    };
    (handled > 0).then(|| FilterFigures {
        processed,
        skipped,
        skipped_share: skipped as f64 / handled as f64,
        compare_gpu_ms,
        saved_gpu_share: frame_ms.and_then(saved),
    })
}

pub fn memory(device_bytes: u64) -> MemoryFigures {
    MemoryFigures { device_bytes, peak_resident_bytes: peak_resident_bytes() }
}

/// Linux says it in `/proc`.
fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

pub fn series(single: &Single, streamed: &Streamed) -> Series {
    Series {
        gpu_ms: frame_times(single),
        latency_ms: streamed.latency_ms.clone(),
        interval_ms: streamed.intervals(),
    }
}
