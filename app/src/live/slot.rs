//! A slot for one thing: the newest wins.

use std::sync::{Mutex, PoisonError};

/// Holds what came last. What it replaces is dropped and counted.
#[derive(Debug)]
pub struct Slot<T>(Mutex<Inner<T>>);

#[derive(Debug)]
struct Inner<T> {
    newest: Option<T>,
    dropped: u64,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Mutex::new(Inner { newest: None, dropped: 0 }))
    }
}

impl<T> Slot<T> {
    /// Puts in `value`. True when the slot was empty: whoever takes from it is to be told.
    pub fn put(&self, value: T) -> bool {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = inner.newest.replace(value).is_none();
        inner.dropped += u64::from(!was_empty);
        was_empty
    }
    /// Takes what came last.
    pub fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).newest.take()
    }
    /// How many were replaced before they were taken.
    pub fn dropped(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).dropped
    }
}

#[cfg(test)]
mod tests {
    use super::Slot;

    #[test]
    fn the_newest_wins_and_the_others_are_counted() {
        let slot = Slot::default();
        assert!(slot.put(1) && !slot.put(2) && !slot.put(3));
        assert_eq!((slot.take(), slot.take(), slot.dropped()), (Some(3), None, 2));
        assert!(slot.put(4));
    }
}
