//! A source whose frames come from a publisher.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use dreamglass_engine::Picture;

use super::{Captured, Event, Source};

/// Longest wait for a frame.
const PATIENCE: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct Slot {
    newest: Option<Captured>,
    frames: u64,
    trouble: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    slot: Mutex<Slot>,
    changed: Condvar,
}

impl Shared {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what a publisher sends. The newest frame wins.
#[derive(Debug)]
pub struct Remote {
    name: String,
    shared: Arc<Shared>,
}

/// Where a publisher's frames are put.
#[derive(Debug, Clone)]
pub struct RemoteSender(Arc<Shared>);

/// A source called `name`, and where its frames are put.
pub fn remote(name: impl Into<String>) -> (Remote, RemoteSender) {
    let shared = Arc::new(Shared::default());
    (Remote { name: name.into(), shared: Arc::clone(&shared) }, RemoteSender(shared))
}

impl RemoteSender {
    /// A frame that was taken `captured_at`.
    pub fn put(&self, picture: Picture, captured_at: Instant) {
        let mut slot = self.0.slot();
        slot.newest = Some(Captured { index: slot.frames, captured_at, picture });
        slot.frames += 1;
        drop(slot);
        self.0.changed.notify_one();
    }
    /// No frames come now, for this reason.
    pub fn trouble(&self, reason: String) {
        self.0.slot().trouble = Some(reason);
        self.0.changed.notify_one();
    }
}

impl Source for Remote {
    fn next(&mut self) -> Result<Option<Event>> {
        let is_idle = |slot: &mut Slot| slot.newest.is_none() && slot.trouble.is_none();
        let waited = self.shared.changed.wait_timeout_while(self.shared.slot(), PATIENCE, is_idle);
        let mut slot = waited.unwrap_or_else(PoisonError::into_inner).0;
        if let Some(frame) = slot.newest.take() {
            return Ok(Some(Event::Frame(frame)));
        }
        Ok(slot.trouble.take().map(Event::Trouble))
    }
    fn describe(&self) -> String {
        self.name.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use dreamglass_engine::Size;

    use super::*;

    #[test]
    fn the_newest_frame_wins_and_the_lost_ones_can_be_counted() {
        let (mut source, sender) = remote("a browser");
        assert!(source.next().unwrap().is_none());
        for n in 0..3 {
            sender.put(Picture::new(Size::new(1, 1), vec![n; 4]).unwrap(), Instant::now());
        }
        sender.trouble("gone".into());
        let Some(Event::Frame(frame)) = source.next().unwrap() else { panic!("no frame") };
        assert_eq!((frame.index, frame.picture.rgba()[0]), (2, 2));
        assert!(matches!(source.next().unwrap(), Some(Event::Trouble(t)) if t == "gone"));
        assert_eq!(source.describe(), "a browser");
    }
}
