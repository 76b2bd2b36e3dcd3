//! Streams by name on one device, for whoever serves them: each with its parameters, its encoder, its
//! publisher and its viewers.
//!
//! `main` is always there and has the server's own source. A publisher to another name makes a stream of
//! that name, which ends a while after the publisher.

mod channel;
pub mod report;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use dreamglass_engine::{LoraFile, Params};

pub use self::channel::{Channel, Notice, Publication, Refusal};
use crate::codec::video_out;
use crate::live::{Host, Summary};
use crate::model::Looks;
use crate::sink::Sink;
use crate::source::Source;

/// The stream that is always there.
pub const MAIN: &str = "main";

/// How often streams are looked at for what is new.
const GLANCE: Duration = Duration::from_millis(40);

/// Opens the server's own source.
pub type SourceOpener = Arc<dyn Fn() -> Result<Box<dyn Source>> + Send + Sync>;

/// What streams are made of.
pub struct Setup {
    /// Device and model.
    pub host: Arc<Host>,
    /// Looks of the model.
    pub looks: Arc<Looks>,
    /// What new streams begin with.
    pub params: Params,
    /// Whether pictures go through unchanged.
    pub passes_through: bool,
    /// The server's own source.
    pub source: SourceOpener,
    /// Most streams, [`MAIN`] among them.
    pub max_streams: usize,
    /// How long a stream outlives its publisher.
    pub linger: Duration,
    /// How video is coded.
    pub video: video_out::Setup,
}

/// All streams.
pub struct Hub {
    shared: Arc<Shared>,
    watch: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    setup: Setup,
    streams: Mutex<BTreeMap<String, Arc<Channel>>>,
    is_over: AtomicBool,
}

impl Hub {
    /// Starts [`MAIN`] with the server's source, which must open; its pictures go to `sinks`, too.
    pub fn start(setup: Setup, sinks: Vec<Box<dyn Sink>>) -> Result<Self> {
        let source = (setup.source)()?;
        let main = Channel::start(MAIN, &setup, source, sinks)?;
        let streams = Mutex::new(BTreeMap::from([(MAIN.to_string(), main)]));
        let shared = Arc::new(Shared { setup, streams, is_over: AtomicBool::new(false) });
        let watched = Arc::clone(&shared);
        let watch = thread::Builder::new().name("hub".into()).spawn(move || watched.watch());
        Ok(Self { shared, watch: Mutex::new(Some(watch.context("cannot start a thread")?)) })
    }
    /// The stream called `name`.
    pub fn stream(&self, name: &str) -> Option<Arc<Channel>> {
        self.shared.streams().get(name).cloned()
    }
    /// All streams, by name.
    pub fn streams(&self) -> Vec<Arc<Channel>> {
        self.shared.streams().values().cloned().collect()
    }
    /// Whether somebody could publish to `name` now.
    ///
    /// # Errors
    /// Why not.
    pub fn may_publish(&self, name: &str) -> Result<(), Refusal> {
        self.shared.check(&self.shared.streams(), name)
    }
    /// The stream called `name` for a publisher, made where there is none yet.
    pub fn publish(&self, name: &str) -> Result<Publication, Refusal> {
        let mut streams = self.shared.streams();
        self.shared.check(&streams, name)?;
        if let Some(channel) = streams.get(name) {
            return channel.publish();
        }
        let nothing = crate::source::remote::remote("a publisher").0;
        let channel = Channel::start(name, &self.shared.setup, Box::new(nothing), Vec::new())
            .map_err(|error| Refusal::Failed(format!("{error:#}")))?;
        let publication = channel.publish();
        streams.insert(name.to_string(), channel);
        publication
    }
    /// Looks of the model.
    pub fn looks(&self) -> &Looks {
        &self.shared.setup.looks
    }
    /// The LoRAs that the model is loaded with.
    pub fn loras(&self) -> &[LoraFile] {
        self.shared.setup.host.loras()
    }
    /// The device's name and the bytes that are allocated on it.
    pub fn device(&self) -> (String, u64) {
        let gpu = self.shared.setup.host.gpu();
        (gpu.summary().name.clone(), gpu.counters().allocated_bytes)
    }
    /// Tells all viewers, ends all streams and finishes their files.
    pub fn shut_down(&self, reason: &str) -> Vec<(String, Result<Summary>)> {
        self.shared.is_over.store(true, Ordering::SeqCst);
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(watch) = watch {
            let _ = watch.join();
        }
        let streams = std::mem::take(&mut *self.shared.streams());
        streams.into_iter().filter_map(|(name, channel)| Some((name, channel.end(reason)?))).collect()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shut_down("the server ends");
    }
}

impl Shared {
    fn streams(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Channel>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn check(&self, streams: &BTreeMap<String, Arc<Channel>>, name: &str) -> Result<(), Refusal> {
        let Setup { max_streams, .. } = self.setup;
        match streams.get(name) {
            Some(channel) if channel.has_publisher() => Err(Refusal::Busy),
            Some(_) => Ok(()),
            None if !is_name(name) => Err(Refusal::Name),
            None if streams.len() >= max_streams || self.is_over.load(Ordering::SeqCst) => {
                Err(Refusal::Full { max_streams })
            }
            None => Ok(()),
        }
    }
    /// Tells what is new, and ends streams that nobody publishes to.
    fn watch(&self) {
        while !self.is_over.load(Ordering::SeqCst) {
            let channels: Vec<Arc<Channel>> = self.streams().values().cloned().collect();
            for channel in channels {
                channel.look();
                let is_old = channel.name() != MAIN && channel.is_deserted(self.setup.linger);
                if is_old || channel.is_over() {
                    // The lock is held, so that nobody begins to publish to it meanwhile.
                    let mut streams = self.streams();
                    if channel.is_over() || channel.is_deserted(self.setup.linger) {
                        if channel.name() != MAIN {
                            streams.remove(channel.name());
                        }
                        drop(streams);
                        let reason = match channel.is_over() {
                            true => "the stream has failed",
                            false => "nobody publishes to this stream any more",
                        };
                        if let Some(Err(error)) = channel.end(reason) {
                            tracing::error!("stream {}: {error:#}", channel.name());
                        }
                    }
                }
            }
            thread::sleep(GLANCE);
        }
    }
}

/// Whether a stream can be called `name`: up to 32 small letters, digits, `-` and `_`.
pub fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    (1..=32).contains(&name.len()) && name.chars().all(is_plain)
}

#[cfg(test)]
pub(crate) mod tests;
