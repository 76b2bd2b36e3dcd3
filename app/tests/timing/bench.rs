//! `dreamglass bench`: figures that are complete and plausible, and verdicts of comparisons.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use crate::program::{WHOLE, dreamglass, failed, model, stderr};

/// `dreamglass bench` of a small model, writing into `folder` what `more` asks for.
fn bench(model: &Path, folder: &Path, more: &[&str]) -> Output {
    let mut command = dreamglass();
    command.current_dir(folder).args(["bench", "--model"]).arg(model);
    command.args(["--prompt", "a pencil sketch", "--size", "64x48", "--steps", "1", "--warmup", "2"]);
    command.args(more).output().unwrap()
}

fn read(path: PathBuf) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn number(json: &Value, pointer: &str) -> f64 {
    let value = json.pointer(pointer).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("{pointer} is no number in {json:#}"))
}

/// Whether every percentile is positive and in order.
fn check_spread(spread: &Value, name: &str) {
    let [p50, p95, p99, max] = ["/p50", "/p95", "/p99", "/max"].map(|p| number(spread, p));
    assert!(p50 >= 0.0 && p50 <= p95 && p95 <= p99 && p99 <= max && max < 1e6, "{name}: {spread}");
    assert!(number(spread, "/count") >= 1.0, "{name}: {spread}");
}

fn check_rows(rows: &Value, name: &str) {
    let rows = rows.as_array().unwrap();
    let mut share = 0.0;
    for row in rows {
        assert!(row["name"].as_str().is_some_and(|n| !n.is_empty()), "{row}");
        check_spread(&row["gpu_ms"], name);
        share += number(row, "/share");
        for key in ["/calls", "/gflop_per_s", "/gbytes_per_s"] {
            assert!(number(row, key) >= 0.0, "{name}: {row}");
        }
    }
    assert!((share - 1.0).abs() < 1e-9, "{name}: shares add up to {share}");
}

#[test]
fn figures_are_complete() {
    let _alone = crate::alone();
    let (model, folder) = (model(WHOLE), TempDir::new().unwrap());
    let files = ["--json", "a.json", "--report", "a.html", "--trace", "a.trace.json"];
    let output = bench(model.path(), folder.path(), &[&files[..], &["--frames", "12"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    for word in ["frames/s", "p95", "unet down_blocks.0", "cold start", "GFLOP/s", "peak resident", "parts"] {
        assert!(text.contains(word), "`{word}` is not in {text}");
    }
    let json = read(folder.path().join("a.json"));
    assert_eq!((&json["schema"], &json["is_complete"]), (&2.into(), &true.into()));
    assert_eq!((&json["setup"]["size"], &json["setup"]["steps"]), (&vec![64, 48].into(), &1.into()));
    let spreads =
        ["frame_gpu_ms", "single/job_ms", "single/push_ms", "single/submit_ms", "single/read_back_ms"];
    let of_stream =
        ["stream/latency_ms", "stream/interval_ms", "stream/cpu_ms", "stream/encode_ms", "stream/submit_ms"];
    for name in spreads.iter().chain(&of_stream) {
        check_spread(json.pointer(&format!("/{name}")).unwrap(), name);
    }
    for name in ["stages", "kernels", "dispatches"] {
        check_rows(&json[name], name);
    }
    check_rates(&json);
    check_cold_start(&json["cold_start"]);
    check_trace(&read(folder.path().join("a.trace.json")));
    check_page(&fs::read_to_string(folder.path().join("a.html")).unwrap());
}

fn check_rates(json: &Value) {
    let interval = number(json, "/stream/interval_ms/mean");
    assert!((number(json, "/stream/fps") * interval / 1e3 - 1.0).abs() < 0.01, "{json:#}");
    assert!(number(json, "/work/dispatches") > 50.0);
    for key in ["gflop", "gbytes", "gflop_per_s", "gbytes_per_s"] {
        assert!(number(json, &format!("/work/{key}")) > 0.0, "{key}");
    }
    for key in ["flop_share", "byte_share"] {
        let share = number(json, &format!("/ceilings/{key}"));
        assert!(share > 0.0 && share < 1.0, "{key} is {share}");
    }
    assert!(number(json, "/memory/device_bytes") > 1e5);
    if cfg!(target_os = "linux") {
        assert!(number(json, "/memory/peak_resident_bytes") > 1e7);
    }
    let names: Vec<&str> =
        json["stages"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    for name in ["resize", "encode", "scheduler", "unet conv_in", "unet mid_block", "decode", "show"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    assert_eq!(json["series"]["interval_ms"].as_array().unwrap().len(), 12);
}

/// The files of weights are read from the disk, and a prompt that an earlier run encoded needs no text encoder.
#[test]
#[cfg(target_os = "linux")]
fn a_start_from_the_disk_with_a_kept_prompt() {
    let _alone = crate::alone();
    let (model, folder, cache) = (model(WHOLE), TempDir::new().unwrap(), TempDir::new().unwrap());
    let start = |more: &[&str]| {
        let mut command = dreamglass();
        command.current_dir(folder.path()).env("DREAMGLASS_KERNEL_CACHE", cache.path());
        command.args(["bench", "--no-ceilings", "--frames", "4", "--size", "64x48", "--json", "a.json"]);
        command.args(["--prompt", "a pencil sketch", "--model"]).arg(model.path()).args(more);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let json = read(folder.path().join("a.json"));
        (String::from_utf8(output.stdout).unwrap(), json["cold_start"].clone())
    };
    let (text, first) = start(&[]);
    assert!(text.contains("reading alone, from memory: "), "{text}");
    assert!(!text.contains("kept from an earlier run"), "{text}");
    assert_eq!((&first["has_cold_files"], number(&first, "/text_encoder_ms")), (&Value::Bool(false), 0.0));

    let (text, second) = start(&["--cold-files"]);
    assert!(text.contains("reading alone, from the disk: "), "{text}");
    assert!(text.contains("the prompt was kept from an earlier run"), "{text}");
    assert_eq!(second["has_cold_files"], true);
    assert!(number(&second, "/text_encoder_ms") > 0.0, "{second}");
    let [total, read, beyond] =
        ["/total_ms", "/read_ms", "/beyond_reading_ms"].map(|name| number(&second, name));
    assert!(read > 0.0 && (total - read - beyond).abs() < 1e-6, "{second}");
}

fn check_cold_start(cold: &Value) {
    let parts = ["open", "load", "compile", "tune", "prompt", "first_frame"];
    let sum: f64 = parts.iter().map(|p| number(cold, &format!("/{p}_ms"))).sum();
    assert!((sum - number(cold, "/total_ms")).abs() < 1e-6 && sum > 1.0, "{cold}");
    assert_eq!(number(cold, "/tune_ms"), 0.0);
    let [read, bytes] = ["/read_ms", "/read_bytes"].map(|name| number(cold, name));
    assert!(read > 0.0 && bytes > 100_000.0, "{cold}");
    assert!((read + number(cold, "/beyond_reading_ms") - number(cold, "/total_ms")).abs() < 1e-6, "{cold}");
    let around: f64 = ["/load_ms", "/compile_ms", "/prompt_ms"].iter().map(|name| number(cold, name)).sum();
    for part in ["/weights_ms", "/kernels_ms"] {
        let part = number(cold, part);
        assert!(part > 1.0 && part <= around, "{cold}");
    }
    assert_eq!((&cold["is_warm"], number(cold, "/tuned_classes")), (&Value::Bool(false), 0.0));
}

fn check_trace(trace: &Value) {
    let events = trace["traceEvents"].as_array().unwrap();
    let spans: Vec<&Value> = events.iter().filter(|e| e["ph"] == "X").collect();
    assert!(spans.iter().all(|s| number(s, "/dur") >= 0.0 && number(s, "/ts") > 0.0));
    let tracks: Vec<&str> = events.iter().filter_map(|e| e.pointer("/args/name")?.as_str()).collect();
    for name in ["push and drive", "unet mid_block", "GPU by kernel", "picture_out"] {
        assert!(tracks.contains(&name), "{name} is not in {tracks:?}");
    }
    // Nothing runs before it was submitted.
    let submitted =
        spans.iter().find(|s| s["name"] == "upload and submit").map(|s| number(s, "/ts")).unwrap();
    assert!(spans.iter().filter(|s| s["pid"] != 1).all(|s| number(s, "/ts") >= submitted));
}

fn check_page(page: &str) {
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    assert!(page.matches("<polyline").count() == 3 && page.matches("<table").count() >= 5);
    for word in ["Percentiles", "Kernels", "Cold start", "beyond reading", "unet mid_block", "ceiling"] {
        assert!(page.contains(word), "{word}");
    }
    for outside in ["http:", "https:", "src=", "href=", "url(", "@import", "NaN"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn parts_make_up_the_whole() {
    let _alone = crate::alone();
    let (model, folder) = (model(WHOLE), TempDir::new().unwrap());
    let ratio = || {
        let arguments = ["--json", "a.json", "--frames", "40", "--no-ceilings"];
        let output = bench(model.path(), folder.path(), &arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        number(&read(folder.path().join("a.json")), "/consistency/parts_over_whole")
    };
    // The machine may have other work, and a sum of medians is no median of sums: one run has to be calm.
    let is_calm = |ratios: &[f64]| ratios.iter().any(|r| (r - 1.0).abs() <= 0.05);
    let mut ratios = Vec::new();
    while !is_calm(&ratios) && ratios.len() < 8 {
        ratios.push(ratio());
    }
    assert!(is_calm(&ratios), "{ratios:?}");
}

#[test]
fn comparisons_end_with_a_verdict() {
    let _alone = crate::alone();
    let (model, folder) = (model(WHOLE), TempDir::new().unwrap());
    let path = folder.path().join("a.json");
    let run = |more: &[&str]| bench(model.path(), folder.path(), &[&["--frames", "4"], more].concat());
    assert!(run(&["--json", "a.json", "--no-ceilings"]).status.success());

    // No run is a thousand times slower than the last one.
    let output = run(&["--compare", "a.json", "--threshold", "1000", "--no-ceilings"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("within the threshold") && text.contains("frame p50"), "{text}");

    let mut faster = read(path.clone());
    let p50 = number(&faster, "/frame_gpu_ms/p50") / 1e3;
    faster["frame_gpu_ms"]["p50"] = p50.into();
    faster["setup"]["size"] = vec![64, 64].into();
    fs::write(folder.path().join("faster.json"), faster.to_string()).unwrap();
    let output = run(&["--compare", "faster.json", "--no-ceilings"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("PAST the threshold"));
    assert!(stderr(&output).contains("differ in size: 64x64 before, 64x48 now"), "{}", stderr(&output));

    faster["schema"] = 99.into();
    fs::write(folder.path().join("newer.json"), faster.to_string()).unwrap();
    fs::write(folder.path().join("broken.json"), "{\"schema\": 2}").unwrap();
    fs::write(folder.path().join("text.json"), "no JSON").unwrap();
    for (file, word) in [
        ("newer.json", "schema 99"),
        ("broken.json", "missing field"),
        ("text.json", "not JSON"),
        ("absent.json", "cannot be read"),
    ] {
        failed(&run(&["--compare", file]), 2, &[file, word]);
    }
}

#[test]
fn the_filter_saves_a_still_stream() {
    let _alone = crate::alone();
    let folder = TempDir::new().unwrap();
    let mut command = dreamglass();
    command.current_dir(folder.path()).args(["bench", "--size", "192x192", "--source", "still"]);
    command.args([
        "--similarity-filter",
        "--frames",
        "22",
        "--warmup",
        "1",
        "--json",
        "a.json",
        "--no-ceilings",
    ]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("similarity filter:"));
    let filter = &read(folder.path().join("a.json"))["filter"];
    assert!(number(filter, "/skipped_share") >= 0.8, "{filter}");
    assert!(number(filter, "/saved_gpu_share") >= 0.8, "{filter}");
}

#[test]
fn a_batch_of_steps_is_measured() {
    let _alone = crate::alone();
    let (model, folder) = (model("img2img_lcm_4"), TempDir::new().unwrap());
    let batch =
        ["--steps", "4", "--batching", "throughput", "--frames", "24", "--json", "a.json", "--no-ceilings"];
    let mut command = dreamglass();
    command.current_dir(folder.path()).args(["bench", "--size", "64x48", "--model"]);
    let output = command.arg(model.path()).args(batch).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let json = read(folder.path().join("a.json"));
    // Neither the user nor the model says a prompt: any does.
    assert_eq!(json["setup"]["parameters"]["prompt"], "an oil painting");
    // A picture comes out with every job, four jobs after its frame went in. Means, as the latency is a sum of
    // intervals: on a machine where some take twice as long, medians of the two do not belong together.
    let ratio = number(&json, "/stream/latency_ms/mean") / number(&json, "/stream/interval_ms/mean");
    assert!(ratio > 3.0, "{ratio}");
}

#[test]
fn bad_arguments() {
    let _alone = crate::alone();
    let (model, folder) = (model(WHOLE), TempDir::new().unwrap());
    let run = |more: &[&str]| bench(model.path(), folder.path(), more);
    failed(&run(&["--source", "absent.png"]), 2, &["absent.png"]);
    failed(&run(&["--frames", "1"]), 2, &["--frames"]);
    failed(&run(&["--json", "absent/a.json"]), 2, &["absent/a.json"]);
    failed(&run(&["--threshold", "2"]), 2, &["--compare"]);
    failed(&run(&["--compare", "a.json", "--threshold", "nan"]), 2, &["--threshold"]);
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none(), "files are left");
}

#[test]
#[cfg(unix)]
fn ctrl_c_keeps_the_figures_so_far() {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    let _alone = crate::alone();
    let (model, folder) = (model(WHOLE), TempDir::new().unwrap());
    let mut command = dreamglass();
    command.current_dir(folder.path()).args(["bench", "--prompt", "ink", "--size", "64x48", "--model"]);
    command.arg(model.path()).args(["--frames", "100000", "--json", "a.json", "--no-ceilings"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(6));
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let json = read(folder.path().join("a.json"));
    assert_eq!(json["is_complete"], false);
    check_spread(&json["single"]["job_ms"], "job");
    assert!(String::from_utf8_lossy(&output.stdout).contains("Ended early"));
}
