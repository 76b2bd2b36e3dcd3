//! `dreamglass video`: a video file, frame by frame.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Result;
use dreamglass_engine::{Engine, Picture, Settings, Size};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::VideoArgs;
use crate::config::{self, Style};
use crate::failure::INTERRUPTED;
use crate::ffmpeg::{self, Probe};
use crate::preset::Configuration;
use crate::sink::video::{Form, VideoFile};
use crate::source::video::Frames;
use crate::{interrupt, model, pipeline};

/// Stylises a video file.
pub fn run(arguments: &VideoArgs) -> Result<ExitCode> {
    let output = VideoFile::new(&arguments.output)?;
    let probe = ffmpeg::probe(&arguments.input)?;
    let files = model::files(arguments.engine.place.model())?;
    let style = Style::new(&arguments.style, &Configuration::default(), &files)?;
    let mut engine = config::engine(&arguments.engine, &files)?;
    let settings = style.settings(&engine, Size::new(probe.width, probe.height))?;

    let frames =
        Frames::open(&arguments.input, &probe)?.take(arguments.frames.map_or(usize::MAX, |n| n as usize));
    let sound = probe.has_audio.then_some(arguments.input.as_path());
    let mut writer = output.start(&Form { size: settings.size, rate: &probe.rate, sound, is_live: false })?;
    let interrupted = interrupt::watch()?;
    let bar = progress(&probe, arguments.frames);
    let started = Instant::now();
    let stylise = |frame: &Picture| stylise(&mut engine, frame, &settings, &interrupted, &bar);
    let written = pipeline::run(frames, stylise, |picture| writer.write(picture))?;
    bar.finish_and_clear();
    if written == 0 {
        // A source without frames is an error, so this is Ctrl-C before the first one.
        return Ok(ExitCode::from(INTERRUPTED));
    }
    writer.finish()?;

    let seconds = started.elapsed().as_secs_f64();
    let Size { width, height } = settings.size;
    let fps = written as f64 / seconds;
    eprintln!(
        "{}: {written} frames of {width}x{height} in {seconds:.1} s ({fps:.1} frames/s), \"{}\"",
        arguments.output.display(),
        settings.prompt
    );
    Ok(if interrupted.load(Ordering::SeqCst) { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// The next picture, or none when the user asked for the end.
fn stylise(
    engine: &mut Engine,
    frame: &Picture,
    settings: &Settings,
    interrupted: &AtomicBool,
    bar: &ProgressBar,
) -> Result<Option<Picture>> {
    if interrupted.load(Ordering::SeqCst) {
        return Ok(None);
    }
    let picture = engine.img2img(frame, settings)?;
    bar.inc(1);
    Ok(Some(picture))
}

/// A bar with frames per second and time left; nothing where standard error is no terminal.
fn progress(probe: &Probe, limit: Option<u64>) -> ProgressBar {
    let total = match (probe.frames, limit) {
        (Some(frames), Some(limit)) => Some(frames.min(limit)),
        (frames, limit) => frames.or(limit),
    };
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{wide_bar} {pos}/{len} frames  {per_sec}  {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {pos} frames  {per_sec}  {elapsed}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
