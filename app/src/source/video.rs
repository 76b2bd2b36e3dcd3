//! Video files, decoded by a child ffmpeg that writes raw pixels to a pipe.

use std::io::Read;
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use dreamglass_engine::Picture;
use dreamglass_engine::frame::{MAX_SIDE, Size};

use crate::failure::bad_input;
use crate::ffmpeg::{self, Probe};

/// The frames of a file in order, at a constant rate.
pub struct Frames {
    child: Child,
    pixels: ChildStdout,
    messages: Option<JoinHandle<String>>,
    size: Size,
    read: u64,
    is_over: bool,
}

impl Frames {
    /// Starts decoding.
    pub fn open(path: &Path, probe: &Probe) -> Result<Self> {
        let size = Size::new(probe.width, probe.height);
        if size.width > MAX_SIDE || size.height > MAX_SIDE {
            let Size { width, height } = size;
            let message = format!(
                "{}: has {width}x{height} pixels; sides up to {MAX_SIDE} are accepted",
                path.display()
            );
            return Err(bad_input(message));
        }
        let mut command = ffmpeg::command("ffmpeg");
        // The size is fixed here so that a change inside the file cannot shift the pixels.
        let filter = format!("fps={},scale={}:{}", probe.rate, size.width, size.height);
        command.arg("-i").arg(ffmpeg::input_url(path));
        command.args(["-map", "0:v:0", "-vf", &filter, "-f", "rawvideo", "-pix_fmt", "rgba", "pipe:1"]);
        let mut child = ffmpeg::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        let messages = ffmpeg::listen(&mut child);
        let pixels = child.stdout.take().context("ffmpeg has no output")?;
        Ok(Self { child, pixels, messages, size, read: 0, is_over: false })
    }

    fn frame(&mut self) -> Result<Option<Picture>> {
        let bytes = self.size.width as usize * self.size.height as usize * 4;
        let mut rgba = Vec::with_capacity(bytes);
        self.pixels.by_ref().take(bytes as u64).read_to_end(&mut rgba).context("reading from ffmpeg")?;
        if rgba.len() == bytes {
            self.read += 1;
            return Ok(Some(Picture::new(self.size, rgba)?));
        }
        self.is_over = true;
        let status = self.child.wait().context("waiting for ffmpeg")?;
        let message = self.messages.take().and_then(|m| m.join().ok()).unwrap_or_default();
        if self.read == 0 {
            return Err(bad_input(format!("no frame can be decoded: {message}")));
        }
        if !status.success() {
            tracing::warn!("the video ends after {} frames: {message}", self.read);
        }
        Ok(None)
    }
}

impl Iterator for Frames {
    type Item = Result<Picture>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let frame = self.frame();
        self.is_over |= frame.is_err();
        frame.transpose()
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        // It may have frames left that nobody wants; a child that has already gone is no news.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
