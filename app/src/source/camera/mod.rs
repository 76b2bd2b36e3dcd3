//! Cameras: which one, how it is asked for pictures, and what happens when it is pulled out.

mod native;
mod raw;

use std::fmt;
use std::time::Duration;

use anyhow::{Result, anyhow};
use dreamglass_engine::Size;

use self::native::Native;
use self::raw::RawFrame;
use super::Wish;
use super::inbox::Policy;
use super::spec::CameraChoice;
use super::stop::Stop;
use super::worker::{FIRST_WAIT, Feed, Habits, Next, Opened, Stream, Worker};
use crate::failure::bad_input;

/// Asked for where the user asks for nothing: enough for the largest models, and any camera has it.
const DEFAULT_SIZE: Size = Size::new(1280, 720);

/// Frames per second, likewise.
const DEFAULT_FPS: u32 = 30;

/// Silence after which a camera is in trouble; the slowest modes have 5 frames per second.
const MAX_SILENCE: Duration = Duration::from_secs(5);

/// How long a camera may take to its first frame: some focus and adjust before.
const MAX_OPENING: Duration = Duration::from_secs(15);

/// A camera that the system knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CameraInfo {
    /// Its number, for `camera:1`.
    pub index: u32,
    /// Its name.
    pub name: String,
}

impl fmt::Display for CameraInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "camera {}: {}", self.index, self.name)
    }
}

/// How bytes become pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A JPEG picture each.
    Mjpeg,
    /// Y U Y V for two pixels.
    Yuyv,
    /// A plane of Y, then one of U and V at half the size.
    Nv12,
    /// Three bytes.
    Rgb,
    /// Three bytes, blue first.
    Bgr,
    /// One byte.
    Grey,
}

/// What a camera sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    pub size: Size,
    pub fps: u32,
    pub format: Format,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size: Size { width, height }, fps, format } = self;
        write!(f, "{width}x{height} {fps} fps {}", format!("{format:?}").to_uppercase())
    }
}

/// Why a camera does not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It is not there any more.
    Gone,
    /// Another program uses it.
    Busy,
    /// The system does not allow it.
    Denied,
    /// It has no picture for us, or fails, for this reason.
    Unusable(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "is unplugged",
            Self::Busy => "is used by another program: close it there, or choose another camera",
            Self::Denied if cfg!(target_os = "linux") => {
                "may not be opened by this user: sudo usermod -aG video $USER, then log in again"
            }
            Self::Denied => "may not be opened: allow camera access in the system's privacy settings",
            Self::Unusable(why) => return write!(f, "cannot be used: {why}"),
        })
    }
}

/// What reaches cameras.
pub trait CameraBackend: Send {
    /// Every camera there is.
    fn list(&self) -> Result<Vec<CameraInfo>>;
    /// Starts a camera as near to the wish as it can.
    fn open(&self, index: u32, wish: Asked) -> Result<Box<dyn CameraStream>, Refusal>;
}

/// A camera that runs.
pub trait CameraStream {
    /// Waits for the next frame.
    fn frame(&mut self) -> Result<RawFrame, Refusal>;
    /// What it was asked to send.
    fn negotiated(&self) -> Mode;
}

/// A wish with its defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub size: Size,
    pub fps: u32,
}

impl From<Wish> for Asked {
    fn from(wish: Wish) -> Self {
        Self { size: wish.size.unwrap_or(DEFAULT_SIZE), fps: wish.fps.unwrap_or(DEFAULT_FPS) }
    }
}

impl Asked {
    /// The mode that comes nearest.
    pub fn nearest(self, modes: &[Mode]) -> Option<Mode> {
        modes.iter().copied().min_by(|a, b| self.distance(*a).total_cmp(&self.distance(*b)))
    }
    /// 0 for what was asked for. Too few frames weigh most, as they cannot be made up for; formats
    /// count only between modes that are otherwise the same.
    fn distance(self, mode: Mode) -> f64 {
        let off = |is: u32, asked: u32| (f64::from(is) - f64::from(asked)) / f64::from(asked.max(1));
        let size =
            off(mode.size.width, self.size.width).abs() + off(mode.size.height, self.size.height).abs();
        let fps = off(mode.fps, self.fps);
        let format = match mode.format {
            Format::Yuyv | Format::Nv12 | Format::Rgb | Format::Bgr => 0.0,
            Format::Mjpeg => 0.01,
            Format::Grey => 0.5,
        };
        size + if fps < 0.0 { -2.0 * fps } else { 0.1 * fps } + format
    }
}

/// Every camera of this system.
pub fn list() -> Result<Vec<CameraInfo>> {
    Native.list()
}

/// Starts a camera of this system.
pub fn camera(choice: Option<CameraChoice>, wish: Wish) -> Result<Worker> {
    start(Native, choice, wish, FIRST_WAIT)
}

fn start(
    backend: impl CameraBackend + 'static,
    choice: Option<CameraChoice>,
    wish: Wish,
    first_wait: Duration,
) -> Result<Worker> {
    let habits = Habits {
        policy: Policy::Newest,
        first_wait,
        max_silence: Some(MAX_SILENCE),
        max_opening: Some(MAX_OPENING),
    };
    Worker::start(Camera { backend, choice, asked: wish.into(), used: None }, habits)
}

/// A camera that is looked for again whenever it fails.
struct Camera<B> {
    backend: B,
    choice: Option<CameraChoice>,
    asked: Asked,
    /// The one that has worked: only it is waited for, though its number may change.
    used: Option<CameraInfo>,
}

impl<B: CameraBackend> Camera<B> {
    /// Those that are meant, the likeliest first.
    fn candidates(&self) -> Result<Vec<CameraInfo>> {
        let mut there = self.backend.list()?;
        if let Some(used) = &self.used {
            there.retain(|info| info.name == used.name);
            there.sort_by_key(|info| info.index != used.index);
            if there.is_empty() {
                return Err(anyhow!("{used} is unplugged, waiting for it"));
            }
            return Ok(there);
        }
        let all = there.clone();
        let wanted = match &self.choice {
            None => "camera".into(),
            Some(CameraChoice::Index(index)) => {
                there.retain(|info| info.index == *index);
                format!("camera {index}")
            }
            Some(CameraChoice::Name(name)) => {
                there.retain(|info| info.name.to_lowercase().contains(&name.to_lowercase()));
                format!("camera called `{name}`")
            }
        };
        if there.is_empty() { Err(absent(&wanted, &all)) } else { Ok(there) }
    }
    /// The first candidate that has pictures. Many cameras have a second entry without any.
    fn open_one(&self) -> Result<(CameraInfo, Box<dyn CameraStream>, RawFrame)> {
        let mut unusable = None;
        for info in self.candidates()? {
            let opened = self.backend.open(info.index, self.asked);
            // Some drivers tell only here that the camera is taken.
            let opened = opened.and_then(|mut stream| stream.frame().map(|first| (stream, first)));
            match opened {
                Ok((stream, first)) => return Ok((info, stream, first)),
                Err(why @ Refusal::Unusable(_)) => {
                    unusable.get_or_insert(anyhow!("{info} {why}"));
                }
                Err(why) => return Err(anyhow!("{info} {why}")),
            }
        }
        Err(unusable.unwrap_or_else(|| anyhow!("no camera can be used")))
    }
}

fn absent(wanted: &str, all: &[CameraInfo]) -> anyhow::Error {
    let names = all.iter().map(|i| format!("{}: {}", i.index, i.name)).collect::<Vec<_>>().join(", ");
    bad_input(match names.as_str() {
        "" => "there is no camera here: plug one in, or try --source synthetic".to_string(),
        _ => format!("there is no {wanted}; there are {names}"),
    })
}

impl<B: CameraBackend + 'static> Feed for Camera<B> {
    fn open(&mut self, _: &Stop) -> Result<Opened> {
        let (info, stream, first) = self.open_one()?;
        let text = format!("{info}, {}", stream.negotiated());
        self.used = Some(info.clone());
        let stream = Box::new(Running { info, stream, first: Some(first) });
        Ok(Opened { stream, text, rate: None })
    }
}

struct Running {
    info: CameraInfo,
    stream: Box<dyn CameraStream>,
    first: Option<RawFrame>,
}

impl Stream for Running {
    fn next(&mut self) -> Result<Next> {
        let frame = match self.first.take() {
            Some(first) => first,
            None => self.stream.frame().map_err(|why| anyhow!("{} {why}, waiting for it", self.info))?,
        };
        Ok(raw::picture(&frame).map_or_else(Next::Lost, Next::Picture))
    }
}

#[cfg(test)]
mod tests;
