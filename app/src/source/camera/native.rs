//! The system's cameras: V4L2, AVFoundation or Media Foundation, through nokhwa.

use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result};
use dreamglass_engine::Size;
use nokhwa::utils::{
    ApiBackend, CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType, Resolution,
};
use nokhwa::{Camera, NokhwaError};

use super::raw::RawFrame;
use super::{Asked, CameraBackend, CameraInfo, CameraStream, Format, Mode, Refusal};

/// How long a person may take to allow the camera, where the system asks.
const MAX_ASKING: Duration = Duration::from_secs(60);

/// Formats that are decoded.
const FORMATS: [FrameFormat; 6] = [
    FrameFormat::MJPEG,
    FrameFormat::YUYV,
    FrameFormat::NV12,
    FrameFormat::RAWRGB,
    FrameFormat::RAWBGR,
    FrameFormat::GRAY,
];

/// The system's cameras.
#[derive(Debug, Clone, Copy)]
pub struct Native;

struct Running {
    camera: Camera,
    mode: Mode,
}

impl CameraBackend for Native {
    fn list(&self) -> Result<Vec<CameraInfo>> {
        let found = nokhwa::query(ApiBackend::Auto).context("cannot ask for cameras")?;
        let info = |(place, info): (u32, nokhwa::utils::CameraInfo)| CameraInfo {
            index: info.index().as_index().unwrap_or(place),
            name: info.human_name(),
        };
        let mut cameras: Vec<CameraInfo> = (0..).zip(found).map(info).collect();
        cameras.sort_by_key(|info| info.index);
        Ok(cameras)
    }
    fn open(&self, index: u32, wish: Asked) -> Result<Box<dyn CameraStream>, Refusal> {
        ask_permission()?;
        let any = RequestedFormat::with_formats(RequestedFormatType::None, &FORMATS);
        let mut camera = Camera::new(CameraIndex::Index(index), any).map_err(refusal)?;
        let formats = camera.compatible_camera_formats().map_err(refusal)?;
        let modes: Vec<Mode> = formats.into_iter().map(mode).collect();
        let Some(mode) = wish.nearest(&modes) else {
            return Err(Refusal::Unusable("it offers no pictures".into()));
        };
        let exact = RequestedFormatType::Exact(camera_format(mode));
        camera.set_camera_requset(RequestedFormat::with_formats(exact, &FORMATS)).map_err(refusal)?;
        camera.open_stream().map_err(refusal)?;
        Ok(Box::new(Running { camera, mode }))
    }
}

impl CameraStream for Running {
    fn frame(&mut self) -> Result<RawFrame, Refusal> {
        let buffer = self.camera.frame().map_err(refusal)?;
        let Resolution { width_x, height_y } = buffer.resolution();
        Ok(RawFrame {
            size: Size::new(width_x, height_y),
            format: format(buffer.source_frame_format()),
            bytes: buffer.buffer().to_vec(),
        })
    }
    fn negotiated(&self) -> Mode {
        self.mode
    }
}

/// Asks the user where the system wants that; elsewhere the answer is yes at once.
fn ask_permission() -> Result<(), Refusal> {
    let (answer, asked) = mpsc::channel();
    nokhwa::nokhwa_initialize(move |is_allowed| {
        // Nobody listens to an answer that comes too late.
        let _ = answer.send(is_allowed);
    });
    match asked.recv_timeout(MAX_ASKING) {
        Ok(true) => Ok(()),
        _ => Err(Refusal::Denied),
    }
}

/// nokhwa hands errors of the system over as text.
fn refusal(error: NokhwaError) -> Refusal {
    let text = error.to_string();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["(os error 16)"]) {
        Refusal::Busy
    } else if says(&["(os error 13)", "(os error 1)"]) {
        Refusal::Denied
    } else if says(&["(os error 19)", "(os error 2)", "(os error 6)"]) {
        Refusal::Gone
    } else {
        Refusal::Unusable(text)
    }
}

fn mode(from: CameraFormat) -> Mode {
    let size = Size::new(from.width(), from.height());
    Mode { size, fps: from.frame_rate(), format: format(from.format()) }
}

fn format(from: FrameFormat) -> Format {
    match from {
        FrameFormat::MJPEG => Format::Mjpeg,
        FrameFormat::YUYV => Format::Yuyv,
        FrameFormat::NV12 => Format::Nv12,
        FrameFormat::RAWRGB => Format::Rgb,
        FrameFormat::RAWBGR => Format::Bgr,
        FrameFormat::GRAY => Format::Grey,
    }
}

fn camera_format(mode: Mode) -> CameraFormat {
    let format = match mode.format {
        Format::Mjpeg => FrameFormat::MJPEG,
        Format::Yuyv => FrameFormat::YUYV,
        Format::Nv12 => FrameFormat::NV12,
        Format::Rgb => FrameFormat::RAWRGB,
        Format::Bgr => FrameFormat::RAWBGR,
        Format::Grey => FrameFormat::GRAY,
    };
    CameraFormat::new(Resolution::new(mode.size.width, mode.size.height), format, mode.fps)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn errors_of_the_system_are_told_apart() {
        let open = |why: &str| refusal(NokhwaError::OpenDeviceError("0".into(), why.into()));
        assert_eq!(open("V4L2 Error: Device or resource busy (os error 16)"), Refusal::Busy);
        assert_eq!(open("V4L2 Error: Permission denied (os error 13)"), Refusal::Denied);
        assert_eq!(open("V4L2 Error: No such file or directory (os error 2)"), Refusal::Gone);
        let lost = NokhwaError::ReadFrameError("No such device (os error 19)".into());
        assert_eq!(refusal(lost), Refusal::Gone);
        assert!(matches!(open("(os error 22)"), Refusal::Unusable(_)));
    }

    #[test]
    fn a_camera_that_is_not_there() {
        let asked = Asked { size: Size::new(640, 480), fps: 30 };
        assert_eq!(Native.open(60, asked).err(), Some(Refusal::Gone));
        assert!(Native.list().unwrap().iter().all(|info| info.index != 60));
    }

    #[test]
    fn modes_go_there_and_back() {
        for format in FORMATS {
            let there = CameraFormat::new(Resolution::new(640, 480), format, 30);
            assert_eq!(camera_format(mode(there)), there);
        }
    }
}
