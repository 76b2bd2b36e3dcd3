//! From a thread that makes pictures to the one that takes them.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Error;
use dreamglass_engine::Picture;

use super::stop::Stop;

/// Messages that wait unread before the oldest goes.
const MAX_MESSAGES: usize = 16;

/// What a worker says.
#[derive(Debug)]
pub enum Said {
    /// It works: what people call it, and the rate its pictures are to be shown at, if they do not
    /// come in their own time.
    Opened { text: String, rate: Option<f64> },
    /// A picture, counted from 0 with those that were lost.
    Picture { index: u64, at: Instant, picture: Picture },
    /// It does not work now and tries again.
    Trouble(String),
    /// There is no more.
    End,
    /// It never worked.
    Failed(Error),
}

impl Said {
    fn is_picture(&self) -> bool {
        matches!(self, Self::Picture { .. })
    }
}

/// What happens to pictures that nobody has taken yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// So many wait, then the worker does.
    Wait(usize),
    /// A newer one takes the place of the older.
    Newest,
}

/// A queue of what a worker says, in order.
#[derive(Debug)]
pub struct Inbox {
    policy: Policy,
    queue: Mutex<VecDeque<Said>>,
    bell: Condvar,
}

impl Inbox {
    /// An empty one.
    pub fn new(policy: Policy) -> Self {
        Self { policy, queue: Mutex::default(), bell: Condvar::new() }
    }
    fn queue(&self) -> MutexGuard<'_, VecDeque<Said>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Puts one in; waits for room where the policy says so, until `stop` is raised.
    pub fn put(&self, said: Said, stop: &Stop) {
        let mut queue = self.queue();
        match self.policy {
            Policy::Newest if said.is_picture() => queue.retain(|waiting| !waiting.is_picture()),
            Policy::Wait(room) if said.is_picture() => {
                while queue.len() >= room && !stop.is_raised() {
                    // Whoever raises the stop does not ring this bell.
                    let wait = Duration::from_millis(50);
                    queue = self.bell.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
            _ => {}
        }
        if queue.len() >= MAX_MESSAGES {
            queue.pop_front();
        }
        queue.push_back(said);
        self.bell.notify_all();
    }
    /// Takes the oldest, waiting for it at most `patience`.
    pub fn take(&self, patience: Duration) -> Option<Said> {
        let until = Instant::now() + patience;
        let mut queue = self.queue();
        loop {
            let said = queue.pop_front();
            let left = until.saturating_duration_since(Instant::now());
            if said.is_some() || left.is_zero() {
                self.bell.notify_all();
                return said;
            }
            queue = self.bell.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
    /// Takes the oldest if it is a picture whose index `is_wanted`.
    pub fn take_picture_if(&self, is_wanted: impl Fn(u64) -> bool) -> Option<Said> {
        let mut queue = self.queue();
        let is_next = matches!(queue.front(), Some(Said::Picture { index, .. }) if is_wanted(*index));
        let said = if is_next { queue.pop_front() } else { None };
        self.bell.notify_all();
        said
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use std::sync::Arc;
    use std::thread;

    use dreamglass_engine::Size;

    use super::*;

    fn picture(index: u64) -> Said {
        let picture = Picture::new(Size::new(1, 1), vec![0; 4]).unwrap();
        Said::Picture { index, at: Instant::now(), picture }
    }

    fn index(said: Option<Said>) -> Option<u64> {
        match said {
            Some(Said::Picture { index, .. }) => Some(index),
            _ => None,
        }
    }

    #[test]
    fn the_newest_wins_and_messages_stay() {
        let (inbox, stop) = (Inbox::new(Policy::Newest), Stop::default());
        inbox.put(picture(0), &stop);
        inbox.put(Said::Trouble("gone".into()), &stop);
        for n in 1..100 {
            inbox.put(picture(n), &stop);
        }
        assert!(matches!(inbox.take(Duration::ZERO), Some(Said::Trouble(_))));
        assert_eq!(index(inbox.take(Duration::ZERO)), Some(99));
        assert!(inbox.take(Duration::from_millis(5)).is_none());
    }

    #[test]
    fn a_full_inbox_makes_its_worker_wait() {
        let (inbox, stop) = (Arc::new(Inbox::new(Policy::Wait(2))), Stop::default());
        let worker = {
            let (inbox, stop) = (Arc::clone(&inbox), stop.clone());
            thread::spawn(move || (0..50).for_each(|n| inbox.put(picture(n), &stop)))
        };
        for n in 0..20 {
            assert_eq!(index(inbox.take(Duration::from_secs(5))), Some(n));
            assert!(inbox.queue().len() <= 2);
        }
        stop.raise();
        worker.join().unwrap();
    }

    #[test]
    fn messages_that_nobody_reads_are_few() {
        let (inbox, stop) = (Inbox::new(Policy::Newest), Stop::default());
        for n in 0..1000 {
            inbox.put(Said::Trouble(n.to_string()), &stop);
        }
        assert_eq!(inbox.queue().len(), MAX_MESSAGES);
    }
}
