//! Video files, encoded by a child ffmpeg that reads raw pixels from a pipe.

use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use dreamglass_engine::{Picture, Size};

use super::unfinished::Unfinished;
use crate::failure::bad_input;
use crate::ffmpeg;

/// Containers that hold H.264 and AAC.
const EXTENSIONS: [&str; 4] = ["mp4", "mov", "m4v", "mkv"];

/// A video file to be written.
#[derive(Debug)]
pub struct VideoFile {
    file: Unfinished,
}

/// A video file being written. The encoder is gone before its file is.
#[derive(Debug)]
pub struct VideoWriter {
    encoder: Encoder,
    file: Unfinished,
}

/// The child that encodes.
#[derive(Debug)]
struct Encoder {
    child: Child,
    pixels: Option<ChildStdin>,
    messages: Option<JoinHandle<String>>,
}

/// What a video is made of besides its pictures.
#[derive(Debug, Clone)]
pub struct Form<'a> {
    /// Size of every picture.
    pub size: Size,
    /// Frames per second as ffmpeg's fraction.
    pub rate: &'a str,
    /// File whose sound is kept.
    pub sound: Option<&'a Path>,
}

impl VideoFile {
    /// Checks name and folder; nothing is written yet.
    pub fn new(path: &Path) -> Result<Self> {
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        if !extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str())) {
            let expected = EXTENSIONS.join(", ");
            return Err(bad_input(format!("{}: expected one of the extensions {expected}", path.display())));
        }
        Ok(Self { file: Unfinished::new(path)? })
    }
    /// Starts encoding.
    pub fn start(self, form: &Form<'_>) -> Result<VideoWriter> {
        let mut command = ffmpeg::command("ffmpeg");
        arguments(&mut command, form, ffmpeg::encoder()?);
        command.arg(ffmpeg::input_url(self.file.path()));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = ffmpeg::start(&mut command)?;
        let messages = ffmpeg::listen(&mut child);
        let pixels = child.stdin.take();
        Ok(VideoWriter { encoder: Encoder { child, pixels, messages }, file: self.file })
    }
}

fn arguments(command: &mut Command, form: &Form<'_>, encoder: &str) {
    let Form { size, rate, sound } = form;
    command.args(["-y", "-f", "rawvideo", "-pix_fmt", "rgba", "-r", rate, "-s"]);
    command.arg(format!("{}x{}", size.width, size.height)).args(["-i", "pipe:0"]);
    if let Some(path) = sound {
        command.arg("-i").arg(ffmpeg::input_url(path)).args(["-map", "0:v", "-map", "1:a:0", "-c:a", "aac"]);
        command.arg("-shortest");
    }
    let quality: &[&str] = match encoder {
        "libx264" => &["-crf", "18", "-preset", "fast"],
        "mpeg4" => &["-q:v", "3"],
        _ => &["-b:v", "8M"],
    };
    command.args(["-c:v", encoder]).args(quality);
    // Players take untagged small video for BT.601 and untagged large video for BT.709.
    command.args(["-vf", "scale=out_color_matrix=bt709:out_range=tv", "-pix_fmt", "yuv420p"]);
    command.args(["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]);
    command.args(["-movflags", "+faststart"]);
}

impl VideoWriter {
    /// Encodes one more picture.
    pub fn write(&mut self, picture: &Picture) -> Result<()> {
        let pixels = self.encoder.pixels.as_mut().context("the video is already finished")?;
        match pixels.write_all(picture.rgba()) {
            Ok(()) => Ok(()),
            Err(broken) => {
                // Why the pipe broke is what ffmpeg said before it left.
                self.encoder.close()?;
                Err(broken).context("writing to ffmpeg")
            }
        }
    }
    /// Ends the file and puts it in its place.
    pub fn finish(mut self) -> Result<()> {
        self.encoder.close()?;
        self.file.finish()
    }
}

impl Encoder {
    fn close(&mut self) -> Result<()> {
        drop(self.pixels.take());
        let status = self.child.wait().context("waiting for ffmpeg")?;
        let message = self.messages.take().and_then(|m| m.join().ok()).unwrap_or_default();
        if !status.success() {
            bail!("ffmpeg could not encode the video ({status}): {message}");
        }
        Ok(())
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // A video that was not finished is not wanted; a child that has already gone is no news.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
