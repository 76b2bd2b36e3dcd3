//! Video, decoded by a child ffmpeg that writes raw pixels to a pipe.

use std::io::Read;
use std::path::Path;
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use dreamglass_engine::Picture;
use dreamglass_engine::frame::{MAX_SIDE, Size};

use super::stop::SharedChild;
use crate::failure::bad_input;
use crate::ffmpeg::{self, Input, Probe};

/// How often a child that has closed its output is asked whether it has ended.
const POLL: Duration = Duration::from_millis(2);

/// The frames of a video in order.
pub struct Frames {
    child: SharedChild,
    pixels: ChildStdout,
    messages: Option<JoinHandle<String>>,
    name: String,
    size: Size,
    read: u64,
    is_over: bool,
    failure: Option<String>,
}

impl Frames {
    /// Starts decoding a file, at a constant rate.
    pub fn open(path: &Path, probe: &Probe) -> Result<Self> {
        Self::start(&Input::file(path), probe, &format!("fps={}", probe.rate), &[])
    }

    /// Starts decoding. `filter` is what happens to frames, `options` how they are written.
    pub fn start(input: &Input, probe: &Probe, filter: &str, options: &[&str]) -> Result<Self> {
        let size = Size::new(probe.width, probe.height);
        let name = input.shown.clone();
        if size.width > MAX_SIDE || size.height > MAX_SIDE {
            let Size { width, height } = size;
            let message = format!("{name}: has {width}x{height} pixels; sides up to {MAX_SIDE} are accepted");
            return Err(bad_input(message));
        }
        let mut command = arguments(input, size, filter, options);
        let mut child = ffmpeg::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        let messages = ffmpeg::listen(&mut child);
        let pixels = child.stdout.take().context("ffmpeg has no output")?;
        let child = Arc::new(Mutex::new(child));
        Ok(Self { child, pixels, messages, name, size, read: 0, is_over: false, failure: None })
    }

    /// The child, for whoever has to end it.
    pub fn child(&self) -> SharedChild {
        Arc::clone(&self.child)
    }

    /// Frames so far.
    pub fn decoded(&self) -> u64 {
        self.read
    }

    /// After the last frame: what went wrong, if it was not the video's own end.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Waits for the child's end. It may take its time to say goodbye to a server, and whoever wants to
    /// end it then must get at it.
    fn wait(&self) -> Result<ExitStatus> {
        loop {
            let ended = self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait();
            match ended.context("waiting for ffmpeg")? {
                Some(status) => return Ok(status),
                None => thread::sleep(POLL),
            }
        }
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
        let status = self.wait()?;
        let message = self.messages.take().and_then(|m| m.join().ok()).unwrap_or_default();
        if self.read == 0 {
            return Err(bad_input(format!("{}: no frame can be decoded: {message}", self.name)));
        }
        if !status.success() {
            tracing::warn!("{} ends after {} frames: {message}", self.name, self.read);
            self.failure = Some(if message.is_empty() { status.to_string() } else { message });
        }
        Ok(None)
    }
}

fn arguments(input: &Input, size: Size, filter: &str, options: &[&str]) -> Command {
    let mut command = ffmpeg::command("ffmpeg");
    command.args(&input.options).arg("-i").arg(&input.url);
    // The size is fixed here so that a change inside the video cannot shift the pixels.
    let comma = if filter.is_empty() { "" } else { "," };
    let filter = format!("{filter}{comma}scale={}:{}", size.width, size.height);
    command.args(["-map", "0:v:0", "-vf", &filter]).args(options);
    command.args(["-f", "rawvideo", "-pix_fmt", "rgba", "pipe:1"]);
    command
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
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}
