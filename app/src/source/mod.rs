//! Where pictures come from.

pub mod picture;
pub mod video;

pub mod barcode;
pub mod camera;
mod decoded;
mod inbox;
mod pace;
pub mod remote;
mod screen;
mod slides;
pub mod spec;
mod still;
mod stop;
mod synthetic;
pub mod test_card;
mod worker;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use dreamglass_engine::{Picture, Size};

use self::camera::camera;
use self::decoded::{Recipe, decoded};
use self::screen::screen;
use self::slides::Slides;
use self::spec::SourceSpec;
use self::still::Still;
use self::synthetic::Synthetic;
use crate::failure::bad_input;

/// What a source says next.
#[derive(Debug)]
pub enum Event {
    /// A frame.
    Frame(Captured),
    /// It does not work now, for this reason; it will be tried again.
    Trouble(String),
    /// There is no more.
    End,
}

/// A frame of a live source.
#[derive(Debug, Clone)]
pub struct Captured {
    /// How many frames the source counted before it, with those that were lost.
    pub index: u64,
    /// When it came into being.
    pub captured_at: Instant,
    /// Its pixels.
    pub picture: Picture,
}

/// Something that pictures come from, in real time.
pub trait Source: Send {
    /// Waits for what comes next, at most about 100 ms: none came in that time, so that whoever asks
    /// notices that it is time to end.
    fn next(&mut self) -> Result<Option<Event>>;
    /// What people call it, such as "camera 0: HD Webcam, 1280x720 30 fps MJPEG".
    fn describe(&self) -> String;
}

/// Frames per second of a screen, where none are asked for.
const SCREEN_FPS: u32 = 30;

/// What is asked of devices that can choose; they come as near as they can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wish {
    /// Size of a camera's pictures.
    pub size: Option<Size>,
    /// Frames per second of a camera or screen.
    pub fps: Option<u32>,
}

/// How a source is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// For cameras and screens.
    pub wish: Wish,
    /// Starts again at the end of videos and slide shows.
    pub repeats: bool,
    /// How long a slide show shows each picture.
    pub slide_time: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { wish: Wish::default(), repeats: false, slide_time: Duration::from_secs(5) }
    }
}

/// Opens a source and waits until it works. What cannot be opened is an error; what stops working
/// later is [`Event::Trouble`].
pub fn open(spec: &SourceSpec, options: &Options) -> Result<Box<dyn Source>> {
    Ok(match spec {
        SourceSpec::Synthetic { size, fps } => Box::new(Synthetic::new(*size, *fps)),
        SourceSpec::Path(path) => return open_path(path, options),
        SourceSpec::Url(url) => Box::new(decoded(Recipe::url(url, options.repeats))?),
        SourceSpec::Screen(region) => Box::new(screen(*region, options.wish.fps.unwrap_or(SCREEN_FPS))?),
        SourceSpec::Camera(choice) => Box::new(camera(choice.clone(), options.wish)?),
    })
}

/// Contents decide what a file is: an extension may lie.
fn open_path(path: &Path, options: &Options) -> Result<Box<dyn Source>> {
    let shown = path.display();
    if path.is_dir() {
        return Ok(Box::new(Slides::open(path, options)?));
    }
    if !path.exists() {
        return Err(bad_input(format!("{shown}: there is no such file or folder")));
    }
    if !path.is_file() {
        // Reading from a device or a pipe would wait, maybe for ever.
        let message = format!("{shown}: expected a file or a folder; cameras are called camera or camera:1");
        return Err(bad_input(message));
    }
    if picture::is_still(path) {
        return Ok(Box::new(Still::open(path)?));
    }
    Ok(Box::new(decoded(Recipe::file(path, options.repeats))?))
}
