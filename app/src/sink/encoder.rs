//! A child ffmpeg that reads raw pixels from a pipe.

use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use dreamglass_engine::{Picture, Size};

use crate::ffmpeg;

/// The child. It is ended when this goes.
#[derive(Debug)]
pub struct Encoder {
    child: Child,
    pixels: Option<ChildStdin>,
    messages: Option<JoinHandle<String>>,
}

/// The arguments that make ffmpeg read pictures of `size` from its input.
pub fn read_pictures(command: &mut Command, size: Size, rate: &str) {
    command.args(["-y", "-f", "rawvideo", "-pix_fmt", "rgba", "-r", rate, "-s"]);
    command.arg(format!("{}x{}", size.width, size.height)).args(["-i", "pipe:0"]);
}

impl Encoder {
    /// Starts it.
    pub fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = ffmpeg::start(command)?;
        let messages = ffmpeg::listen(&mut child);
        let pixels = child.stdin.take();
        Ok(Self { child, pixels, messages })
    }
    /// Hands over one more picture.
    pub fn write(&mut self, picture: &Picture) -> Result<()> {
        let pixels = self.pixels.as_mut().context("the video is already finished")?;
        match pixels.write_all(picture.rgba()) {
            Ok(()) => Ok(()),
            Err(broken) => {
                // Why the pipe broke is what ffmpeg said before it left.
                self.close()?;
                Err(broken).context("writing to ffmpeg")
            }
        }
    }
    /// Waits until everything is written.
    pub fn close(&mut self) -> Result<()> {
        drop(self.pixels.take());
        let status = self.child.wait().context("waiting for ffmpeg")?;
        let message = self.messages.take().and_then(|m| m.join().ok()).unwrap_or_default();
        if !status.success() {
            bail!("ffmpeg could not encode the video ({status}): {message}");
        }
        Ok(())
    }
    /// Its process, for a test to end.
    #[cfg(test)]
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // A video that was not finished is not wanted; a child that has already gone is no news.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
