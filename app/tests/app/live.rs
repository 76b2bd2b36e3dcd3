//! `dreamglass live` without a window.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use tempfile::TempDir;

use crate::program::{dreamglass, failed, stderr};

fn live(folder: &Path, more: &[&str]) -> Output {
    let mut command = dreamglass();
    command.args(["live", "--no-window"]).args(more);
    if !more.contains(&"--size") {
        command.args(["--size", "64x64"]);
    }
    command.env("XDG_CONFIG_HOME", folder).current_dir(folder).output().unwrap()
}

#[test]
fn a_stream_is_written_to_pictures_and_a_video() {
    let folder = TempDir::new().unwrap();
    let outputs = ["--output", "frames/", "--output", "out.mp4", "--frames", "12"];
    fs::create_dir(folder.path().join("frames")).unwrap();
    let output = live(folder.path(), &[&["--source", "synthetic:128x128@30"], &outputs[..]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let pictures = fs::read_dir(folder.path().join("frames")).unwrap().count();
    assert!((10..=12).contains(&pictures), "{pictures}");
    let frame = image::open(folder.path().join("frames/000003.png")).unwrap();
    assert_eq!((frame.width(), frame.height()), (64, 64));
    assert!(folder.path().join("out.mp4").metadata().unwrap().len() > 1000);
    assert!(stderr(&output).contains("12 pictures"), "{}", stderr(&output));
}

#[test]
fn settings_come_from_preset_configuration_environment_and_options() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("mine.toml", "[parameters]\nstrength = 0.4\nseed = 4\nprompt = \"ink\"\n");
    write(
        "live.toml",
        "source = \"synthetic:64x64@30\"\noutput = [\"null\"]\npreset = \"mine.toml\"\n[parameters]\nseed = 5\n",
    );
    let run =
        |more: &[&str]| live(folder.path(), &[&["--config", "live.toml", "--frames", "3"], more].concat());
    assert!(run(&[]).status.success(), "{}", stderr(&run(&[])));
    // A wrong value is found in whichever layer it is, and named with it.
    write("mine.toml", "[parameters]\nstrength = 4\n");
    failed(&run(&[]), 2, &["mine.toml", "strength", "0..=1"]);
    write("mine.toml", "[parameters]\n");
    write("live.toml", "source = \"synthetic\"\n[parameters]\nbatching = \"fast\"\n");
    failed(&run(&["--output", "null"]), 2, &["configuration", "batching", "latency, throughput"]);
    write("live.toml", "colour = 3\n");
    failed(&run(&[]), 2, &["live.toml", "colour"]);
    let mut command = dreamglass();
    command.args(["live", "--no-window", "--output", "null"]).env("DREAMGLASS_STRENGTH", "7");
    failed(&command.output().unwrap(), 2, &["strength", "0..=1"]);
}

#[test]
fn what_cannot_be_opened_is_named_with_the_right_code() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("broken.mp4"), [0u8; 5000]).unwrap();
    let case = |more: &[&str], code: i32, words: &[&str]| {
        failed(&live(folder.path(), &[&["--output", "null"], more].concat()), code, words);
    };
    case(&["--source", "missing.mp4"], 2, &["missing.mp4", "no such file"]);
    case(&["--source", "broken.mp4"], 2, &["broken.mp4"]);
    case(&["--source", "camera:77"], 2, &["camera"]);
    case(&["--source", "synthetic", "--size", "100x96"], 2, &["100x96", "multiples of 8"]);
    case(&["--source", "synthetic", "--steps", "5"], 2, &["5 steps", "at most 4"]);
    case(&["--source", "synthetic", "--preset", "../evil"], 2, &["../evil"]);
    case(&["--source", "synthetic", "--preset", "none-such"], 2, &["none-such"]);
    failed(&live(folder.path(), &["--source", "synthetic"]), 2, &["--output"]);
    failed(&live(folder.path(), &["--source", "synthetic", "--output", "x.xyz"]), 2, &["x.xyz"]);
    failed(
        &live(folder.path(), &["--source", "synthetic", "--output", "/dev/video99"]),
        2,
        &["/dev/video99"],
    );
    failed(&live(folder.path(), &["--source", "synthetic", "--output", "no/such/out.mp4"]), 2, &["no/such"]);
}

#[test]
fn a_video_is_read_once_or_for_ever_and_ctrl_c_keeps_the_recording() {
    let folder = TempDir::new().unwrap();
    let clip = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/signing.mp4");
    let output = live(folder.path(), &["--source", clip, "--once", "--output", "null"]);
    assert!(output.status.success(), "{}", stderr(&output));

    let mut command = dreamglass();
    command.args(["live", "--no-window", "--size", "64x64", "--source", clip, "--output", "kept.mp4"]);
    let child = command.current_dir(folder.path()).stderr(Stdio::piped()).spawn().unwrap();
    sleep(Duration::from_secs(8));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let probe = Command::new("ffprobe").arg("-v").arg("error").arg(folder.path().join("kept.mp4")).output();
    assert!(probe.unwrap().status.success(), "{}", stderr(&output));
}
