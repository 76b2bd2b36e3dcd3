//! A live stream as a video file of constant frame rate.
//!
//! The first picture fixes the size: later ones of another size are scaled into it on black, so that
//! one recording stays one file. Where no picture comes the last one is repeated; of two that come
//! within one frame of the file the later stays.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Error, Result};
use dreamglass_engine::{Picture, Size};

use super::letterbox::{even, fit};
use super::video::{Form, VideoFile, VideoWriter};
use super::{Sink, Stopped};

/// Longest standstill that is recorded; a longer one is cut to this.
const MAX_GAP: Duration = Duration::from_secs(5);

/// A video file of what happens.
pub struct Recorder {
    path: PathBuf,
    fps: u32,
    state: State,
}

enum State {
    Waiting(VideoFile),
    Running(Box<Running>),
    Stopped(Stopped),
}

struct Running {
    writer: VideoWriter,
    size: Size,
    /// When frame 0 of the file was.
    origin: Instant,
    /// Frames in the file; `last` is the next one.
    written: u64,
    last: Picture,
}

impl Recorder {
    /// Checks name and folder; the file begins with the first picture.
    pub fn new(path: &Path, fps: u32) -> Result<Self> {
        Ok(Self { path: path.into(), fps: fps.max(1), state: State::Waiting(VideoFile::new(path)?) })
    }
    /// The state after a failure, which it tells.
    fn stopped(&self, error: &Error, writer: Option<VideoWriter>) -> Stopped {
        let kept = writer.and_then(VideoWriter::salvage);
        Stopped { name: self.path.display().to_string(), reason: format!("{error:#}"), kept }
    }
}

impl Running {
    fn start(file: VideoFile, fps: u32, picture: &Picture, at: Instant) -> Result<Self> {
        let size = even(picture.size());
        let form = Form { size, rate: &fps.to_string(), sound: None, is_live: true };
        let last = fit(picture, size)?.into_owned();
        Ok(Self { writer: file.start(&form)?, size, origin: at, written: 0, last })
    }
    fn add(&mut self, picture: &Picture, at: Instant, fps: u32) -> Result<()> {
        let frame = |origin: Instant| {
            let time = at.saturating_duration_since(origin);
            (time.as_secs_f64() * f64::from(fps)).round() as u64
        };
        let most = self.written + MAX_GAP.as_secs() * u64::from(fps);
        let mut now = frame(self.origin);
        if now > most {
            self.origin += Duration::from_secs_f64((now - most) as f64 / f64::from(fps));
            now = most;
        }
        while self.written < now {
            self.writer.write(&self.last)?;
            self.written += 1;
        }
        self.last = fit(picture, self.size)?.into_owned();
        Ok(())
    }
}

impl Sink for Recorder {
    fn write(&mut self, picture: &Picture, at: Instant) -> Result<()> {
        let nothing = Stopped { name: String::new(), reason: String::new(), kept: None };
        let (state, result) = match std::mem::replace(&mut self.state, State::Stopped(nothing)) {
            State::Waiting(file) => match Running::start(file, self.fps, picture, at) {
                Ok(running) => (State::Running(Box::new(running)), Ok(())),
                Err(error) => (State::Stopped(self.stopped(&error, None)), Err(())),
            },
            State::Running(mut running) => match running.add(picture, at, self.fps) {
                Ok(()) => (State::Running(running), Ok(())),
                Err(error) => (State::Stopped(self.stopped(&error, Some(running.writer))), Err(())),
            },
            State::Stopped(stopped) => (State::Stopped(stopped), Err(())),
        };
        self.state = state;
        match (&self.state, result) {
            (State::Stopped(stopped), Err(())) => Err(stopped.clone().into()),
            _ => Ok(()),
        }
    }
    fn finish(self: Box<Self>) -> Result<String> {
        let (name, fps) = (self.path.display().to_string(), self.fps);
        match self.state {
            State::Stopped(stopped) => Err(stopped.into()),
            State::Waiting(_) => Ok(format!("{name}: no picture came, so there is no file")),
            State::Running(running) => running.finish(&name, fps),
        }
    }
}

impl Running {
    fn finish(mut self, name: &str, fps: u32) -> Result<String> {
        // The encoder writes its last frames now, so a full disk may show only here.
        if let Err(error) = self.writer.write(&self.last).and_then(|()| self.writer.close()) {
            let (reason, kept) = (format!("{error:#}"), self.writer.salvage());
            return Err(Stopped { name: name.into(), reason, kept }.into());
        }
        self.writer.finish()?;
        let count = self.written + 1;
        let seconds = count as f64 / f64::from(fps);
        let Size { width, height } = self.size;
        Ok(format!("{name}: {count} frames of {width}x{height}, {seconds:.1} s"))
    }
}

#[cfg(test)]
mod tests;
