//! Whole streams with the embedded model on the default adapter.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::bail;
use dreamglass_engine::EngineOptions;
use dreamglass_engine::kernels::DType;
use dreamglass_engine::kernels::gpu::GpuOptions;
use dreamglass_engine::params::Batching;

use super::host::Opener;
use super::*;
use crate::model;
use crate::sink::Stopped;
use crate::source::barcode::decode_counter;
use crate::source::{self, Options};

/// Pictures as a sink saw them, when, and the newest frame of the source by then.
type Seen = Arc<Mutex<Vec<(Picture, Instant, u64)>>>;

struct Watching {
    seen: Seen,
    newest: Arc<AtomicU64>,
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
        seen.push((picture.clone(), at, self.newest.load(Ordering::SeqCst)));
        Ok(())
    }
    fn finish(self: Box<Self>) -> Result<String> {
        Ok(format!("{} pictures", self.seen.lock().unwrap().len()))
    }
}

/// A source that tells which frame is its newest.
struct Telling {
    source: Box<dyn Source>,
    newest: Arc<AtomicU64>,
}

impl Source for Telling {
    fn next(&mut self) -> Result<Option<source::Event>> {
        let event = self.source.next()?;
        if let Some(source::Event::Frame(frame)) = &event {
            self.newest.store(frame.index, Ordering::SeqCst);
        }
        Ok(event)
    }
    fn describe(&self) -> String {
        self.source.describe()
    }
}

fn host(reopen: Opener) -> Arc<Host> {
    let gpu = Gpu::open(&GpuOptions::default()).unwrap();
    let files = model::files(Path::new("demo")).unwrap();
    Host::new(gpu, reopen, files, EngineOptions { dtype: DType::F32, ..Default::default() })
}

fn start(params: Params, source: Box<dyn Source>, limit: Option<u64>) -> (Start, Seen) {
    let newest = Arc::new(AtomicU64::new(0));
    let source = Box::new(Telling { source, newest: Arc::clone(&newest) });
    let files = model::files(Path::new("demo")).unwrap();
    let looks = Looks::open(&files).unwrap();
    let seen = Seen::default();
    let start = Start {
        host: host(Box::new(|| bail!("not in this test"))),
        passes_through: false,
        looks: Arc::new(looks),
        params,
        source,
        sinks: vec![Box::new(Watching { seen: Arc::clone(&seen), newest, limit: usize::MAX })],
        reads_back: false,
        tap: None,
        stage_tap: None,
        presented: None,
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
/// job started, so none is older than the jobs in flight and those of the batch.
#[test]
fn pictures_are_of_the_newest_frames() {
    const FPS: f64 = 60.0;
    // Jobs in flight, and the slots of the batch before the last.
    for (steps, batching, behind) in [(1, Batching::Latency, 2.0), (2, Batching::Throughput, 3.0)] {
        let params = Params { steps: Some(steps), strength: Some(0.04), batching, ..nearly_unchanged() };
        let (start, seen) = start(params, source("synthetic:256x256@60"), Some(20));
        let summary = Session::start(start).unwrap().join().unwrap();
        let seen = seen.lock().unwrap();
        assert!(seen.len() >= 16, "{summary:?}");
        let counters: Vec<u64> = seen.iter().map(|(p, ..)| decode_counter(p).expect("a counter")).collect();
        assert!(counters.windows(2).all(|w| w[1] > w[0]), "{counters:?}");
        // The first pictures waited for the compiler.
        let steady = &seen[4..];
        let slowest = steady.windows(2).map(|w| (w[1].1 - w[0].1).as_secs_f64()).fold(0.0, f64::max);
        // A tenth for what the sink's thread waits on busy cores, and the frames on the way to slots.
        let bound = 1.1 * behind * slowest * FPS + 3.0;
        for ((_, _, newest), counter) in steady.iter().zip(&counters[4..]) {
            let lag = newest.saturating_sub(*counter);
            assert!(
                lag as f64 <= bound,
                "{lag} frames behind, at most {bound:.0}: {batching:?} {slowest:.2} s"
            );
        }
        let lags = [&steady[0], &steady[steady.len() - 1]].map(|(_, _, newest)| *newest);
        let growth = (lags[1] - counters[counters.len() - 1]) as f64 - (lags[0] - counters[4]) as f64;
        assert!(growth <= slowest * FPS + 2.0, "the lag grew by {growth} frames: something queues");
    }
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
    let is_small = |(picture, ..): &(Picture, Instant, u64)| picture.size() == Size::new(192, 256);
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
    let watching = Watching { seen: Arc::clone(&full), newest: Arc::default(), limit: 2 };
    start.sinks.push(Box::new(watching));
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

#[test]
fn a_lost_device_is_opened_again_and_the_stream_goes_on() {
    let (mut start, seen) = start(nearly_unchanged(), source("synthetic:256x256@30"), None);
    start.host = host(Box::new(|| Ok(Gpu::open(&GpuOptions::default())?)));
    let session = Session::start(start).unwrap();
    for count in [3, 6] {
        let began = Instant::now();
        while seen.lock().unwrap().len() < count {
            assert!(began.elapsed() < Duration::from_secs(120), "no picture comes");
            thread::sleep(Duration::from_millis(5));
        }
        if count == 3 {
            let gpu = session.view().gpu.clone();
            gpu.device().destroy();
        }
    }
    let trouble = session.view().trouble.as_ref().map(|(_, message)| message.clone());
    assert!(trouble.is_some_and(|t| t.contains("lost")));
    let pictures = seen.lock().unwrap();
    let counters: Vec<Option<u64>> = pictures.iter().map(|(p, ..)| decode_counter(p)).collect();
    assert!(counters.windows(2).all(|w| w[0].is_some() && w[1] > w[0]), "{counters:?}");
}

#[test]
fn a_device_that_stays_lost_ends_the_stream_with_a_clear_error() {
    let (start, seen) = start(nearly_unchanged(), source("synthetic:256x256@30"), None);
    let session = Session::start(start).unwrap();
    let began = Instant::now();
    while seen.lock().unwrap().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(120), "no picture comes");
        thread::sleep(Duration::from_millis(5));
    }
    let gpu = session.view().gpu.clone();
    gpu.device().destroy();
    let error = format!("{:#}", session.join().unwrap_err());
    assert!(error.contains("the device was lost") && error.contains("not in this test"), "{error}");
}
