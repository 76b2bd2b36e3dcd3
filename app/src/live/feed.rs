//! The thread that reads the source.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};

use super::slot::Slot;
use super::worker::Event;
use crate::source::{self, Captured, Source};

/// A source on a thread of its own, whose newest frame waits in a slot.
pub struct Feed {
    /// The newest frame.
    pub slot: Arc<Slot<Captured>>,
    /// Frames that the source itself lost.
    lost: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    /// Starts reading `source`; `events` hears of frames, trouble and the end.
    pub fn start(source: Box<dyn Source>, events: Sender<Event>) -> Result<Self> {
        let (slot, lost) = (Arc::new(Slot::default()), Arc::new(AtomicU64::new(0)));
        let ended = Arc::new(AtomicBool::new(false));
        let reader =
            Reader { slot: Arc::clone(&slot), lost: Arc::clone(&lost), ended: Arc::clone(&ended), events };
        let thread = thread::Builder::new().name("source".into()).spawn(move || reader.read(source));
        Ok(Self { slot, lost, ended, thread: Some(thread.context("cannot start a thread")?) })
    }
}

impl Feed {
    /// Frames that the source lost or that were replaced before anybody took them.
    pub fn lost(&self) -> u64 {
        self.slot.dropped() + self.lost.load(Ordering::SeqCst)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // Sources wait at most a moment for a frame; a thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

struct Reader {
    slot: Arc<Slot<Captured>>,
    lost: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    events: Sender<Event>,
}

impl Reader {
    fn read(&self, mut source: Box<dyn Source>) {
        let mut next_index = 0;
        while !self.ended.load(Ordering::SeqCst) {
            let event = match source.next() {
                Ok(None) => continue,
                Ok(Some(source::Event::Frame(frame))) => {
                    self.lost.fetch_add(frame.index.saturating_sub(next_index), Ordering::SeqCst);
                    next_index = frame.index + 1;
                    if !self.slot.put(frame) {
                        continue;
                    }
                    Event::Frame
                }
                Ok(Some(source::Event::Trouble(reason))) => Event::Trouble(reason),
                Ok(Some(source::Event::End)) => Event::SourceEnd(None),
                Err(error) => Event::SourceEnd(Some(error)),
            };
            let is_end = matches!(event, Event::SourceEnd(_));
            if self.events.send(event).is_err() || is_end {
                return;
            }
        }
    }
}
