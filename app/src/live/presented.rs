//! Lets a window present a picture before the device gets its next job.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The newest picture that a window has handed to the display. Presenting runs on the queue that
/// jobs run on: what is queued behind a long job is shown a job late.
#[derive(Debug, Default)]
pub struct Presented {
    number: Mutex<u64>,
    changed: Condvar,
}

impl Presented {
    /// Picture `number` is on its way to the display.
    pub fn tell(&self, number: u64) {
        let mut newest = self.number.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = (*newest).max(number);
        self.changed.notify_all();
    }
    /// Waits until picture `number` is, at most `patience`: a hidden window presents nothing.
    pub fn wait(&self, number: u64, patience: Duration) -> bool {
        let newest = self.number.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self.changed.wait_timeout_while(newest, patience, |newest| *newest < number);
        !result.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_waited_for_but_not_for_ever() {
        let presented = Presented::default();
        assert!(!presented.wait(1, Duration::from_millis(5)));
        std::thread::scope(|scope| {
            scope.spawn(|| presented.tell(3));
            assert!(presented.wait(2, Duration::from_secs(10)));
        });
        presented.tell(1);
        assert!(presented.wait(3, Duration::ZERO));
    }
}
