//! Files, streams and screens in real time, read by ffmpeg.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use dreamglass_engine::{Picture, Size};

use super::inbox::Policy;
use super::spec::{Region, SCHEMES};
use super::stop::Stop;
use super::video::Frames;
use super::worker::{FIRST_WAIT, Feed, Habits, Next, Opened, Stream, Worker};
use crate::ffmpeg::{self, Input, Probe};

/// How long a URL may take to say what it is.
const MAX_PROBE: Duration = Duration::from_secs(15);

/// Silence of a stream after which a new connection is made.
const MAX_SILENCE: Duration = Duration::from_secs(10);

/// How long a URL or device may take to its first frame.
const MAX_OPENING: Duration = Duration::from_secs(30);

/// Frames that are decoded ahead of their time.
const AHEAD: usize = 2;

/// Most frames per second: more are not looked at, and some containers count 1000 where there are few.
const MAX_FPS: f64 = 60.0;

/// How something is read.
#[derive(Debug, Clone)]
pub struct Recipe {
    input: Input,
    crop: Option<Region>,
    /// Shown at the rate that the file says, or as frames come.
    is_paced: bool,
    /// Starts again at its end.
    repeats: bool,
    /// Whether a failure may pass, as those of networks do.
    retries: bool,
    /// What it means when ffprobe refuses.
    verdict: &'static str,
    first_wait: Duration,
}

impl Recipe {
    /// A file.
    pub fn file(path: &Path, repeats: bool) -> Self {
        Self {
            input: Input::file(path),
            crop: None,
            is_paced: true,
            repeats,
            retries: false,
            verdict: "neither a picture nor a video",
            first_wait: FIRST_WAIT,
        }
    }
    /// A URL with one of [`SCHEMES`].
    pub fn url(url: &str, repeats: bool) -> Self {
        let scheme = url.split(':').next().unwrap_or_default();
        // Files behind http come faster than they are shown; the others send what happens now.
        let is_paced = scheme.starts_with("http");
        let whitelist = format!("{},tcp,tls,crypto,data", SCHEMES.join(","));
        let mut options = vec!["-protocol_whitelist".into(), whitelist];
        if !is_paced {
            options.extend(["-fflags", "nobuffer", "-flags", "low_delay"].map(String::from));
            // A second tells what there is; the default is five, twice, before the first picture.
            options.extend(["-analyzeduration", "1000000"].map(String::from));
        }
        if scheme.starts_with("rtsp") {
            // Lost packets of the default, UDP, smear the picture until the next key frame.
            options.extend(["-rtsp_transport", "tcp"].map(String::from));
        }
        let input = Input { options, url: url.into(), shown: without_password(url) };
        let verdict = "cannot be opened";
        Self { input, crop: None, is_paced, repeats, retries: true, verdict, first_wait: FIRST_WAIT }
    }
    /// Frames of a device in their own time, or a part of each.
    pub fn device(input: Input, crop: Option<Region>) -> Self {
        Self {
            input,
            crop,
            is_paced: false,
            repeats: false,
            retries: true,
            verdict: "cannot be captured",
            first_wait: FIRST_WAIT,
        }
    }
    /// What ffprobe says.
    pub fn probe(&self, stop: &Stop) -> Result<Probe> {
        let started = Instant::now();
        let is_enough = || stop.is_raised() || self.retries && started.elapsed() > MAX_PROBE;
        ffmpeg::probe_input(&self.input, self.verdict, is_enough)
    }
}

/// Starts a worker that reads it.
pub fn decoded(recipe: Recipe) -> Result<Worker> {
    let policy = if recipe.is_paced { Policy::Wait(AHEAD) } else { Policy::Newest };
    let max_silence = recipe.retries.then_some(MAX_SILENCE);
    let first_wait = recipe.first_wait;
    let max_opening = recipe.retries.then_some(MAX_OPENING);
    Worker::start(recipe, Habits { policy, first_wait, max_silence, max_opening })
}

impl Feed for Recipe {
    fn open(&mut self, stop: &Stop) -> Result<Opened> {
        let mut probe = self.probe(stop)?;
        if let Some(Region { size, .. }) = self.crop {
            (probe.width, probe.height) = (size.width, size.height);
        }
        let fps = probe.fps().min(MAX_FPS);
        let frames = if self.is_paced {
            let rate = if probe.fps() > MAX_FPS { MAX_FPS.to_string() } else { probe.rate.clone() };
            let mut input = self.input.clone();
            if self.repeats {
                input.options.extend(["-stream_loop", "-1"].map(String::from));
            }
            Frames::start(&input, &probe, &format!("fps={rate}"), &[])?
        } else {
            let filter = self.crop.map_or_else(String::new, crop_filter);
            Frames::start(&self.input, &probe, &filter, &ffmpeg::passthrough())?
        };
        stop.hold(frames.child());
        let mut decoding = Decoding { frames, recipe: self.clone(), probe, first: None };
        // What cannot be decoded at all is told now, not as trouble later.
        match decoding.frames.next() {
            Some(first) => decoding.first = Some(first?),
            None => bail!("{}: has no frame", self.input.shown),
        }
        let text = decoding.describe(fps);
        Ok(Opened { stream: Box::new(decoding), text, rate: self.is_paced.then_some(fps) })
    }
}

struct Decoding {
    frames: Frames,
    recipe: Recipe,
    probe: Probe,
    first: Option<Picture>,
}

impl Decoding {
    fn describe(&self, fps: f64) -> String {
        let Probe { width, height, .. } = self.probe;
        let fps = (fps * 100.0).round() / 100.0;
        format!("{}, {width}x{height} {fps} fps", self.recipe.input.shown)
    }
    /// What the last frame means.
    fn end(&self) -> Result<Next> {
        let shown = &self.recipe.input.shown;
        if !self.recipe.retries {
            return Ok(Next::End);
        }
        if let Some(failure) = self.frames.failure() {
            bail!("{shown}: {}", failure.replace(&*self.recipe.input.url.to_string_lossy(), shown));
        }
        // What has a length ends there; an error of the network often looks like an end.
        let is_whole = self.probe.frames.is_some_and(|n| self.frames.decoded() >= n * 9 / 10);
        if is_whole && !self.recipe.repeats {
            Ok(Next::End)
        } else {
            Err(anyhow!("{shown}: the stream ended"))
        }
    }
}

impl Stream for Decoding {
    fn next(&mut self) -> Result<Next> {
        match self.first.take().map(Ok).or_else(|| self.frames.next()) {
            Some(picture) => picture.map(Next::Picture),
            None => self.end(),
        }
    }
}

fn crop_filter(region: Region) -> String {
    let Region { size: Size { width, height }, x, y } = region;
    format!("crop={width}:{height}:{x}:{y}")
}

/// A URL without what follows `user:` in it.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.into() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':')) {
        Some((user, password)) => {
            let after = &rest[user.len() + 1 + password.len()..];
            format!("{scheme}://{user}:***{after}")
        }
        None => url.into(),
    }
}

#[cfg(test)]
mod tests;
