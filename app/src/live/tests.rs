//! Whole streams with the embedded model on the default adapter.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use dreamglass_engine::kernels::DType;
use dreamglass_engine::kernels::gpu::GpuOptions;

use super::*;
use crate::model;
use crate::sink::Stopped;
use crate::source::barcode::decode_counter;
use crate::source::{self, Options};

/// Pictures as a sink saw them, and when.
type Seen = Arc<Mutex<Vec<(Picture, Instant)>>>;

struct Watching {
    seen: Seen,
    /// Fails after so many pictures.
    limit: usize,
}

impl Sink for Watching {
    fn write(&mut self, picture: &Picture, at: Instant) -> Result<()> {
        let mut seen = self.seen.lock().unwrap();
        if seen.len() == self.limit {
            let (name, reason) = ("watching".into(), "the disk is full".into());
            return Err(Stopped { name, reason, kept: None }.into());
        }
        seen.push((picture.clone(), at));
        Ok(())
    }
    fn finish(self: Box<Self>) -> Result<String> {
        Ok(format!("{} pictures", self.seen.lock().unwrap().len()))
    }
}

fn start(params: Params, source: Box<dyn Source>, limit: Option<u64>) -> (Start, Seen) {
    let gpu = Gpu::open(&GpuOptions::default()).unwrap();
    let files = model::files(Path::new("demo")).unwrap();
    let looks = Looks::open(&files).unwrap();
    let seen = Seen::default();
    let start = Start {
        gpu,
        reopen: Box::new(|| bail!("not in this test")),
        files,
        options: EngineOptions { dtype: DType::F32, vae: None },
        looks,
        params,
        source,
        sinks: vec![Box::new(Watching { seen: Arc::clone(&seen), limit: usize::MAX })],
        ends_with_source: true,
        limit,
        wake: Arc::new(|| ()),
    };
    (start, seen)
}

fn source(text: &str) -> Box<dyn Source> {
    source::open(&text.parse().unwrap(), &Options::default()).unwrap()
}

/// So little noise that the counter in the picture can be read behind the model.
fn nearly_unchanged() -> Params {
    Params {
        prompt: "a photo".into(),
        strength: Some(0.02),
        steps: Some(1),
        size: Some(Size::new(256, 256)),
        ..Params::default()
    }
}

/// The source is many times faster than the device: each picture is of the newest frame when its
/// job started, so none is older than the jobs in flight and the frame that waited.
#[test]
fn pictures_are_of_the_newest_frames() {
    const FPS: f64 = 60.0;
    let (start, seen) = start(nearly_unchanged(), source("synthetic:256x256@60"), Some(24));
    let began = Instant::now();
    let session = Session::start(start).unwrap();
    let summary = session.join().unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen.len() >= 20, "{summary:?}");
    let counters: Vec<u64> = seen.iter().map(|(p, _)| decode_counter(p).expect("a counter")).collect();
    assert!(counters.windows(2).all(|w| w[1] > w[0]), "{counters:?}");
    // The first pictures waited for the compiler.
    let steady: Vec<(f64, f64)> = seen[4..]
        .iter()
        .zip(&counters[4..])
        .map(|((_, at), counter)| (at.duration_since(began).as_secs_f64(), *counter as f64 / FPS))
        .collect();
    let longest = steady.windows(2).map(|w| w[1].0 - w[0].0).fold(0.0, f64::max);
    // The source began after `began`: by how much, the freshest picture tells.
    for (shown_at, taken_at) in &steady {
        let lag = shown_at - taken_at;
        assert!(lag >= 0.0, "{lag}");
        let bound = 3.0 * longest + 2.0;
        assert!(lag <= bound, "a picture is {lag:.2} s old, the slowest took {longest:.2} s");
    }
    // Lag does not grow: what waits is replaced, not queued.
    let (first, last) = (steady[0], steady[steady.len() - 1]);
    let growth = (last.0 - last.1) - (first.0 - first.1);
    assert!(growth <= 2.0 * longest, "the lag grew by {growth:.2} s");
}

#[test]
fn a_prompt_and_a_size_change_while_it_runs() {
    let (start, seen) = start(nearly_unchanged(), source("synthetic:256x256@30"), None);
    let session = Session::start(start).unwrap();
    let wait_for = |count: usize| {
        let began = Instant::now();
        while seen.lock().unwrap().len() < count {
            assert!(began.elapsed() < Duration::from_secs(120), "no picture comes");
            thread::sleep(Duration::from_millis(5));
        }
    };
    wait_for(3);
    let smaller = Params { size: Some(Size::new(192, 256)), ..nearly_unchanged() };
    session.set(smaller.clone());
    session.set(Params { prompt: "a charcoal drawing".into(), strength: Some(0.2), ..smaller });
    let is_small = |(picture, _): &(Picture, Instant)| picture.size() == Size::new(192, 256);
    let began = Instant::now();
    while !seen.lock().unwrap().last().is_some_and(is_small) {
        assert!(began.elapsed() < Duration::from_secs(120), "the size does not change");
        thread::sleep(Duration::from_millis(5));
    }
    // What cannot be is refused, and the stream goes on.
    session.set(Params { size: Some(Size::new(100, 100)), ..nearly_unchanged() });
    let count = seen.lock().unwrap().len();
    wait_for(count + 4);
    let trouble = session.view().trouble.as_ref().map(|(_, message)| message.clone());
    assert!(trouble.is_some_and(|t| t.contains("100x100")));
    let seen = seen.lock().unwrap();
    assert!(is_small(&seen[seen.len() - 1]));
    assert_eq!(session.view().params.prompt, "a charcoal drawing");
}

#[test]
fn a_full_disk_ends_the_recording_and_not_the_stream() {
    let (mut start, seen) = start(nearly_unchanged(), source("synthetic:256x256@30"), Some(12));
    let full = Seen::default();
    start.sinks.push(Box::new(Watching { seen: Arc::clone(&full), limit: 2 }));
    let session = Session::start(start).unwrap();
    let summary = session.join().unwrap();
    assert_eq!(full.lock().unwrap().len(), 2);
    assert!(seen.lock().unwrap().len() > 8, "{summary:?}");
}

/// A source that breaks after a few frames.
struct Breaking {
    source: Box<dyn Source>,
    frames: u32,
    error: Option<&'static str>,
}

impl Source for Breaking {
    fn next(&mut self) -> Result<Option<source::Event>> {
        if self.frames == 0 {
            return match self.error {
                Some(error) => bail!(error),
                None => Ok(Some(source::Event::End)),
            };
        }
        let event = self.source.next()?;
        self.frames -= u32::from(matches!(event, Some(source::Event::Frame(_))));
        Ok(event)
    }
    fn describe(&self) -> String {
        "a breaking source".into()
    }
}

#[test]
fn a_source_that_ends_or_breaks_ends_the_stream_with_its_last_frame_shown() {
    for error in [None, Some("the plug was pulled")] {
        let breaking = Breaking { source: source("synthetic:256x256@30"), frames: 3, error };
        let (start, seen) = start(nearly_unchanged(), Box::new(breaking), None);
        let result = Session::start(start).unwrap().join();
        match error {
            None => drop(result.unwrap()),
            Some(error) => assert!(result.unwrap_err().to_string().contains(error)),
        }
        let seen = seen.lock().unwrap();
        assert_eq!(decode_counter(&seen.last().unwrap().0), Some(2));
    }
}
