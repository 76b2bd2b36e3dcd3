//! The system's ffmpeg: finding it, asking about files, and what its children have to say.

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::failure::bad_input;

/// How much of a child's last words is kept, in bytes.
const MAX_MESSAGE_BYTES: usize = 4096;

/// How much of a child's answer is read, in bytes.
const MAX_ANSWER_BYTES: u64 = 1 << 20;

/// Frames per second of what does not say.
const DEFAULT_FPS: f64 = 30.0;

/// How often a child is asked whether it has ended.
const POLL: Duration = Duration::from_millis(10);

/// H.264 encoders that ffmpeg may be built with, the best first, and MPEG-4, which it always has.
const ENCODERS: [&str; 5] = ["libx264", "h264_videotoolbox", "h264_mf", "libopenh264", "mpeg4"];

/// What is known of a video file before it is decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// Pixels in a row and rows, as frames are shown: turned by the file's rotation.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Frames per second as ffmpeg's fraction, such as `30000/1001`.
    pub rate: String,
    /// Frames in all, where the file says.
    pub frames: Option<u64>,
    /// Whether there is sound to keep.
    pub has_audio: bool,
}

impl Probe {
    /// The rate as a number.
    pub fn fps(&self) -> f64 {
        frame_rate(&self.rate).unwrap_or(DEFAULT_FPS)
    }
}

/// A command for `ffmpeg` or `ffprobe`. It lives in a process group of its own, so that Ctrl-C in a
/// terminal does not end it before its last frame.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["-v", "error"]).stdin(Stdio::null());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
}

/// Starts a child.
pub fn start(command: &mut Command) -> Result<Child> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.spawn().map_err(|e| not_started(&program, &e))
}

fn not_started(program: &str, error: &std::io::Error) -> anyhow::Error {
    if error.kind() == ErrorKind::NotFound {
        return anyhow!(
            "{program} is missing: install ffmpeg (Debian/Ubuntu: apt install ffmpeg; Fedora: dnf install \
             ffmpeg-free; Arch: pacman -S ffmpeg; macOS: brew install ffmpeg; Windows: winget install ffmpeg)"
        );
    }
    anyhow!("cannot start {program}: {error}")
}

/// Reads a child's error messages while it runs, so that it never waits for a reader.
pub fn listen(child: &mut Child) -> Option<JoinHandle<String>> {
    let mut stderr = child.stderr.take()?;
    Some(thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut part = [0; 1024];
        while let Ok(n @ 1..) = stderr.read(&mut part) {
            let room = MAX_MESSAGE_BYTES - bytes.len();
            bytes.extend_from_slice(&part[..n.min(room)]);
        }
        String::from_utf8_lossy(&bytes).trim().to_string()
    }))
}

/// Something that ffmpeg reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Options that go before it.
    pub options: Vec<String>,
    /// What follows `-i`.
    pub url: OsString,
    /// What people call it; without passwords.
    pub shown: String,
}

impl Input {
    /// A file.
    pub fn file(path: &Path) -> Self {
        Self { options: Vec::new(), url: input_url(path), shown: path.display().to_string() }
    }
    /// A child's message about it, with the name that people know.
    fn said(&self, message: &str) -> String {
        message.trim().replace(&*self.url.to_string_lossy(), &self.shown)
    }
}

/// Asks ffprobe about a video file.
pub fn probe(path: &Path) -> Result<Probe> {
    if !path.is_file() {
        return Err(bad_input(format!("{}: there is no such file", path.display())));
    }
    probe_input(&Input::file(path), "not a video", || false)
}

/// Asks ffprobe about anything until it `is_enough`. `verdict` is what a refusal means.
pub fn probe_input(input: &Input, verdict: &str, is_enough: impl Fn() -> bool) -> Result<Probe> {
    let entries = "stream=codec_type,width,height,avg_frame_rate,r_frame_rate,nb_frames,duration:\
                   stream_tags=rotate:stream_side_data=rotation:format=duration";
    let mut command = command("ffprobe");
    command.args(["-show_entries", entries, "-of", "json"]).args(&input.options).arg(&input.url);
    let Input { shown, .. } = input;
    let Some(answer) = answer(&mut command, is_enough)? else {
        return Err(bad_input(format!("{shown}: {verdict}: it does not answer")));
    };
    if !answer.is_success {
        return Err(bad_input(format!("{shown}: {verdict}: {}", input.said(&answer.message))));
    }
    let json = serde_json::from_slice(&answer.text).context("ffprobe did not answer in JSON")?;
    from_json(&json).map_err(|message| bad_input(format!("{shown}: {message}")))
}

/// What a child printed.
struct Answer {
    is_success: bool,
    text: Vec<u8>,
    message: String,
}

/// Runs a child to its end, or ends it when it `is_enough` and returns none.
fn answer(command: &mut Command, is_enough: impl Fn() -> bool) -> Result<Option<Answer>> {
    let mut child = start(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let messages = listen(&mut child);
    let mut stdout = child.stdout.take().context("a child has no output")?;
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        // A cut answer shows as broken JSON.
        let _ = stdout.by_ref().take(MAX_ANSWER_BYTES).read_to_end(&mut text);
        text
    });
    let status = loop {
        if let Some(status) = child.try_wait().context("waiting for a child")? {
            break status;
        }
        if is_enough() {
            let _ = child.kill();
            child.wait().context("waiting for a child")?;
            return Ok(None);
        }
        thread::sleep(POLL);
    };
    let text = reader.join().unwrap_or_default();
    let message = messages.and_then(|m| m.join().ok()).unwrap_or_default();
    Ok(Some(Answer { is_success: status.success(), text, message }))
}

/// The options that hand on every frame as it comes, neither doubled nor dropped.
pub fn passthrough() -> [&'static str; 2] {
    // 5.1 renamed the option and later releases warn about the old name.
    static HAS_FPS_MODE: OnceLock<bool> = OnceLock::new();
    let has = *HAS_FPS_MODE.get_or_init(|| {
        let mut help = command("ffmpeg");
        let answer = answer(help.args(["-hide_banner", "-h", "long"]), || false);
        answer.is_ok_and(|a| a.is_some_and(|a| String::from_utf8_lossy(&a.text).contains("-fps_mode")))
    });
    [if has { "-fps_mode" } else { "-vsync" }, if has { "passthrough" } else { "0" }]
}

/// The path so that ffmpeg reads it as a file whatever its name looks like.
pub fn input_url(path: &Path) -> OsString {
    let mut url = OsString::from("file:");
    url.push(path);
    url
}

fn from_json(json: &Value) -> Result<Probe, &'static str> {
    let streams = json["streams"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of_type = |kind: &str| streams.iter().find(|s| s["codec_type"] == kind);
    let video = of_type("video").ok_or("has no video stream")?;
    let side = |name: &str| video[name].as_u64().and_then(|v| u32::try_from(v).ok()).filter(|&v| v > 0);
    let (Some(width), Some(height)) = (side("width"), side("height")) else {
        return Err("its video stream has no size");
    };
    let rates = [&video["avg_frame_rate"], &video["r_frame_rate"]];
    let (rate, fps) = rates
        .into_iter()
        .filter_map(Value::as_str)
        .find_map(|text| Some((text.to_string(), frame_rate(text)?)))
        .ok_or("its video stream has no frame rate")?;
    let number = |value: &Value| value.as_str().and_then(|t| t.parse::<f64>().ok());
    let duration = number(&video["duration"]).or_else(|| number(&json["format"]["duration"]));
    // The decoder brings frames to a constant rate, so the duration says more than the file's count.
    let frames = duration.map(|d| (d * fps).round() as u64).filter(|&n| n > 0);
    let (width, height) = if is_on_its_side(video) { (height, width) } else { (width, height) };
    Ok(Probe { width, height, rate, frames, has_audio: of_type("audio").is_some() })
}

/// `25/1` as frames per second, none when it is not above 0.
fn frame_rate(text: &str) -> Option<f64> {
    let (numerator, denominator) = text.split_once('/')?;
    let fps = numerator.parse::<f64>().ok()? / denominator.parse::<f64>().ok()?;
    (fps.is_finite() && fps > 0.0).then_some(fps)
}

fn is_on_its_side(video: &Value) -> bool {
    let side_data = video["side_data_list"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rotation = side_data
        .iter()
        .find_map(|d| d["rotation"].as_i64())
        .or_else(|| video["tags"]["rotate"].as_str().and_then(|t| t.parse().ok()))
        .unwrap_or(0);
    rotation.rem_euclid(180) == 90
}

/// Whether ffmpeg is on the PATH.
pub fn is_there() -> bool {
    command("ffmpeg").arg("-version").output().is_ok_and(|o| o.status.success())
}

/// The best video encoder that this ffmpeg has.
pub fn encoder() -> Result<&'static str> {
    let output = command("ffmpeg")
        .args(["-hide_banner", "-encoders"])
        .output()
        .map_err(|e| not_started("ffmpeg", &e))?;
    let list = String::from_utf8_lossy(&output.stdout);
    let has = |name: &str| list.lines().any(|line| line.split_whitespace().nth(1) == Some(name));
    match ENCODERS.into_iter().find(|name| has(name)) {
        Some(name) => Ok(name),
        None => bail!("this ffmpeg has none of the encoders {}", ENCODERS.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_probe_is_what_is_shown() {
        let video = json!({"codec_type": "video", "width": 640, "height": 360, "avg_frame_rate": "0/0",
            "r_frame_rate": "30000/1001", "duration": "2.002", "side_data_list": [{"rotation": -90}]});
        let probe = from_json(&json!({"streams": [{"codec_type": "audio"}, video]})).unwrap();
        assert_eq!((probe.width, probe.height, probe.frames), (360, 640, Some(60)));
        assert_eq!(probe.rate, "30000/1001");
        assert!(probe.has_audio);
        assert!(from_json(&json!({"streams": [{"codec_type": "audio"}]})).is_err());
    }
}
