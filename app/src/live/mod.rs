//! A running stream: threads for source, engine, device and sinks around the engine's `Live`.
//!
//! Frames flow through slots that keep the newest one. Whoever shows the stream looks at its
//! [`View`] and changes it through its [`Session`].

mod drain;
mod feed;
mod host;
mod pass_through;
mod presented;
mod slot;
mod stage_times;
pub mod statistics;
mod worker;

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use dreamglass_engine::params::Value;
use dreamglass_engine::{EngineError, Gpu, GpuTensor, Params, Picture, Planes, Size};
use tokio::sync::oneshot;

pub use self::host::Host;
pub use self::presented::Presented;
pub use self::stage_times::StageTap;
use self::statistics::Statistics;
use self::worker::{Event, Worker};
use crate::model::Looks;
use crate::sink::Sink;
use crate::source::Source;

/// Takes the planes of a picture, and when its frame was taken.
pub type Tap = Arc<dyn Fn(Arc<Planes>, Instant) + Send + Sync>;

/// Answers a change: all parameters then, or why they stayed.
pub type Answer = oneshot::Sender<Result<Params, EngineError>>;

/// What a stream is started with.
pub struct Start {
    /// Device and model.
    pub host: Arc<Host>,
    /// Whether pictures go through unchanged, for trying out what is around the engine.
    pub passes_through: bool,
    /// What the model calls its looks, and what it suggests.
    pub looks: Arc<Looks>,
    /// Parameters to begin with.
    pub params: Params,
    /// Where frames come from.
    pub source: Box<dyn Source>,
    /// Where pictures go besides whoever looks at the [`View`].
    pub sinks: Vec<Box<dyn Sink>>,
    /// Whether [`OnDevice::host`] is wanted.
    pub reads_back: bool,
    /// Takes pictures for a video encoder, on the engine's thread: it must not wait.
    pub tap: Option<Tap>,
    /// Told where some frames' time goes on the device, on the engine's thread.
    pub stage_tap: Option<StageTap>,
    /// Tells when a window has presented a picture, where there is a window.
    pub presented: Option<Arc<Presented>>,
    /// Whether the stream is over when its source is; else the last picture stays.
    pub ends_with_source: bool,
    /// Ends after so many pictures.
    pub limit: Option<u64>,
    /// Called when there is something new to see, on any thread.
    pub wake: Arc<dyn Fn() + Send + Sync>,
}

/// Where a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The model is being loaded.
    Loading,
    /// No frame has come yet.
    Waiting,
    /// Kernels are being compiled for the first picture.
    Compiling,
    /// Pictures come.
    Live,
    /// The source ended: the last picture stays.
    Ended,
}

/// A picture on the device.
#[derive(Debug, Clone)]
pub struct OnDevice {
    /// RGBA8 words.
    pub pixels: GpuTensor,
    /// Its size.
    pub size: Size,
    /// Counts up with each new picture.
    pub number: u64,
    /// The same on the host, where it is read back.
    pub host: Option<Arc<Picture>>,
}

/// What can be seen of a stream.
pub struct View {
    /// The device that pictures are on; another one after a loss.
    pub gpu: Gpu,
    /// The last good picture.
    pub picture: Option<OnDevice>,
    /// The newest source frame, while [`View::wants_source`].
    pub source: Option<Arc<Picture>>,
    /// Whether source frames are wanted.
    pub wants_source: bool,
    /// What the source calls itself.
    pub source_name: String,
    /// Where the stream is.
    pub phase: Phase,
    /// Whether other plans are being made while pictures come.
    pub is_preparing: bool,
    /// What went wrong last, and when.
    pub trouble: Option<(Instant, String)>,
    /// Parameters in effect or on their way.
    pub params: Params,
    /// Rates and latencies.
    pub statistics: Statistics,
    /// Whether the stream is over.
    pub is_over: bool,
}

impl View {
    /// Notes what went wrong.
    pub fn complain(&mut self, message: String) {
        tracing::warn!("{message}");
        self.trouble = Some((Instant::now(), message));
    }
}

/// A running stream.
pub struct Session {
    view: Arc<Mutex<View>>,
    events: Sender<Event>,
    thread: Option<JoinHandle<Result<Summary>>>,
}

/// How a stream ended.
#[derive(Debug, Default)]
pub struct Summary {
    /// Rates and latencies, for people.
    pub statistics: String,
    /// What each sink wrote.
    pub written: Vec<String>,
}

impl Session {
    /// Starts the threads. Loading happens there: [`View::phase`] tells.
    pub fn start(start: Start) -> Result<Self> {
        let view = Arc::new(Mutex::new(View {
            gpu: start.host.gpu(),
            picture: None,
            source: None,
            wants_source: false,
            source_name: start.source.describe(),
            phase: Phase::Loading,
            is_preparing: false,
            trouble: None,
            params: start.params.clone(),
            statistics: Statistics::default(),
            is_over: false,
        }));
        let (events, inbox) = channel();
        let worker = Worker::new(start, Arc::clone(&view), events.clone(), inbox)?;
        let thread = thread::Builder::new().name("engine".into()).spawn(move || worker.run());
        Ok(Self { view, events, thread: Some(thread.context("cannot start a thread")?) })
    }
    /// What can be seen now.
    pub fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Sets all parameters; ones that do not go together are refused in [`View::trouble`].
    pub fn set(&self, params: Params) {
        // Nobody hears it when the stream is over.
        let _ = self.events.send(Event::Set(Box::new(params)));
    }
    /// Sets some parameters by name, all or none of them, and answers.
    pub fn change(&self, changes: Vec<(String, Value)>, answer: Answer) {
        // Whoever waits for the answer hears that the stream is over: the sender is gone.
        let _ = self.events.send(Event::Change(changes, answer));
    }
    /// Takes frames from another source from now on.
    pub fn set_source(&self, source: Box<dyn Source>) {
        let _ = self.events.send(Event::SetSource(source));
    }
    /// Adds a sink, such as a recording, while the stream runs.
    pub fn add_sink(&self, sink: Box<dyn Sink>) {
        let _ = self.events.send(Event::AddSink(sink));
    }
    /// Finishes the sinks that were there or were added; the stream goes on.
    pub fn finish_sinks(&self) {
        let _ = self.events.send(Event::FinishSinks);
    }
    /// Something that ends the stream when called.
    pub fn stopper(&self) -> impl Fn() + Send + 'static {
        let events = self.events.clone();
        move || {
            let _ = events.send(Event::Quit);
        }
    }
    /// Ends the stream, or waits for its end, and says how it went.
    pub fn join(mut self) -> Result<Summary> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            _ => Err(anyhow!("the engine's thread panicked")),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Quit);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
