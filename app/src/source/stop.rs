//! Ending a thread that waits for somebody else.

use std::process::Child;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A child that one thread reads from and another may end.
pub type SharedChild = Arc<Mutex<Child>>;

/// Asks a thread to end, and ends the child that it may be reading from.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_raised: bool,
    child: Option<SharedChild>,
}

impl Stop {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Asks for the end.
    pub fn raise(&self) {
        self.state().is_raised = true;
        self.0.bell.notify_all();
        self.end_child();
    }
    /// Whether the end was asked for.
    pub fn is_raised(&self) -> bool {
        self.state().is_raised
    }
    /// Names the child that the thread reads from now. One that comes after the end is ended at once.
    pub fn hold(&self, child: SharedChild) {
        let mut state = self.state();
        state.child = Some(child);
        let is_raised = state.is_raised;
        drop(state);
        if is_raised {
            self.end_child();
        }
    }
    /// Ends the child; who reads from it sees its end.
    pub fn end_child(&self) {
        let child = self.state().child.clone();
        if let Some(child) = child {
            // A child that has already gone is no news.
            let _ = child.lock().unwrap_or_else(PoisonError::into_inner).kill();
        }
    }
    /// Sleeps, and wakes early for the end. Whether the end was asked for.
    pub fn sleep(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.state();
        while !state.is_raised {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.0.bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}
