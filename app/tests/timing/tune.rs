//! `dreamglass tune`: what it finds is kept, used, forgotten, and never believed blindly.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use crate::program::{WHOLE, dreamglass, failed, image, model, stderr};

/// `dreamglass tune` of a small model with kernels kept in `cache`.
fn tune(model: &Path, cache: &Path, more: &[&str]) -> Output {
    let mut command = dreamglass();
    command.env("DREAMGLASS_KERNEL_CACHE", cache).args(["tune", "--model"]).arg(model);
    command.args(["--prompt", "ink", "--size", "32x32", "--steps", "1", "--frames", "1"]);
    command.args(more).output().unwrap()
}

/// What is kept in `cache`: nothing, or one file.
fn kept(cache: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(cache).ok()?.map(|entry| entry.unwrap().path());
    let mut files = files.filter(|path| path.to_string_lossy().ends_with(".tuning.json"));
    let file = files.next();
    assert_eq!(files.next(), None, "one file for this device");
    file
}

/// The log of a picture made with what is in `cache`.
fn log(model: &Path, cache: &Path) -> String {
    let mut command = dreamglass();
    command.env("RUST_LOG", "info").env("DREAMGLASS_KERNEL_CACHE", cache).arg("image");
    command.arg(crate::program::PHOTO).arg("-o").arg(cache.join("out.png")).arg("--model").arg(model);
    let output = command.args(["--prompt", "ink", "--size", "32x32"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    stderr(&output)
}

#[test]
fn what_is_found_is_kept_and_used_until_it_is_forgotten() {
    let _alone = crate::alone();
    let (model, cache) = (model(WHOLE), TempDir::new().unwrap());
    // Whether frames this small are slower is chance; either is said, and done.
    let path = (0..4).find_map(|_| {
        let output = tune(model.path(), cache.path(), &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        for word in ["chosen", "classes have another kernel than by rule", "times as fast", "window f16"] {
            assert!(text.contains(word), "`{word}` is not in {text}");
        }
        let path = kept(cache.path());
        assert_eq!(
            [text.contains("kept in"), text.contains("nothing is kept")],
            [path.is_some(), path.is_none()]
        );
        path
    });
    let path = path.expect("frames slower by chance four times in a row");
    let file: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let classes = file["classes"].as_object().unwrap();
    assert!(classes.len() > 10, "{file:#}");
    for (class, found) in classes {
        let candidate = found["candidate"].as_str().unwrap();
        let timing = found["timings"][candidate].as_str().unwrap_or_default();
        assert!(timing.ends_with(" ms"), "{class} chose {candidate}, which took {timing:?}");
    }
    let used = format!("kernels of {} classes are tuned", classes.len());
    assert!(log(model.path(), cache.path()).contains(&used));

    // Names that there are not, and rubbish, change nothing.
    let mut other = file.clone();
    for found in other["classes"].as_object_mut().unwrap().values_mut() {
        found["candidate"] = "no such candidate".into();
    }
    fs::write(&path, other.to_string()).unwrap();
    assert!(log(model.path(), cache.path()).contains(&used));
    fs::write(&path, "{").unwrap();
    let said = log(model.path(), cache.path());
    assert!(said.contains("is no tuning") && said.contains("chosen by rule"), "{said}");

    let output = tune(model.path(), cache.path(), &["--forget"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("removed"), "{}", stderr(&output));
    assert_eq!(kept(cache.path()), None);
    let output = tune(model.path(), cache.path(), &["--forget"]);
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("nothing is kept"));
}

#[test]
fn a_dry_run_keeps_nothing_and_bad_arguments_are_named() {
    let _alone = crate::alone();
    let (model, cache) = (model(WHOLE), TempDir::new().unwrap());
    let output = tune(model.path(), cache.path(), &["--dry-run"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("nothing is kept"));
    assert_eq!(kept(cache.path()), None);
    failed(&tune(model.path(), cache.path(), &["--forget", "--dry-run"]), 2, &["--forget", "--dry-run"]);
    failed(&tune(model.path(), cache.path(), &["--strength", "7"]), 2, &["strength"]);
    failed(&tune(Path::new("absent"), cache.path(), &[]), 2, &["absent"]);
    assert!(image(model.path(), &[]).status.success());
}

#[test]
#[cfg(unix)]
fn ctrl_c_ends_it_with_what_it_found() {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    let _alone = crate::alone();
    let (model, cache) = (model(WHOLE), TempDir::new().unwrap());
    let mut command = dreamglass();
    command.env("DREAMGLASS_KERNEL_CACHE", cache.path()).args(["tune", "--model"]).arg(model.path());
    // Turns without end.
    command.args(["--prompt", "ink", "--size", "32x32", "--frames", "1000"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(6));
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("classes have another kernel than by rule"), "{text}");
}
