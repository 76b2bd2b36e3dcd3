//! Figures for people, as text.

use std::fmt::Write as _;

use super::figures::{ColdStart, Figures};
use super::parts::Row;
use super::stats::Spread;

/// Rows of the table of dispatches.
const MOST_DISPATCHES: usize = 12;

/// All figures.
pub fn table(figures: &Figures) -> String {
    let mut out = String::new();
    for section in [head, times, parts, kernels, rates, rest] {
        section(figures, &mut out);
    }
    for warning in &figures.warnings {
        line(&mut out, &format!("warning: {warning}"));
    }
    out
}

fn line(out: &mut String, text: &str) {
    out.push_str(text.trim_end());
    out.push('\n');
}

fn head(figures: &Figures, out: &mut String) {
    let Figures { adapter, setup, .. } = figures;
    let [width, height] = setup.size;
    let [from_width, from_height] = setup.source_size;
    line(out, &format!("{} ({}, {})", adapter.name, adapter.backend, adapter.driver));
    let steps = if setup.steps == 1 { "step" } else { "steps" };
    line(
        out,
        &format!(
            "{} at {width}x{height} from {} {from_width}x{from_height}, {} {steps}, {}, {}\n",
            setup.model, setup.source, setup.steps, setup.batching, setup.dtype
        ),
    );
    if !figures.is_complete {
        line(out, "Ended early: figures of the frames until then.\n");
    }
}

fn spread(out: &mut String, name: &str, spread: &Spread) {
    let Spread { count, p50, p95, p99, max, .. } = spread;
    line(out, &format!("{name:<26} {p50:>9.2} {p95:>9.2} {p99:>9.2} {max:>9.2} {count:>7}"));
}

fn times(figures: &Figures, out: &mut String) {
    let columns = ["p50", "p95", "p99", "max"].map(|c| format!("{c:>9}")).join(" ");
    line(out, &format!("{:<26} {columns} {:>7}", "milliseconds", "frames"));
    let mut show = |name: &str, of: Option<Spread>| {
        if let Some(of) = of {
            spread(out, name, &of);
        }
    };
    show("frame on the device", figures.frame_gpu_ms);
    show("frame alone, by the clock", figures.single.map(|s| s.job_ms));
    show("latency in the stream", figures.stream.map(|s| s.latency_ms));
    show("between pictures", figures.stream.map(|s| s.interval_ms));
    show("CPU per frame", figures.stream.map(|s| s.cpu_ms));
    show("CPU encode and submit", figures.stream.and_then(|s| s.encode_ms));
    show("push", figures.single.map(|s| s.push_ms));
    show("upload and submit", figures.single.map(|s| s.submit_ms));
    show("read-back", figures.single.map(|s| s.read_back_ms));
    if let Some(stream) = &figures.stream {
        let busy = stream.device_busy.map_or(String::new(), |b| format!(", device busy {:.0} %", 100.0 * b));
        let (fps, jitter, deviation) = (stream.fps, stream.jitter_ms, stream.jitter_stddev_ms);
        line(
            out,
            &format!(
                "\n{fps:.2} frames/s, jitter {jitter:.2} ms (p95-p50), {deviation:.2} ms (stddev){busy}"
            ),
        );
    }
}

fn row(out: &mut String, row: &Row) {
    let Row { name, calls, gpu_ms, share, gflop_per_s, gbytes_per_s, .. } = row;
    let Spread { p50, p95, p99, max, .. } = gpu_ms;
    let share = 100.0 * share;
    line(
        out,
        &format!(
            "{name:<26} {p50:>9.3} {p95:>9.3} {p99:>9.3} {max:>9.3} {share:>6.1}% {calls:>6.0} \
             {gflop_per_s:>9.1} {gbytes_per_s:>8.1}"
        ),
    );
}

fn rows(out: &mut String, title: &str, rows: &[Row]) {
    if rows.is_empty() {
        return;
    }
    let columns = ["p50 ms", "p95", "p99", "max"].map(|c| format!("{c:>9}")).join(" ");
    line(
        out,
        &format!("\n{title:<26} {columns} {:>7} {:>6} {:>9} {:>8}", "share", "calls", "GFLOP/s", "GB/s"),
    );
    rows.iter().for_each(|r| row(out, r));
}

fn parts(figures: &Figures, out: &mut String) {
    rows(out, "part of a frame", &figures.stages);
    if let Some(c) = &figures.consistency {
        line(
            out,
            &format!(
                "parts {:.3} ms over whole {:.3} ms: {:.4}; over frames without inner timestamps {:.3} ms: {:.4}",
                c.parts_ms, c.whole_ms, c.parts_over_whole, c.plain_ms, c.parts_over_plain
            ),
        );
    }
}

fn kernels(figures: &Figures, out: &mut String) {
    rows(out, "kernel", &figures.kernels);
    if figures.dispatches.is_empty() {
        return;
    }
    line(out, "\nlongest dispatches");
    for Row { name, gpu_ms, share, gflop_per_s, gbytes_per_s, .. } in
        figures.dispatches.iter().take(MOST_DISPATCHES)
    {
        let (p50, share) = (gpu_ms.p50, 100.0 * share);
        line(
            out,
            &format!(
                "{p50:>9.3} ms {share:>5.1}% {gflop_per_s:>9.1} GFLOP/s {gbytes_per_s:>7.1} GB/s  {name}"
            ),
        );
    }
}

fn rates(figures: &Figures, out: &mut String) {
    let Some(work) = &figures.work else { return };
    let dispatches = work.dispatches.map_or(String::new(), |n| format!("{n:.0} dispatches, "));
    let mut text = String::new();
    let _ = write!(
        text,
        "\na frame: {dispatches}{:.2} GFLOP, {:.3} GB of traffic; reached {:.1} GFLOP/s, {:.1} GB/s",
        work.gflop, work.gbytes, work.gflop_per_s, work.gbytes_per_s
    );
    if let Some(c) = &figures.ceilings {
        let _ = write!(
            text,
            "\nof the adapter's {:.0} GFLOP/s ({:.1} %) and {:.1} GB/s ({:.1} %)",
            c.gflop_per_s,
            100.0 * c.flop_share,
            c.gbytes_per_s,
            100.0 * c.byte_share
        );
    }
    line(out, &text);
}

fn rest(figures: &Figures, out: &mut String) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let memory = &figures.memory;
    let peak = memory.peak_resident_bytes.map_or("unknown".into(), |b| format!("{:.0} MiB", mib(b)));
    line(out, &format!("\nmemory: {:.1} MiB on the device, peak resident {peak}", mib(memory.device_bytes)));
    cold_start(&figures.cold_start, out);
    if let Some(filter) = &figures.filter {
        let (skipped, share) = (filter.skipped, 100.0 * filter.skipped_share);
        let of = filter.skipped + filter.processed;
        let saved = filter
            .saved_gpu_share
            .map_or(String::new(), |s| format!(", {:.1} % of the device's time saved", 100.0 * s));
        line(out, &format!("similarity filter: {skipped} of {of} frames skipped ({share:.1} %){saved}"));
    }
}

fn cold_start(cold: &ColdStart, out: &mut String) {
    let ColdStart { read_ms, read_bytes, open_ms, load_ms, compile_ms, prompt_ms, first_frame_ms, .. } =
        *cold;
    let megabytes = read_bytes as f64 / 1e6;
    let place = if cold.has_cold_files { "the disk" } else { "memory" };
    let alone = match read_bytes {
        0 => String::new(),
        _ => {
            let rate = megabytes / read_ms * 1e3;
            format!("; reading alone, from {place}: {read_ms:.0} ({megabytes:.0} MB at {rate:.0} MB/s)")
        }
    };
    let [total, weights, kernels] = [cold.total_ms, cold.weights_ms, cold.kernels_ms];
    line(
        out,
        &format!(
            "cold start: {total:.0} ms = open {open_ms:.0} + load {load_ms:.0} + compile {compile_ms:.0} + \
             prompt {prompt_ms:.0} + first frame {first_frame_ms:.0}{alone}"
        ),
    );
    let warm = if cold.is_warm { "some from earlier runs" } else { "none from earlier runs" };
    let tuned = cold.tuned_classes;
    let later = match cold.text_encoder_ms {
        0.0 => String::new(),
        took => format!("; the prompt was kept from an earlier run, its encoder came {took:.0} ms later"),
    };
    line(
        out,
        &format!(
            "  {:.0} ms beyond reading the files; weights {weights:.0}, kernels {kernels:.0} ({warm}, {tuned} classes tuned){later}",
            cold.beyond_reading_ms
        ),
    );
}
