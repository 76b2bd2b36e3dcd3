//! Running the program, and models for it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tempfile::TempDir;

use crate::weights;

/// A photograph, 256x256.
pub const PHOTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/signing.jpg");
/// A real clip, 256x256, 15 frames per second.
pub const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/signing.mp4");

/// A held-out photo, its targets and diffusers' results, for the embedded model.
pub const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/demo");

/// A seeded model with everything that pictures need.
pub const WHOLE: &str = "img2img_lcm_1";

pub fn dreamglass() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dreamglass"));
    // What the user keeps of kernels is not the tests' to use.
    command.env("RUST_LOG", "error").env("DREAMGLASS_KERNEL_CACHE", "off");
    command
}

pub fn run<A: AsRef<OsStr>>(arguments: &[A]) -> Output {
    dreamglass().args(arguments).output().unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs to success and returns standard output.
pub fn succeed<A: AsRef<OsStr>>(arguments: &[A]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{:?}: {}", output.status, stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Checks that a command failed with `code` and a message that holds every one of `words`.
#[track_caller]
pub fn failed(output: &Output, code: i32, words: &[&str]) {
    let message = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{message}");
    assert!(message.contains("error:"), "{message}");
    assert!(!message.contains("panicked"), "{message}");
    for word in words {
        assert!(message.contains(word), "`{word}` is not in: {message}");
    }
}

/// `dreamglass image PHOTO` with the model in `folder` and more arguments; the output is not kept.
pub fn image(folder: &Path, more: &[&str]) -> Output {
    image_of(Path::new(PHOTO), folder, more)
}

/// The same on another picture.
pub fn image_of(picture: &Path, folder: &Path, more: &[&str]) -> Output {
    let out = TempDir::new().unwrap();
    let mut command = dreamglass();
    command.arg("image").arg(picture).arg("-o").arg(out.path().join("out.png"));
    command.arg("--model").arg(folder);
    if !more.contains(&"--prompt") {
        command.args(["--prompt", "a pencil sketch"]);
    }
    if !more.contains(&"--size") {
        command.args(["--size", "64x48"]);
    }
    let output = command.args(more).output().unwrap();
    let left = fs::read_dir(out.path()).unwrap().count();
    assert_eq!(left, usize::from(output.status.success()), "files left: {}", stderr(&output));
    output
}

/// Whether ffmpeg and ffprobe are there; `make test` installs them.
pub fn has_ffmpeg() -> bool {
    let there = ["ffmpeg", "ffprobe"].iter().all(|p| Command::new(p).arg("-version").output().is_ok());
    if !there {
        eprintln!("skipped: there is no ffmpeg");
    }
    there
}

pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens").join(name)
}

/// The model of a golden with its seeded weights.
pub fn model(name: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    copy(&golden(name), folder.path());
    let list = fs::read(golden(name).join("weights.json")).unwrap();
    let list: Vec<serde_json::Value> = serde_json::from_slice(&list).unwrap();
    let mut files = BTreeMap::<String, Vec<Weight>>::new();
    for row in &list {
        let name = row["name"].as_str().unwrap();
        let shape: Vec<usize> =
            row["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize).collect();
        let values = weights::tensor(name, &shape);
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let weight = Weight { name: name.into(), shape, bytes };
        files.entry(row["file"].as_str().unwrap().into()).or_default().push(weight);
    }
    for (file, rows) in &files {
        save(&folder.path().join(file), rows);
    }
    folder
}

/// One f32 tensor of a safetensors file.
pub struct Weight {
    pub name: String,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

pub fn save(path: &Path, weights: &[Weight]) {
    let views =
        weights.iter().map(|w| (&w.name, TensorView::new(Dtype::F32, w.shape.clone(), &w.bytes).unwrap()));
    safetensors::serialize_to_file(views, None, path).unwrap();
}

/// Reads a file of f32 tensors.
pub fn load(path: &Path) -> Vec<Weight> {
    let bytes = fs::read(path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let weight = |(name, view): (String, TensorView<'_>)| Weight {
        name,
        shape: view.shape().to_vec(),
        bytes: view.data().to_vec(),
    };
    tensors.tensors().into_iter().map(weight).collect()
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
