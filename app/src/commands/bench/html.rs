//! The report: one HTML file that needs nothing else.

use std::fmt::Write as _;

use super::figures::{ColdStart, Figures};
use super::parts::Row;
use super::stats::Spread;
use super::svg::{self, Line};

const STYLE: &str = include_str!("report.css");
/// Rows of the table of dispatches.
const MOST_DISPATCHES: usize = 40;

/// The page.
pub fn page(figures: &Figures) -> String {
    let title = escape(&format!("Dreamglass bench: {}", figures.adapter.name));
    let sections = [head, cards, graph, percentiles, parts, kernels, ceilings, cold_start, details];
    let body: String = sections.iter().map(|section| section(figures)).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>\n"
    )
}

/// `text` without anything that HTML reads as more than text.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn head(figures: &Figures) -> String {
    let Figures { adapter, setup, .. } = figures;
    let early = if figures.is_complete { "" } else { "<p class=\"warning\">The run was ended early.</p>" };
    let warnings: String =
        figures.warnings.iter().map(|w| format!("<p class=\"warning\">{}</p>", escape(w))).collect();
    let [width, height] = setup.size;
    let steps = if setup.steps == 1 { "step" } else { "steps" };
    format!(
        "<h1>{}</h1><p class=\"what\">{} at {width}×{height}, {} {steps}, {}, {}, source {} — {}, {}, kernels {}, \
         Dreamglass {}</p>{early}{warnings}",
        escape(&adapter.name),
        escape(&setup.model),
        setup.steps,
        escape(&setup.batching),
        escape(&setup.dtype),
        escape(&setup.source),
        escape(&adapter.backend),
        escape(&adapter.driver),
        escape(&adapter.tier),
        escape(&figures.version)
    )
}

fn card(value: &str, unit: &str, name: &str) -> String {
    format!("<div class=\"card\"><b>{value}<small>{unit}</small></b><span>{name}</span></div>")
}

fn cards(figures: &Figures) -> String {
    let mut out = String::from("<section class=\"cards\">");
    if let Some(stream) = &figures.stream {
        out += &card(&format!("{:.2}", stream.fps), "frames/s", "stream");
        out += &card(&format!("{:.1}", stream.latency_ms.p50), "ms", "latency, median");
        out += &card(&format!("{:.1}", stream.jitter_ms), "ms", "jitter, p95 − p50");
    }
    if let Some(gpu) = &figures.frame_gpu_ms {
        out += &card(&format!("{:.2}", gpu.p50), "ms", "device time, median");
    }
    if let Some(work) = &figures.work {
        out += &card(&format!("{:.1}", work.gflop_per_s), "GFLOP/s", "reached");
    }
    out += &card(&format!("{:.1}", figures.cold_start.total_ms / 1e3), "s", "to the first picture");
    if let Some(saved) = figures.filter.and_then(|f| f.saved_gpu_share) {
        out += &card(&format!("{:.0}", 100.0 * saved), "%", "device time saved by the filter");
    }
    out + "</section>"
}

fn graph(figures: &Figures) -> String {
    let series = &figures.series;
    let lines = [
        Line { class: "latency", values: &series.latency_ms },
        Line { class: "interval", values: &series.interval_ms },
        Line { class: "gpu", values: &series.gpu_ms },
    ];
    format!(
        "<section><h2>Frame by frame</h2><p class=\"legend\"><i class=\"gpu\"></i>device time, one at a time\
         <i class=\"interval\"></i>between pictures, stream<i class=\"latency\"></i>latency, stream — \
         milliseconds</p>{}</section>",
        svg::lines(&lines)
    )
}

fn spread_row(name: &str, spread: Option<Spread>) -> String {
    let Some(Spread { count, mean, p50, p95, p99, max, .. }) = spread else { return String::new() };
    let cells: String = [p50, p95, p99, max, mean].map(|v| format!("<td>{v:.2}</td>")).concat();
    format!("<tr><th>{name}</th>{cells}<td>{count}</td></tr>")
}

fn percentiles(figures: &Figures) -> String {
    let (single, stream) = (figures.single.as_ref(), figures.stream.as_ref());
    let rows = [
        ("frame on the device", figures.frame_gpu_ms),
        ("frame alone, by the clock", single.map(|s| s.job_ms)),
        ("latency, stream", stream.map(|s| s.latency_ms)),
        ("between pictures, stream", stream.map(|s| s.interval_ms)),
        ("CPU per frame, stream", stream.map(|s| s.cpu_ms)),
        ("CPU of encoding and submitting, stream", stream.and_then(|s| s.encode_ms)),
        ("submission, stream", stream.map(|s| s.submit_ms)),
        ("push", single.map(|s| s.push_ms)),
        ("upload and submit", single.map(|s| s.submit_ms)),
        ("read-back", single.map(|s| s.read_back_ms)),
    ];
    let rows: String = rows.into_iter().map(|(name, spread)| spread_row(name, spread)).collect();
    format!(
        "<section><h2>Percentiles</h2><table><thead><tr><th>milliseconds</th><th>p50</th><th>p95</th><th>p99</th>\
         <th>max</th><th>mean</th><th>frames</th></tr></thead><tbody>{rows}</tbody></table></section>"
    )
}

fn bar(share: f64, class: &str) -> String {
    let width = 100.0 * share.clamp(0.0, 1.0);
    format!("<div class=\"bar\"><div class=\"{class}\" style=\"width:{width:.2}%\"></div></div>")
}

fn table(title: &str, rows: &[Row], is_coloured: bool) -> String {
    let mut out = format!(
        "<table><thead><tr><th>{title}</th><th class=\"wide\"></th><th>share</th><th>p50 ms</th><th>p95</th>\
         <th>p99</th><th>max</th><th>calls</th><th>GFLOP</th><th>GFLOP/s</th><th>GB/s</th></tr></thead><tbody>"
    );
    for (ix, row) in rows.iter().enumerate() {
        let Spread { p50, p95, p99, max, .. } = row.gpu_ms;
        let class = if is_coloured { format!("c{}", ix % 12) } else { "plain".into() };
        let _ = write!(
            out,
            "<tr><th>{}</th><td class=\"wide\">{}</td><td>{:.1} %</td><td>{p50:.3}</td><td>{p95:.3}</td>\
             <td>{p99:.3}</td><td>{max:.3}</td><td>{:.0}</td><td>{:.3}</td><td>{:.1}</td><td>{:.1}</td></tr>",
            escape(&row.name),
            bar(row.share, &class),
            100.0 * row.share,
            row.calls,
            row.gflop,
            row.gflop_per_s,
            row.gbytes_per_s
        );
    }
    out + "</tbody></table>"
}

fn parts(figures: &Figures) -> String {
    let consistency = figures.consistency.map_or(String::new(), |c| {
        format!(
            "<p>The parts' medians add up to {:.3} ms, {:.4} of the whole frame's {:.3} ms, and {:.4} of the \
             {:.3} ms of frames without timestamps between dispatches. The copy of the read-back has no \
             timestamps.</p>",
            c.parts_ms, c.parts_over_whole, c.whole_ms, c.parts_over_plain, c.plain_ms
        )
    });
    format!(
        "<section><h2>Parts of a frame</h2>{}{}{consistency}</section>",
        svg::stacked(&figures.stages),
        table("part", &figures.stages, true)
    )
}

fn kernels(figures: &Figures) -> String {
    let longest = &figures.dispatches[..figures.dispatches.len().min(MOST_DISPATCHES)];
    format!(
        "<section><h2>Kernels</h2>{}</section><section><details><summary>The {} longest of {} dispatches</summary>\
         {}</details></section>",
        table("kernel", &figures.kernels, false),
        longest.len(),
        figures.dispatches.len(),
        table("dispatch", longest, false)
    )
}

fn ceilings(figures: &Figures) -> String {
    let Some(work) = &figures.work else { return String::new() };
    let dispatches = work.dispatches.map_or(String::new(), |n| format!("{n:.0} dispatches, "));
    let mut out = format!(
        "<section><h2>Against the adapter's ceilings</h2><p>A frame is {dispatches}{:.2} GFLOP and {:.3} GB of \
         traffic at least.</p>",
        work.gflop, work.gbytes
    );
    let Some(c) = &figures.ceilings else { return out + "<p>Ceilings were not measured.</p></section>" };
    let rows = [
        ("multiply-adds", "GFLOP/s", work.gflop_per_s, c.gflop_per_s, c.flop_share),
        ("memory", "GB/s", work.gbytes_per_s, c.gbytes_per_s, c.byte_share),
    ];
    out += "<table><thead><tr><th></th><th class=\"wide\"></th><th>share</th><th>reached</th><th>ceiling</th><th></th>\
            </tr></thead><tbody>";
    for (name, unit, reached, ceiling, share) in rows {
        let _ = write!(
            out,
            "<tr><th>{name}</th><td class=\"wide\">{}</td><td>{:.1} %</td><td>{reached:.1}</td><td>{ceiling:.1}</td>\
             <td>{unit}</td></tr>",
            bar(share, "plain"),
            100.0 * share
        );
    }
    out + "</tbody></table></section>"
}

fn cold_start(figures: &Figures) -> String {
    let ColdStart { read_ms, open_ms, load_ms, compile_ms, prompt_ms, first_frame_ms, total_ms, .. } =
        figures.cold_start;
    let reading = ["beside it: read the files from memory", "beside it: read the files from the disk"];
    let steps = [
        (reading[usize::from(figures.cold_start.has_cold_files)], read_ms),
        ("open the device", open_ms),
        ("load", load_ms),
        ("compile", compile_ms),
        ("first prompt", prompt_ms),
        ("first frame", first_frame_ms),
    ];
    let rows: String = steps
        .iter()
        .enumerate()
        .map(|(ix, (name, took))| {
            let share = if total_ms > 0.0 { took / total_ms } else { 0.0 };
            let bar = bar(share, &format!("c{ix}"));
            format!("<tr><th>{name}</th><td class=\"wide\">{bar}</td><td>{took:.1}</td></tr>")
        })
        .collect();
    let ColdStart {
        beyond_reading_ms, weights_ms, kernels_ms, is_warm, tuned_classes, text_encoder_ms, ..
    } = figures.cold_start;
    let kernels = format!(
        "of it kernels, {}, {tuned_classes} classes tuned",
        if is_warm { "some from earlier runs" } else { "none from earlier runs" }
    );
    let sums = [
        ("together", total_ms),
        ("beyond reading the files", beyond_reading_ms),
        ("of it weights", weights_ms),
        (&kernels, kernels_ms),
        ("later, the text encoder, where the prompt was kept", text_encoder_ms),
    ];
    let sums =
        sums.map(|(name, took)| format!("<tr><th>{name}</th><td></td><td>{took:.1}</td></tr>")).concat();
    format!(
        "<section><h2>Cold start</h2><table><thead><tr><th>step</th><th class=\"wide\"></th><th>ms</th></tr></thead>\
         <tbody>{rows}{sums}</tbody></table></section>"
    )
}

fn details(figures: &Figures) -> String {
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let mut rows = vec![
        ("device memory".to_string(), mib(figures.memory.device_bytes)),
        ("peak resident".into(), figures.memory.peak_resident_bytes.map_or("unknown".into(), mib)),
        ("frames, warm-up".into(), format!("{}, {}", figures.setup.frames, figures.setup.warmup)),
    ];
    if let Some(f) = &figures.filter {
        let text = format!("{} of {} frames skipped", f.skipped, f.skipped + f.processed);
        rows.push(("similarity filter".into(), text));
    }
    rows.extend(figures.setup.parameters.iter().map(|(name, value)| (name.clone(), value.to_string())));
    let rows: String = rows
        .iter()
        .map(|(name, value)| {
            format!("<tr><th>{}</th><td class=\"text\">{}</td></tr>", escape(name), escape(value))
        })
        .collect();
    format!("<section><h2>Memory and parameters</h2><table><tbody>{rows}</tbody></table></section>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_html_passes() {
        assert_eq!(escape("<b a=\"'\">&"), "&lt;b a=&quot;&#39;&quot;&gt;&amp;");
    }
}
