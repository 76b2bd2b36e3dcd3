//! What `--source` says.

use std::path::PathBuf;
use std::str::FromStr;

use dreamglass_engine::Size;
use dreamglass_engine::frame::MAX_SIDE;

/// What ffmpeg is let read from the network.
pub const SCHEMES: [&str; 9] = ["http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "udp", "srt", "rtp"];

/// Smallest test card whose counter can be read.
const MIN_CARD_SIDE: u32 = 64;

/// Most frames per second of a test card.
const MAX_CARD_FPS: f64 = 240.0;

/// Where pictures come from.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceSpec {
    /// A camera; the first one where none is named.
    Camera(Option<CameraChoice>),
    /// The screen or a part of it.
    Screen(Option<Region>),
    /// A video, a picture, or a folder of pictures. Contents decide which, once it is opened.
    Path(PathBuf),
    /// A video or stream from the network.
    Url(String),
    /// A moving test card.
    Synthetic { size: Size, fps: f64 },
}

/// Which camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CameraChoice {
    /// By its number.
    Index(u32),
    /// By a part of its name, upper and lower case alike.
    Name(String),
}

/// A part of the screen in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// How large it is.
    pub size: Size,
    /// Pixels left of it.
    pub x: u32,
    /// Pixels above it.
    pub y: u32,
}

impl FromStr for SourceSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, rest) = match text.split_once(':') {
            Some((kind, rest)) => (kind, Some(rest)),
            None => (text, None),
        };
        match (kind, rest) {
            ("camera", rest) => rest.map(camera).transpose().map(Self::Camera),
            ("screen", rest) => rest.map(region).transpose().map(Self::Screen),
            ("synthetic", rest) => synthetic(rest.unwrap_or_default()),
            (scheme, Some(rest)) if rest.starts_with("//") => url(scheme, text),
            _ if text.trim().is_empty() => Err(format!("nothing is named; expected {EXPECTED}")),
            _ => Ok(Self::Path(text.into())),
        }
    }
}

const EXPECTED: &str = "camera, camera:1, camera:NAME, screen, screen:WxH+X+Y, synthetic, \
                        synthetic:WxH@FPS, a file, a folder of pictures or a URL";

fn camera(which: &str) -> Result<CameraChoice, String> {
    match which.parse() {
        _ if which.trim().is_empty() => {
            Err("camera: is followed by nothing; expected a number or a part of the name".into())
        }
        Ok(index) => Ok(CameraChoice::Index(index)),
        Err(_) => Ok(CameraChoice::Name(which.trim().into())),
    }
}

fn url(scheme: &str, text: &str) -> Result<SourceSpec, String> {
    let scheme = scheme.to_ascii_lowercase();
    if !SCHEMES.contains(&scheme.as_str()) {
        return Err(format!("{scheme}:// is not read; expected one of {}", SCHEMES.join(", ")));
    }
    // ffmpeg compares schemes as they are written.
    Ok(SourceSpec::Url(format!("{scheme}{}", &text[scheme.len()..])))
}

fn region(text: &str) -> Result<Region, String> {
    let expected = || format!("screen:{text}: expected WxH+X+Y in pixels, such as screen:640x480+100+50");
    let mut parts = text.split('+');
    let size = parts.next().and_then(size_of).ok_or_else(expected)?;
    let place: Vec<u32> = parts.map(str::parse).collect::<Result<_, _>>().map_err(|_| expected())?;
    let (x, y) = match place[..] {
        [] => (0, 0),
        [x, y] => (x, y),
        _ => return Err(expected()),
    };
    let Size { width, height } = size;
    if !(2..=MAX_SIDE).contains(&width) || !(2..=MAX_SIDE).contains(&height) {
        return Err(format!("screen:{text}: sides of 2..={MAX_SIDE} pixels are accepted"));
    }
    Ok(Region { size, x, y })
}

fn synthetic(text: &str) -> Result<SourceSpec, String> {
    let expected =
        || format!("synthetic:{text}: expected WxH@FPS, WxH or @FPS, such as synthetic:640x480@30");
    let (size, fps) = text.split_once('@').unwrap_or((text, "30"));
    let size = if size.is_empty() { Size::new(512, 512) } else { size_of(size).ok_or_else(expected)? };
    let fps: f64 = fps.parse().map_err(|_| expected())?;
    let Size { width, height } = size;
    let sides = MIN_CARD_SIDE..=MAX_SIDE;
    if !sides.contains(&width) || !sides.contains(&height) {
        return Err(format!("synthetic:{text}: sides of {MIN_CARD_SIDE}..={MAX_SIDE} pixels are accepted"));
    }
    if !(0.1..=MAX_CARD_FPS).contains(&fps) {
        return Err(format!("synthetic:{text}: 0.1 to {MAX_CARD_FPS} frames per second are accepted"));
    }
    Ok(SourceSpec::Synthetic { size, fps })
}

fn size_of(text: &str) -> Option<Size> {
    let (width, height) = text.split_once(['x', 'X'])?;
    Some(Size::new(width.parse().ok()?, height.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    fn spec(text: &str) -> SourceSpec {
        text.parse().unwrap()
    }

    fn refused(text: &str) -> String {
        text.parse::<SourceSpec>().unwrap_err()
    }

    #[test]
    fn sources_are_named() {
        use SourceSpec::{Camera, Path, Screen, Synthetic, Url};
        assert_eq!(spec("camera"), Camera(None));
        assert_eq!(spec("camera:1"), Camera(Some(CameraChoice::Index(1))));
        assert_eq!(spec("camera:HD: Pro"), Camera(Some(CameraChoice::Name("HD: Pro".into()))));
        assert_eq!(spec("screen"), Screen(None));
        let region = Region { size: Size::new(640, 480), x: 100, y: 50 };
        assert_eq!(spec("screen:640x480+100+50"), Screen(Some(region)));
        assert_eq!(spec("screen:640X480"), Screen(Some(Region { x: 0, y: 0, ..region })));
        assert_eq!(spec("synthetic"), Synthetic { size: Size::new(512, 512), fps: 30.0 });
        assert_eq!(spec("synthetic:640x480@29.97"), Synthetic { size: Size::new(640, 480), fps: 29.97 });
        assert_eq!(spec("synthetic:@5"), Synthetic { size: Size::new(512, 512), fps: 5.0 });
        assert_eq!(spec("clip.mp4"), Path("clip.mp4".into()));
        assert_eq!(spec("./camera"), Path("./camera".into()));
        assert_eq!(spec(r"C:\clip.mp4"), Path(r"C:\clip.mp4".into()));
        assert_eq!(spec("RTSP://cam/1"), Url("rtsp://cam/1".into()));
        assert_eq!(spec("udp://@:5000?a=b"), Url("udp://@:5000?a=b".into()));
    }

    #[test]
    fn refusals_teach() {
        assert!(refused("").contains("camera:1"));
        assert!(refused("camera: ").contains("part of the name"));
        for text in ["screen:", "screen:640", "screen:640x480+1", "screen:1x1+-5+0", "screen:axb"] {
            assert!(refused(text).contains("screen:640x480+100+50"), "{text}");
        }
        assert!(refused("screen:0x9").contains("2..=8192"));
        assert!(refused("synthetic:64").contains("640x480@30"));
        assert!(refused("synthetic:32x9000").contains("64..=8192"));
        for fps in ["0", "-1", "NaN", "inf", "1e9"] {
            assert!(refused(&format!("synthetic:@{fps}")).contains("frames per second"), "{fps}");
        }
        assert!(refused("file:///etc/passwd").contains("https"));
        assert!(refused("gopher://x").contains("rtsp"));
    }
}
