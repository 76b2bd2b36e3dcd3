//! When the next frame is due.

use std::thread;
use std::time::{Duration, Instant};

/// Longest wait of a source before it answers that nothing came.
pub const PATIENCE: Duration = Duration::from_millis(100);

/// A source that is further behind gives up catching up and goes on from now.
const MAX_LAG: Duration = Duration::from_millis(500);

/// Frames at a constant rate from a first one.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    fps: f64,
    origin: Instant,
}

impl Pace {
    /// Frame 0 is due at `origin`; `fps` is above 0.
    pub fn new(fps: f64, origin: Instant) -> Self {
        Self { fps, origin }
    }
    /// When frame `index` is due.
    pub fn due(&self, index: u64) -> Instant {
        self.origin + Duration::try_from_secs_f64(index as f64 / self.fps).unwrap_or_default()
    }
    /// The newest frame that is due at `now`.
    pub fn newest(&self, now: Instant) -> u64 {
        let index = (now.saturating_duration_since(self.origin).as_secs_f64() * self.fps) as u64;
        // Rounding may be a nanosecond off either way.
        match (self.due(index) <= now, self.due(index + 1) <= now) {
            (_, true) => index + 1,
            (true, false) => index,
            (false, false) => index.saturating_sub(1),
        }
    }
    /// Makes frame `index` due at `now` if it is hopelessly late.
    pub fn catch_up(&mut self, index: u64, now: Instant) {
        let late = now.saturating_duration_since(self.due(index));
        if late > MAX_LAG {
            self.origin += late;
        }
    }
}

/// A source's own clock: counts frames that nobody asked for in time as lost.
#[derive(Debug, Clone, Copy)]
pub struct Beat {
    fps: f64,
    /// Runs from the first frame that is asked for.
    pace: Option<Pace>,
    next: u64,
}

impl Beat {
    /// `fps` is above 0.
    pub fn new(fps: f64) -> Self {
        Self { fps, pace: None, next: 0 }
    }
    /// Waits for the next frame as long as a source may; its index, and when it was due.
    pub fn wait(&mut self) -> Option<(u64, Instant)> {
        let fps = self.fps;
        let pace = *self.pace.get_or_insert_with(|| Pace::new(fps, Instant::now()));
        if !wait_for(pace.due(self.next)) {
            return None;
        }
        let index = pace.newest(Instant::now()).max(self.next);
        self.next = index + 1;
        Some((index, pace.due(index)))
    }
}

/// Sleeps until `due`, but not beyond the patience of a source. Whether it is due now.
pub fn wait_for(due: Instant) -> bool {
    let left = due.saturating_duration_since(Instant::now());
    if left > PATIENCE {
        thread::sleep(PATIENCE);
        return false;
    }
    thread::sleep(left);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_due_at_their_time() {
        let start = Instant::now();
        let pace = Pace::new(30000.0 / 1001.0, start);
        assert_eq!(pace.newest(start), 0);
        for index in (0..1_000_000).step_by(997) {
            assert_eq!(pace.newest(pace.due(index)), index, "the very moment");
            assert_eq!(pace.newest(pace.due(index) + Duration::from_millis(10)), index);
        }
    }

    #[test]
    fn a_long_stall_is_not_played_back_fast() {
        let start = Instant::now();
        let mut pace = Pace::new(10.0, start);
        pace.catch_up(5, start + Duration::from_millis(900));
        assert_eq!(pace.due(5), start + Duration::from_millis(500), "400 ms late is caught up");
        pace.catch_up(5, start + Duration::from_millis(3500));
        assert_eq!(pace.due(5), start + Duration::from_millis(3500));
    }
}
