//! The thread that writes pictures to files and devices, so that a slow disk never slows the stream.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Context, Result};
use dreamglass_engine::Picture;

use crate::sink::{Sink, Stopped};

/// Pictures that wait for a disk's hiccup.
const WAITING: usize = 8;

/// What the writing thread says.
pub enum Word {
    /// A sink stopped; the others go on.
    Trouble(String),
}

/// Sinks on a thread of their own.
pub struct Drain {
    pictures: Option<SyncSender<(Arc<Picture>, Instant)>>,
    thread: Option<JoinHandle<Vec<Result<String>>>>,
    /// Pictures that were not written because the disk was too slow.
    pub dropped: u64,
}

impl Drain {
    /// Starts writing to `sinks`; `tell` hears of trouble.
    pub fn start(sinks: Vec<Box<dyn Sink>>, tell: impl Fn(Word) + Send + 'static) -> Result<Self> {
        let (pictures, waiting) = sync_channel(WAITING);
        let thread = thread::Builder::new().name("sinks".into());
        let thread = thread.spawn(move || write(sinks, &waiting, tell)).context("cannot start a thread")?;
        Ok(Self { pictures: Some(pictures), thread: Some(thread), dropped: 0 })
    }
    /// Takes a picture, or counts it as dropped.
    pub fn put(&mut self, picture: Arc<Picture>) {
        let Some(pictures) = &self.pictures else { return };
        if let Err(TrySendError::Full(_)) = pictures.try_send((picture, Instant::now())) {
            self.dropped += 1;
        }
    }
    /// Finishes all files: what each sink wrote, or why it did not.
    pub fn finish(mut self) -> Vec<Result<String>> {
        self.pictures = None;
        let written = self.thread.take().map(JoinHandle::join);
        written.and_then(Result::ok).unwrap_or_default()
    }
}

fn write(
    sinks: Vec<Box<dyn Sink>>,
    pictures: &Receiver<(Arc<Picture>, Instant)>,
    tell: impl Fn(Word),
) -> Vec<Result<String>> {
    let mut sinks: Vec<(Box<dyn Sink>, bool)> = sinks.into_iter().map(|s| (s, true)).collect();
    for (picture, at) in pictures {
        for (sink, works) in sinks.iter_mut().filter(|(_, works)| *works) {
            if let Err(error) = sink.write(&picture, at) {
                *works = false;
                let is_known = error.downcast_ref::<Stopped>().is_some();
                let message =
                    if is_known { format!("{error}") } else { format!("recording stopped: {error:#}") };
                tell(Word::Trouble(message));
            }
        }
    }
    sinks.into_iter().map(|(sink, _)| sink.finish()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use std::sync::Mutex;

    use anyhow::bail;
    use dreamglass_engine::Size;

    use super::*;

    struct Counting {
        seen: Arc<Mutex<Vec<u8>>>,
        limit: usize,
    }

    impl Sink for Counting {
        fn write(&mut self, picture: &Picture, _: Instant) -> Result<()> {
            let mut seen = self.seen.lock().unwrap();
            if seen.len() == self.limit {
                bail!("the disk is full");
            }
            seen.push(picture.rgba()[0]);
            Ok(())
        }
        fn finish(self: Box<Self>) -> Result<String> {
            Ok(format!("{} pictures", self.seen.lock().unwrap().len()))
        }
    }

    #[test]
    fn a_full_disk_ends_one_recording_and_not_the_others() {
        let seen = [Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new()))];
        let troubles = Arc::new(Mutex::new(Vec::new()));
        let sink =
            |at: usize, limit| -> Box<dyn Sink> { Box::new(Counting { seen: Arc::clone(&seen[at]), limit }) };
        let heard = Arc::clone(&troubles);
        let tell = move |Word::Trouble(message)| heard.lock().unwrap().push(message);
        let mut drain = Drain::start(vec![sink(0, 2), sink(1, 99)], tell).unwrap();
        for n in 0..5 {
            drain.put(Arc::new(Picture::new(Size::new(1, 1), vec![n; 4]).unwrap()));
        }
        let written: Vec<String> = drain.finish().into_iter().map(Result::unwrap).collect();
        assert_eq!(written, ["2 pictures", "5 pictures"]);
        assert_eq!(*seen[1].lock().unwrap(), [0, 1, 2, 3, 4]);
        assert_eq!(*troubles.lock().unwrap(), ["recording stopped: the disk is full"]);
    }
}
