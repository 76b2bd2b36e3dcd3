//! A run against an earlier one.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::figures::{Adapter, ColdStart, Figures, SCHEMA, Setup};
use crate::failure::bad_input;

/// Longest file that is read: far more than any run writes.
const MAX_BYTES: u64 = 64 << 20;
/// Share of a frame from which a stage that got slower counts.
const LARGE: f64 = 0.05;
/// Milliseconds by which the CPU's share of a frame varies by chance.
const CPU_CHANCE_MS: f64 = 0.5;
/// Milliseconds by which a start does.
const START_CHANCE_MS: f64 = 500.0;

/// Reads the JSON of an earlier run.
pub fn read(path: &Path) -> Result<Figures> {
    let shown = path.display();
    let bad = |what: String| bad_input(format!("{shown}: {what}"));
    let bytes = fs::metadata(path).map_err(|e| bad(format!("cannot be read: {e}")))?.len();
    if bytes > MAX_BYTES {
        return Err(bad(format!("has {bytes} bytes, at most {MAX_BYTES} are read")));
    }
    let text = fs::read(path).map_err(|e| bad(format!("cannot be read: {e}")))?;
    let json: serde_json::Value =
        serde_json::from_slice(&text).map_err(|e| bad(format!("is not JSON of `dreamglass bench`: {e}")))?;
    match json.get("schema").and_then(serde_json::Value::as_u64) {
        Some(schema) if schema == u64::from(SCHEMA) => {}
        Some(schema) => return Err(bad(format!("has schema {schema}, this program reads {SCHEMA}"))),
        None => return Err(bad("is not JSON of `dreamglass bench`: it has no schema".into())),
    }
    serde_json::from_value(json).map_err(|e| bad(format!("is not JSON of `dreamglass bench`: {e}")))
}

/// What makes the runs hard to compare.
pub fn differences(before: &Figures, adapter: &Adapter, setup: &Setup) -> Vec<String> {
    let size = |s: &Setup| format!("{}x{}", s.size[0], s.size[1]);
    let place = |a: &Adapter| format!("{} ({}, {})", a.name, a.backend, a.driver);
    let old = &before.setup;
    let parameters = |s: &Setup| serde_json::to_string(&s.parameters).unwrap_or_default();
    let pairs = [
        ("adapter", place(&before.adapter), place(adapter)),
        ("model", old.model.clone(), setup.model.clone()),
        ("size", size(old), size(setup)),
        ("steps", old.steps.to_string(), setup.steps.to_string()),
        ("batching", old.batching.clone(), setup.batching.clone()),
        ("dtype", old.dtype.clone(), setup.dtype.clone()),
        ("source", old.source.clone(), setup.source.clone()),
        ("parameters", parameters(old), parameters(setup)),
    ];
    let differing = pairs.into_iter().filter(|(_, old, new)| old != new);
    differing
        .map(|(what, old, new)| format!("the compared runs differ in {what}: {old} before, {new} now"))
        .collect()
}

/// One figure of both runs.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    name: String,
    unit: &'static str,
    before: f64,
    now: f64,
    /// Whether it got slower by more than the threshold, and counts.
    is_slower: bool,
}

/// Both runs, figure by figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    lines: Vec<Line>,
    threshold: f64,
}

impl Comparison {
    pub fn new(before: &Figures, now: &Figures, threshold: f64) -> Self {
        let mut comparison = Self { lines: Vec::new(), threshold };
        let gpu = |f: &Figures| f.frame_gpu_ms;
        comparison.add("frame p50", "ms", [before, now].map(frame_ms), true);
        comparison.add("frame p95", "ms", [before, now].map(|f| gpu(f).map(|s| s.p95)), false);
        comparison.add("fps", "/s", [before, now].map(|f| f.stream.map(|s| s.fps)), false);
        let latency = |f: &Figures| f.stream.map(|s| s.latency_ms.p50);
        comparison.add("latency p50", "ms", [before, now].map(latency), false);
        for stage in &now.stages {
            let Some(old) = before.stages.iter().find(|s| s.name == stage.name) else { continue };
            let is_large = old.share.max(stage.share) > LARGE;
            comparison.add(&stage.name, "ms", [old, stage].map(|s| Some(s.gpu_ms.p50)), is_large);
        }
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let memory = |f: &Figures| Some(mib(f.memory.device_bytes));
        comparison.add("device memory", "MiB", [before, now].map(memory), true);
        let dispatches = |f: &Figures| f.work.and_then(|w| w.dispatches);
        comparison.add("dispatches", "", [before, now].map(dispatches), true);
        let cpu = |f: &Figures| f.stream.map(|s| s.cpu_ms.p50);
        comparison.add_beyond("CPU per frame", "ms", [before, now].map(cpu), CPU_CHANCE_MS);
        let encode = |f: &Figures| f.stream.and_then(|s| s.encode_ms).map(|s| s.p50);
        comparison.add_beyond("CPU encode", "ms", [before, now].map(encode), CPU_CHANCE_MS);
        let resident = |f: &Figures| f.memory.peak_resident_bytes.map(mib);
        comparison.add("peak memory", "MiB", [before, now].map(resident), false);
        let starts = [before, now].map(|f| f.cold_start);
        if starts_alike(starts) {
            comparison.add("cold start", "ms", starts.map(|start| Some(start.total_ms)), false);
            let beyond = starts.map(|start| Some(start.beyond_reading_ms));
            comparison.add_beyond("beyond reading", "ms", beyond, START_CHANCE_MS);
        }
        comparison
    }
    /// Whether the frame or a large stage is past the threshold.
    pub fn is_slower(&self) -> bool {
        self.lines.iter().any(|l| l.is_slower)
    }

    /// A figure that may not get slower by more than the threshold and, as it is small or taken once, `chance`.
    fn add_beyond(&mut self, name: &str, unit: &'static str, values: [Option<f64>; 2], chance: f64) {
        let counts = matches!(values, [Some(before), Some(now)] if now > before + chance);
        self.add(name, unit, values, counts);
    }
    /// A figure that both runs have; `counts` where it is one that may not get slower.
    fn add(&mut self, name: &str, unit: &'static str, values: [Option<f64>; 2], counts: bool) {
        let [Some(before), Some(now)] = values else { return };
        let is_slower = counts && now > before * self.threshold;
        self.lines.push(Line { name: name.into(), unit, before, now, is_slower });
    }
}

/// Device time of a frame, or its wall time where the adapter has no timestamps.
fn frame_ms(figures: &Figures) -> Option<f64> {
    figures.frame_gpu_ms.or(figures.single.map(|s| s.job_ms)).map(|s| s.p50)
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:<24} {:>12} {:>12}       new/old", "compared", "before", "now")?;
        for Line { name, unit, before, now, is_slower } in &self.lines {
            let mark = if *is_slower { "  slower" } else { "" };
            let ratio = if *before > 0.0 { format!("{:.3}", now / before) } else { "-".into() };
            writeln!(f, "{name:<24} {before:>12.3} {now:>12.3} {unit:<4} {ratio:>9}{mark}")?;
        }
        let verdict = match self.lines.iter().filter(|l| l.is_slower).count() {
            0 => "within",
            _ => "PAST",
        };
        writeln!(
            f,
            "{verdict} the threshold of {:.2} for the frame, stages above 5 % of it, dispatches, device memory, the \
             CPU's share and the start",
            self.threshold
        )
    }
}

/// Whether two starts had the same to do: files on the disk or in memory, a prompt to encode or one that was kept.
pub fn starts_alike(starts: [ColdStart; 2]) -> bool {
    let [before, now] = starts.map(|start| (start.has_cold_files, start.text_encoder_ms > 0.0));
    before == now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_counts_fails() {
        let mut comparison = Comparison { lines: Vec::new(), threshold: 1.1 };
        comparison.add("fps", "/s", [Some(1.0), Some(2.0)], false);
        comparison.add("encode", "ms", [Some(10.0), Some(11.0)], true);
        comparison.add("missing", "ms", [None, Some(11.0)], true);
        assert!(!comparison.is_slower() && comparison.lines.len() == 2, "{comparison}");
        comparison.add_beyond("CPU per frame", "ms", [Some(0.4), Some(0.8)], 0.5);
        assert!(!comparison.is_slower(), "{comparison}");
        comparison.add_beyond("CPU per frame", "ms", [Some(0.4), Some(1.0)], 0.5);
        assert!(comparison.is_slower() && comparison.lines.pop().is_some() && !comparison.is_slower());
        // A start that took less than reading the files alone.
        comparison.add_beyond("beyond reading", "ms", [Some(-200.0), Some(90.0)], 300.0);
        assert!(!comparison.is_slower(), "{comparison}");
        comparison.add_beyond("beyond reading", "ms", [Some(-200.0), Some(150.0)], 300.0);
        assert!(comparison.is_slower() && comparison.lines.pop().is_some() && !comparison.is_slower());
        comparison.add("decode", "ms", [Some(10.0), Some(11.1)], true);
        assert!(comparison.is_slower());
        let text = comparison.to_string();
        assert!(text.contains("PAST") && text.contains("1.110  slower"), "{text}");
    }
}
