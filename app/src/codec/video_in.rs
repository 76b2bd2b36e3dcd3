//! A publisher's decoder thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Context, Result};
use bytes::Bytes;
use dreamglass_engine::{Picture, Planes};

use super::decoder::Decoder;

/// Units that wait for the decoder before some are lost: a tenth of a second's hiccup.
const WAITING: usize = 4;

/// What a decoder thread does with its results.
pub struct Outlet {
    /// Takes a picture, and when its first packet came.
    pub picture: Box<dyn Fn(Picture, Instant) + Send>,
    /// Asks the publisher for a key frame; it may be asked too often.
    pub want_key: Box<dyn Fn() + Send + Sync>,
}

/// What became of units.
#[derive(Debug, Default)]
pub struct Counts {
    /// Pictures decoded.
    pub decoded: AtomicU64,
    /// Units that came when too many waited.
    pub dropped: AtomicU64,
    /// Units that could not be read.
    pub broken: AtomicU64,
}

/// Decodes units in order; of several pictures that wait only the newest goes on.
pub struct VideoIn {
    units: Option<SyncSender<(Bytes, Instant)>>,
    /// Whether only a key frame is taken now.
    needs_key: Mutex<bool>,
    want_key: Arc<Box<dyn Fn() + Send + Sync>>,
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

impl VideoIn {
    /// Starts the thread.
    pub fn start(outlet: Outlet) -> Result<Self> {
        let (units, waiting) = sync_channel(WAITING);
        let counts = Arc::new(Counts::default());
        let want_key = Arc::new(outlet.want_key);
        let decoding = Decoding {
            decoder: Decoder::new()?,
            picture: outlet.picture,
            want_key: Arc::clone(&want_key),
            counts: Arc::clone(&counts),
        };
        let thread = thread::Builder::new().name("decoder".into()).spawn(move || decoding.run(&waiting));
        let thread = Some(thread.context("cannot start a thread")?);
        Ok(Self { units: Some(units), needs_key: Mutex::new(true), want_key, counts, thread })
    }
    /// Takes a unit that began to come `at`. Never waits: when the decoder is behind, units are dropped
    /// up to the next key frame.
    pub fn put(&self, unit: Bytes, is_key: bool, at: Instant) {
        let mut needs_key = self.needs_key.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(units) = self.units.as_ref().filter(|_| is_key || !*needs_key) else {
            (self.want_key)();
            return;
        };
        *needs_key = match units.try_send((unit, at)) {
            Ok(()) => false,
            Err(TrySendError::Full(_)) => {
                self.counts.dropped.fetch_add(1, Ordering::Relaxed);
                (self.want_key)();
                true
            }
            Err(TrySendError::Disconnected(_)) => true,
        };
    }
    /// Units were lost on the way: what refers to them is not worth decoding.
    pub fn lost(&self) {
        *self.needs_key.lock().unwrap_or_else(PoisonError::into_inner) = true;
        (self.want_key)();
    }
    /// What became of units.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Drop for VideoIn {
    fn drop(&mut self) {
        self.units = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Decoding {
    decoder: Decoder,
    picture: Box<dyn Fn(Picture, Instant) + Send>,
    want_key: Arc<Box<dyn Fn() + Send + Sync>>,
    counts: Arc<Counts>,
}

impl Decoding {
    fn run(mut self, units: &Receiver<(Bytes, Instant)>) {
        let mut next = units.recv().ok();
        while let Some((unit, at)) = next.take() {
            let decoded = self.decoder.decode(&unit);
            next = units.try_recv().ok();
            match decoded {
                // One that is out of date already need not be turned into pixels.
                Ok(Some(planes)) if next.is_none() => self.hand_on(&planes, at),
                Ok(_) => {}
                Err(error) => {
                    self.counts.broken.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!("{error:#}");
                    (self.want_key)();
                }
            }
            if next.is_none() {
                next = units.recv().ok();
            }
        }
    }
    fn hand_on(&self, planes: &Planes, at: Instant) {
        if let Ok(picture) = planes.to_picture() {
            self.counts.decoded.fetch_add(1, Ordering::Relaxed);
            (self.picture)(picture, at);
        }
    }
}
