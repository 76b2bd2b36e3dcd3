//! Where pictures go.

pub mod picture;
pub mod spec;
pub mod video;
pub mod window;

mod encoder;
mod letterbox;
mod loopback;
mod null;
mod recorder;
mod sequence;
mod unfinished;

use std::fmt;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use dreamglass_engine::Picture;

use self::loopback::Loopback;
use self::null::Null;
use self::recorder::Recorder;
use self::sequence::Sequence;
use self::spec::SinkSpec;

/// Something that takes the pictures of a live stream.
pub trait Sink: Send {
    /// Takes a picture that was ready `at`. [`Stopped`] is an error of the sink alone: what else
    /// takes pictures can go on.
    fn write(&mut self, picture: &Picture, at: Instant) -> Result<()>;
    /// Ends it. What was written, for people.
    fn finish(self: Box<Self>) -> Result<String>;
}

/// A sink that takes no more: the disk is full, the device is gone. Every later call says it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// What was written to.
    pub name: String,
    /// Why it stopped.
    pub reason: String,
    /// Where what was written before is, if it is worth keeping.
    pub kept: Option<PathBuf>,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: recording stopped: {}", self.name, self.reason)?;
        match &self.kept {
            Some(kept) => write!(f, " (what was recorded before is {})", kept.display()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Stopped {}

/// Opens a sink for `fps` frames per second. Names and folders are checked now, though files may
/// begin with the first picture.
pub fn open(spec: &SinkSpec, fps: u32) -> Result<Box<dyn Sink>> {
    Ok(match spec {
        SinkSpec::Video(path) => Box::new(Recorder::new(path, fps)?),
        SinkSpec::Sequence(pattern) => Box::new(Sequence::new(pattern)?),
        SinkSpec::Device(path) => Box::new(Loopback::new(path, fps)?),
        SinkSpec::Null => Box::new(Null::default()),
    })
}
