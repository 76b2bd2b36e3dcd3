//! The screen or a part of it, captured by ffmpeg.

use std::env;
use std::ffi::OsString;

use anyhow::Result;
use dreamglass_engine::Size;

use super::decoded::{Recipe, decoded};
use super::spec::Region;
use super::stop::Stop;
use super::worker::Worker;
use crate::failure::bad_input;
use crate::ffmpeg::Input;

/// What ffmpeg captures a screen with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grabber {
    /// X11, on Linux and other Unixes.
    X11,
    /// macOS.
    AvFoundation,
    /// Windows.
    Gdi,
}

impl Grabber {
    /// The one of this system.
    pub const NATIVE: Self = if cfg!(windows) {
        Self::Gdi
    } else if cfg!(target_os = "macos") {
        Self::AvFoundation
    } else {
        Self::X11
    };

    /// How ffmpeg is told to capture `region`, or everything.
    fn input(self, screen: &str, region: Option<Region>, fps: u32) -> Input {
        let format = match self {
            Self::X11 => "x11grab",
            Self::AvFoundation => "avfoundation",
            Self::Gdi => "gdigrab",
        };
        let mut options = vec!["-f".into(), format.into(), "-framerate".into(), fps.to_string()];
        let mut shown = format!("screen {screen}").trim_end().to_string();
        let mut url = match self {
            Self::X11 => screen.to_string(),
            Self::AvFoundation => "Capture screen 0:none".into(),
            Self::Gdi => "desktop".into(),
        };
        if self == Self::X11 {
            // The first frame says everything; the default watches for most of a second, twice.
            options.extend(["-probesize", "32", "-analyzeduration", "0"].map(String::from));
        }
        if self == Self::AvFoundation {
            options.extend(["-capture_cursor", "1"].map(String::from));
        }
        if let Some(Region { size: Size { width, height }, x, y }) = region {
            shown += &format!(" at +{x}+{y}");
            let size = || ["-video_size".into(), format!("{width}x{height}")];
            match self {
                Self::X11 => {
                    options.extend(size());
                    url += &format!("+{x},{y}");
                }
                Self::Gdi => {
                    options.extend(size());
                    options.extend(["-offset_x".into(), x.to_string(), "-offset_y".into(), y.to_string()]);
                }
                // It captures whole screens only.
                Self::AvFoundation => {}
            }
        }
        Input { options, url: url.into(), shown }
    }
}

/// Captures the screen of this system at `fps`.
pub fn screen(region: Option<Region>, fps: u32) -> Result<Worker> {
    let grabber = Grabber::NATIVE;
    let display = if grabber == Grabber::X11 { env::var_os("DISPLAY") } else { Some(OsString::new()) };
    let has_wayland = env::var_os("WAYLAND_DISPLAY").is_some();
    let screen = display_name(display, has_wayland)?;
    if grabber == Grabber::X11 && has_wayland {
        tracing::warn!("under Wayland only X11 windows are captured, all else is black");
    }
    capture(grabber, &screen, region, fps)
}

fn display_name(display: Option<OsString>, has_wayland: bool) -> Result<String> {
    match display.map(|d| d.to_string_lossy().into_owned()) {
        Some(name) if !name.is_empty() || Grabber::NATIVE != Grabber::X11 => Ok(name),
        _ if has_wayland => Err(bad_input(
            "screen: expected an X11 screen, but this session is Wayland without Xwayland (DISPLAY is not set)",
        )),
        _ => Err(bad_input("screen: there is none here: DISPLAY is not set, expected such as DISPLAY=:0")),
    }
}

fn capture(grabber: Grabber, screen: &str, region: Option<Region>, fps: u32) -> Result<Worker> {
    let whole = Recipe::device(grabber.input(screen, None, fps), None);
    let Some(region) = region else { return decoded(whole) };
    let probe = whole.probe(&Stop::default())?;
    check(region, Size::new(probe.width, probe.height))?;
    let crop = (grabber == Grabber::AvFoundation).then_some(region);
    decoded(Recipe::device(grabber.input(screen, Some(region), fps), crop))
}

/// Whether a region lies on a screen of `size`.
fn check(region: Region, size: Size) -> Result<()> {
    let Region { size: part, x, y } = region;
    let ends_within = |start: u32, length: u32, end: u32| start.checked_add(length).is_some_and(|e| e <= end);
    if ends_within(x, part.width, size.width) && ends_within(y, part.height, size.height) {
        return Ok(());
    }
    Err(bad_input(format!(
        "screen:{}x{}+{x}+{y} is not on the screen, which has {}x{} pixels",
        part.width, part.height, size.width, size.height
    )))
}

#[cfg(test)]
mod tests;
