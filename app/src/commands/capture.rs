//! Which source a stream begins with, and where its pictures go.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

use crate::cli::CaptureArgs;
use crate::failure::bad_input;
use crate::ffmpeg;
use crate::preset::Configuration;
use crate::sink::{self, Sink};
use crate::source::spec::SourceSpec;
use crate::source::{self, Options, Source, Wish};

/// What is shown where there is no camera.
const CLIP: &[u8] = include_bytes!("../../assets/signing.mp4");

/// Frames per second of files and devices.
const SINK_FPS: u32 = 30;

/// A source that can be opened, and again.
#[derive(Debug)]
pub struct Capture {
    spec: SourceSpec,
    options: Options,
    /// The clip inside the program, as long as it may be read.
    _clip: Option<NamedTempFile>,
}

impl Capture {
    /// The source that was asked for, else the first camera, else the clip inside the program.
    pub fn choose(arguments: &CaptureArgs, configuration: &Configuration, repeats: bool) -> Result<Self> {
        let wish = Wish { size: arguments.capture_size, fps: arguments.capture_fps };
        let slide_time = Duration::from_secs_f64(arguments.slide_time);
        let options = Options { wish, repeats, slide_time };
        let said = arguments.said(configuration).filter(|text| *text != "auto");
        if let Some(text) = said {
            return Ok(Self { spec: text.parse().map_err(bad_input)?, options, _clip: None });
        }
        match source::camera::list() {
            Ok(cameras) if !cameras.is_empty() => {
                return Ok(Self { spec: SourceSpec::Camera(None), options, _clip: None });
            }
            Ok(_) => tracing::info!("there is no camera"),
            Err(error) => tracing::warn!("cameras cannot be listed: {error:#}"),
        }
        if !ffmpeg::is_there() {
            eprintln!("no camera, and no ffmpeg to read the clip inside the program: showing a test card");
            return Ok(Self { spec: "synthetic".parse().map_err(bad_input)?, options, _clip: None });
        }
        eprintln!("no camera: showing the clip inside the program");
        let mut clip = tempfile::Builder::new().prefix("dreamglass-").suffix(".mp4").tempfile()?;
        clip.write_all(CLIP).context("cannot write the clip inside the program to the temporary folder")?;
        let options = Options { repeats: true, ..options };
        Ok(Self { spec: SourceSpec::Path(clip.path().into()), options, _clip: Some(clip) })
    }
    /// Opens it.
    pub fn open(&self) -> Result<Box<dyn Source>> {
        source::open(&self.spec, &self.options)
    }
}

/// Opens the files and devices that pictures go to: those that were said, else the configuration's.
pub fn sinks(said: &[String], configuration: &Configuration) -> Result<Vec<Box<dyn Sink>>> {
    let said = if said.is_empty() { &configuration.output } else { said };
    said.iter()
        .map(|text| sink::open(&text.parse().map_err(bad_input)?, SINK_FPS))
        .collect::<Result<Vec<_>>>()
}
