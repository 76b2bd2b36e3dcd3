//! A video device that other programs read as a camera: v4l2loopback.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Error, Result};
use dreamglass_engine::{Picture, Size};

use super::encoder::{Encoder, read_pictures};
use super::letterbox::{even, fit};
use super::{Sink, Stopped};
use crate::failure::bad_input;
use crate::ffmpeg;

/// A loopback device. The first picture fixes the size, as readers expect; later ones are scaled.
pub struct Loopback {
    device: PathBuf,
    format: &'static str,
    fps: u32,
    running: Option<(Encoder, Size)>,
    count: u64,
    stopped: Option<Stopped>,
}

impl Loopback {
    /// Checks that the device is there.
    pub fn new(device: &Path, fps: u32) -> Result<Self> {
        check(device)?;
        Ok(Self::with_format(device, "v4l2", fps))
    }
    fn with_format(device: &Path, format: &'static str, fps: u32) -> Self {
        let fps = fps.max(1);
        Self { device: device.into(), format, fps, running: None, count: 0, stopped: None }
    }
    fn command(&self, size: Size) -> Command {
        let mut command = ffmpeg::command("ffmpeg");
        read_pictures(&mut command, size, &self.fps.to_string());
        // Readers take small untagged video for BT.601, as webcams send it.
        command.args(["-vf", "scale=out_color_matrix=bt601:out_range=tv", "-pix_fmt", "yuv420p"]);
        command.args(ffmpeg::passthrough()).args(["-c:v", "rawvideo", "-f", self.format]).arg(&self.device);
        command
    }
    fn send(&mut self, picture: &Picture) -> Result<()> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => {
                let size = even(picture.size());
                (Encoder::start(&mut self.command(size))?, size)
            }
        };
        running.0.write(fit(picture, running.1)?.as_ref())?;
        self.running = Some(running);
        self.count += 1;
        Ok(())
    }
    fn stop(&mut self, error: &Error) -> Error {
        let name = self.device.display().to_string();
        let stopped = Stopped { name, reason: format!("{error:#}"), kept: None };
        self.stopped.insert(stopped).clone().into()
    }
}

fn check(device: &Path) -> Result<()> {
    let shown = device.display();
    if !cfg!(target_os = "linux") {
        return Err(bad_input(format!("{shown}: video devices are written on Linux only")));
    }
    if !device.exists() {
        let number = shown.to_string().trim_start_matches("/dev/video").to_string();
        return Err(bad_input(format!(
            "{shown}: there is no such device: make it with \
             sudo modprobe v4l2loopback video_nr={number} card_label=Dreamglass exclusive_caps=1"
        )));
    }
    if is_device(device) { Ok(()) } else { Err(bad_input(format!("{shown}: expected a video device"))) }
}

#[cfg(unix)]
fn is_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|m| m.file_type().is_char_device())
}

#[cfg(not(unix))]
fn is_device(_: &Path) -> bool {
    false
}

impl Sink for Loopback {
    fn write(&mut self, picture: &Picture, _: Instant) -> Result<()> {
        match &self.stopped {
            Some(stopped) => Err(stopped.clone().into()),
            None => self.send(picture).map_err(|error| self.stop(&error)),
        }
    }
    fn finish(mut self: Box<Self>) -> Result<String> {
        if let Some(stopped) = self.stopped {
            return Err(stopped.into());
        }
        if let Some((mut encoder, _)) = self.running.take()
            && let Err(error) = encoder.close()
        {
            return Err(self.stop(&error));
        }
        Ok(format!("{}: {} pictures", self.device.display(), self.count))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn picture(width: u32, height: u32) -> Picture {
        Picture::new(Size::new(width, height), vec![255; (width * height * 4) as usize]).unwrap()
    }

    #[test]
    fn a_device_that_is_none() {
        let refused = |path: &Path| Loopback::new(path, 30).err().unwrap().to_string();
        if cfg!(target_os = "linux") {
            assert!(refused(Path::new("/dev/video63")).contains("video_nr=63"));
            assert!(refused(Path::new("/etc/hosts")).contains("expected a video device"));
        } else {
            assert!(refused(Path::new("/dev/video63")).contains("Linux only"));
        }
    }

    #[test]
    fn every_picture_arrives_in_one_size() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("pixels");
        let mut sink = Box::new(Loopback::with_format(&path, "rawvideo", 30));
        for (width, height) in [(32, 16), (32, 16), (64, 64), (15, 7)] {
            sink.write(&picture(width, height), Instant::now()).unwrap();
        }
        assert!((sink as Box<dyn Sink>).finish().unwrap().ends_with("pixels: 4 pictures"));
        let pixels = fs::read(path).unwrap();
        // Planes of Y, U and V.
        assert_eq!(pixels.len(), 4 * 32 * 16 * 3 / 2);
        assert_eq!((pixels[0], pixels[2 * 768]), (235, 16), "the third is narrower, with black beside it");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_device_that_refuses_stops_it() {
        // A character device, but no video device.
        let mut sink = Box::new(Loopback::new(Path::new("/dev/null"), 30).unwrap());
        let mut write = || sink.write(&picture(64, 64), Instant::now());
        let error = (0..10_000).find_map(|_| write().err()).unwrap();
        assert!(
            error.is::<Stopped>() && error.to_string().contains("/dev/null: recording stopped"),
            "{error}"
        );
        assert!((sink as Box<dyn Sink>).finish().unwrap_err().is::<Stopped>());
    }
}
