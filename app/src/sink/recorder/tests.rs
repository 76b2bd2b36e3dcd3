#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::process::Command;

use tempfile::TempDir;

use super::*;

fn picture(width: u32, height: u32, value: u8) -> Picture {
    Picture::new(Size::new(width, height), vec![value; (width * height * 4) as usize]).unwrap()
}

/// Noise, which no encoder makes small.
fn noise(seed: u32) -> Picture {
    let byte = |ix: u32| (ix.wrapping_add(seed << 16).wrapping_mul(0x9e37_79b1) >> 13) as u8;
    Picture::new(Size::new(256, 256), (0..256 * 256 * 4).map(byte).collect()).unwrap()
}

/// `width,height,rate,frames` as ffprobe counts them.
fn probe(path: &Path) -> String {
    let args = ["-v", "error", "-count_frames", "-select_streams", "v", "-of", "csv=p=0"];
    let entries = ["-show_entries", "stream=width,height,r_frame_rate,nb_read_frames"];
    let output = Command::new("ffprobe").args(args).args(entries).arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

/// The brightness of each frame's middle pixel.
fn brightness(path: &Path) -> Vec<u8> {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-i"]).arg(path).args(["-vf", "crop=2:2,format=gray"]);
    let output = command.args(["-f", "rawvideo", "pipe:1"]).output().unwrap();
    output.stdout.chunks_exact(4).map(|p| p[0]).collect()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn irregular_pictures_become_a_constant_rate() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("out.mp4");
    let mut sink = Box::new(Recorder::new(&path, 10).unwrap());
    let start = Instant::now();
    // Two within one frame, jitter, a gap of three frames, and a clock that goes back.
    let times = [(0, 10), (95, 40), (105, 80), (212, 120), (500, 160), (450, 200), (600, 240)];
    for (at, value) in times {
        sink.write(&picture(64, 48, value), start + ms(at)).unwrap();
    }
    let said = (sink as Box<dyn Sink>).finish().unwrap();
    assert!(said.ends_with("out.mp4: 7 frames of 64x48, 0.7 s"), "{said}");
    assert_eq!(probe(&path), "64,48,10/1,7");
    let near = |(is, was): (u8, u8)| is.abs_diff(was) < 6;
    let shown = brightness(&path);
    assert_eq!(shown.len(), 7);
    assert!(shown.iter().copied().zip([10, 80, 120, 120, 120, 200, 240]).all(near), "{shown:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "unfinished files are left");
}

#[test]
fn other_sizes_are_scaled_and_odd_ones_padded() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("out.mkv");
    let mut sink = Box::new(Recorder::new(&path, 30).unwrap());
    let start = Instant::now();
    for (n, (width, height)) in (0..).zip([(63, 41), (128, 16), (8, 640), (1, 1)]) {
        sink.write(&picture(width, height, 255), start + ms(n * 33)).unwrap();
    }
    (sink as Box<dyn Sink>).finish().unwrap();
    assert!(probe(&path).starts_with("64,42,30/1,4"), "{}", probe(&path));
}

#[test]
fn a_long_standstill_is_cut() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("out.mp4");
    let mut sink = Box::new(Recorder::new(&path, 10).unwrap());
    let start = Instant::now();
    for at in [0, 3_600_000, 3_600_100] {
        sink.write(&picture(16, 16, 100), start + ms(at)).unwrap();
    }
    (sink as Box<dyn Sink>).finish().unwrap();
    assert_eq!(probe(&path), "16,16,10/1,52");
}

#[test]
fn nothing_recorded_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("out.mp4");
    fs::write(&path, "as it was").unwrap();
    let sink = Box::new(Recorder::new(&path, 30).unwrap());
    assert!((sink as Box<dyn Sink>).finish().unwrap().contains("no picture came"));
    assert_eq!(fs::read(&path).unwrap(), b"as it was");
    let error = Recorder::new(&folder.path().join("no/folder.mp4"), 30).err().unwrap().to_string();
    assert!(error.contains("there is no folder"), "{error}");
}

/// Writes until it fails.
fn failure(sink: &mut Recorder) -> Stopped {
    let start = Instant::now();
    for n in 0..5000 {
        if let Err(error) = sink.write(&noise(n), start + ms(u64::from(n) * 34)) {
            return error.downcast().unwrap();
        }
    }
    panic!("it never failed");
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_stops_it() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("full.mkv");
    let unfinished = folder.path().join(format!(".unfinished-{}-full.mkv", std::process::id()));
    std::os::unix::fs::symlink("/dev/full", unfinished).unwrap();
    let mut sink = Recorder::new(&path, 30).unwrap();
    let stopped = failure(&mut sink);
    assert!(stopped.to_string().contains("full.mkv: recording stopped"), "{stopped}");
    assert!(stopped.reason.contains("No space left on device"), "{stopped}");
    assert_eq!(stopped.kept, None);
    let again = sink.write(&noise(0), Instant::now()).unwrap_err();
    assert_eq!(again.downcast_ref(), Some(&stopped));
    assert!((Box::new(sink) as Box<dyn Sink>).finish().unwrap_err().is::<Stopped>());
}

#[test]
fn what_was_recorded_before_a_failure_plays() {
    for name in ["out.mp4", "out.mkv"] {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, "an earlier one").unwrap();
        let mut sink = Recorder::new(&path, 30).unwrap();
        let start = Instant::now();
        for n in 0..240 {
            sink.write(&noise(n), start + ms(u64::from(n) * 34)).unwrap();
        }
        let State::Running(running) = &mut sink.state else { panic!("it has stopped") };
        // What the encoder has not yet read is lost with it.
        std::thread::sleep(ms(1500));
        running.writer.child().kill().unwrap();
        let stopped = failure(&mut sink);
        let kept = stopped.kept.clone().unwrap();
        assert!(kept.to_string_lossy().contains("out-incomplete."), "{stopped}");
        let frames: u32 = probe(&kept).trim_end_matches(',').rsplit(',').next().unwrap().parse().unwrap();
        assert!(frames >= 60, "{frames} frames of {name}");
        assert_eq!(fs::read(&path).unwrap(), b"an earlier one");
    }
}
