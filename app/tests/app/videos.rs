//! Video files through the system's ffmpeg.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::program::{CLIP, WHOLE, dreamglass, failed, has_ffmpeg, model, run, stderr};

fn video(input: &Path, out: &Path, model: &Path, more: &[&str]) -> Command {
    let mut command = dreamglass();
    command.arg("video").arg(input).arg("-o").arg(out).arg("--model").arg(model);
    command.args(["--prompt", "a pencil sketch", "--size", "64x48"]).args(more);
    command
}

/// What ffprobe counts: `width,height,rate,frames` of the pictures and whether there is sound.
fn probe(path: &Path) -> (String, bool) {
    let ask = |stream: &str, entries: &str| {
        let mut command = Command::new("ffprobe");
        command.args(["-v", "error", "-count_frames", "-select_streams", stream, "-of", "csv=p=0"]);
        let output = command.args(["-show_entries", entries]).arg(path).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    };
    let pictures = ask("v", "stream=width,height,r_frame_rate,nb_read_frames");
    (pictures, !ask("a", "stream=codec_name").is_empty())
}

/// A made video with sound, as long as asked.
fn made(folder: &TempDir, seconds: u32) -> std::path::PathBuf {
    let path = folder.path().join("made.mp4");
    let duration = format!("duration={seconds}");
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", &format!("testsrc=size=96x64:rate=10:{duration}")])
        .args(["-f", "lavfi", "-i", &format!("sine=frequency=440:{duration}"), "-pix_fmt", "yuv420p"])
        .arg(&path)
        .status();
    assert!(status.unwrap().success());
    path
}

fn done(output: &Output) {
    assert!(output.status.success(), "{}", stderr(output));
}

#[test]
fn a_clip_keeps_its_rate_and_sound() {
    if !has_ffmpeg() {
        return;
    }
    let (model, out) = (model(WHOLE), TempDir::new().unwrap());
    let path = out.path().join("out.mp4");
    done(&video(Path::new(CLIP), &path, model.path(), &["--frames", "8"]).output().unwrap());
    assert_eq!(probe(&path), ("64,48,15/1,8".into(), false));

    let path = out.path().join("out.mkv");
    done(&video(&made(&out, 1), &path, model.path(), &[]).output().unwrap());
    let (pictures, has_sound) = probe(&path);
    assert!(pictures.starts_with("64,48,10/1,10"), "{pictures}");
    assert!(has_sound);
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 3, "unfinished files are left");
}

#[test]
fn the_embedded_model_stylises_a_real_clip() {
    if !has_ffmpeg() || !run(&["looks"]).status.success() {
        return;
    }
    let out = TempDir::new().unwrap();
    let path = out.path().join("out.mp4");
    let mut command = dreamglass();
    done(&command.args(["video", CLIP, "--frames", "8", "-o"]).arg(&path).output().unwrap());
    let (pictures, _) = probe(&path);
    assert!(pictures.ends_with("15/1,8"), "{pictures}");
}

#[test]
#[cfg(unix)]
fn ctrl_c_leaves_a_playable_file() {
    use std::thread::sleep;
    use std::time::Duration;

    if !has_ffmpeg() {
        return;
    }
    let (model, out) = (model(WHOLE), TempDir::new().unwrap());
    // Far longer than the test waits.
    let source = made(&out, 600);
    let path = out.path().join("out.mkv");
    let mut child = video(&source, &path, model.path(), &[]).spawn().unwrap();
    let is_writing = || fs::read_dir(out.path()).unwrap().count() > 1;
    for _ in 0..600 {
        if is_writing() || child.try_wait().unwrap().is_some() {
            break;
        }
        sleep(Duration::from_millis(100));
    }
    sleep(Duration::from_millis(500));
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let (pictures, _) = probe(&path);
    let frames: u32 = pictures.rsplit(',').find_map(|n| n.trim().parse().ok()).unwrap();
    assert!((1..6000).contains(&frames), "{pictures}");
}

#[test]
fn videos_that_are_none() {
    if !has_ffmpeg() {
        return;
    }
    let (model, files) = (model(WHOLE), TempDir::new().unwrap());
    let path = |name: &str| files.path().join(name);
    fs::write(path("text.mp4"), "not a video").unwrap();
    fs::write(path("kept.mp4"), "as it was").unwrap();
    let case = |input: &str, out: &str, words: &[&str]| {
        let output = video(&path(input), &path(out), model.path(), &[]).output().unwrap();
        failed(&output, 2, words);
    };
    case("text.mp4", "kept.mp4", &["text.mp4", "not a video"]);
    case("gone.mp4", "kept.mp4", &["gone.mp4"]);
    case("text.mp4", "out.avi", &["out.avi", "mp4"]);
    assert_eq!(fs::read(path("kept.mp4")).unwrap(), b"as it was");
}

#[test]
fn no_ffmpeg() {
    let (model, out) = (model(WHOLE), TempDir::new().unwrap());
    let mut command = video(Path::new(CLIP), &out.path().join("out.mp4"), model.path(), &[]);
    failed(&command.env("PATH", "").output().unwrap(), 1, &["ffprobe is missing", "apt install ffmpeg"]);
}
