//! How fast pictures come, and how old they are.

use std::collections::VecDeque;
use std::time::Duration;

use dreamglass_engine::live::Status;

/// Pictures that a graph shows.
pub const HISTORY: usize = 240;

/// Pictures that rates and latencies are taken over.
const WINDOW: usize = 60;

/// One picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Seconds since the picture before.
    pub interval: f32,
    /// Seconds from capture to result.
    pub latency: f32,
}

/// What is known of a running stream.
#[derive(Debug, Clone, Default)]
pub struct Statistics {
    samples: VecDeque<Sample>,
    last: Option<Duration>,
    /// Frames and plans.
    pub status: Option<Status>,
    /// Frames that the source lost or that were replaced before the stream saw them.
    pub lost: u64,
    /// Pictures shown, repeats included.
    pub shown: u64,
    /// All latencies in seconds, for the summary at the end: one for each picture of the last hour.
    latencies: VecDeque<f32>,
    first: Option<Duration>,
}

/// Latencies that are kept: an hour at 30 frames per second.
const KEPT: usize = 108_000;

impl Statistics {
    /// A picture was done at `done_at` of a frame that was taken at `captured_at`.
    pub fn add(&mut self, captured_at: Duration, done_at: Duration) {
        let latency = done_at.saturating_sub(captured_at).as_secs_f32();
        if let Some(last) = self.last {
            let interval = done_at.saturating_sub(last).as_secs_f32();
            self.samples.push_back(Sample { interval, latency });
            if self.samples.len() > HISTORY {
                self.samples.pop_front();
            }
        }
        self.latencies.push_back(latency);
        if self.latencies.len() > KEPT {
            self.latencies.pop_front();
        }
        self.first.get_or_insert(done_at);
        self.last = Some(done_at);
        self.shown += 1;
    }
    /// The last pictures, the oldest first.
    pub fn samples(&self) -> impl ExactSizeIterator<Item = Sample> {
        self.samples.iter().copied()
    }
    /// Pictures per second over the last ones.
    pub fn fps(&self) -> Option<f32> {
        let recent: Vec<f32> = self.samples.iter().rev().take(WINDOW).map(|s| s.interval).collect();
        let seconds: f32 = recent.iter().sum();
        (seconds > 0.0).then(|| recent.len() as f32 / seconds)
    }
    /// Median latency of the last pictures in seconds.
    pub fn latency(&self) -> Option<f32> {
        let recent: Vec<f32> = self.samples.iter().rev().take(WINDOW).map(|s| s.latency).collect();
        percentile(recent, 0.5)
    }
    /// A line for the end.
    pub fn summary(&self) -> String {
        let seconds = match (self.first, self.last) {
            (Some(first), Some(last)) => last.saturating_sub(first).as_secs_f32(),
            _ => 0.0,
        };
        let fps = if seconds > 0.0 { (self.shown.max(1) - 1) as f32 / seconds } else { 0.0 };
        let counters = self.status.map(|s| s.counters).unwrap_or_default();
        let at = |share| percentile(self.latencies.iter().copied().collect(), share).unwrap_or(0.0) * 1e3;
        format!(
            "{} pictures, {fps:.1} frames/s, latency {:.0} ms (95 %: {:.0} ms); of {} frames {} were dropped \
             for newer ones and {} skipped as too similar",
            self.shown,
            at(0.5),
            at(0.95),
            counters.received + self.lost,
            counters.dropped + self.lost,
            counters.skipped
        )
    }
}

/// The value below which `share` of `values` lies (nearest rank).
fn percentile(mut values: Vec<f32>, share: f32) -> Option<f32> {
    values.sort_by(f32::total_cmp);
    let rank = (share * values.len() as f32).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_latencies_are_those_of_the_clock() {
        let ms = Duration::from_millis;
        let mut statistics = Statistics::default();
        assert!(statistics.fps().is_none() && statistics.summary().starts_with("0 pictures"));
        for n in 0..1000 {
            statistics.add(ms(40 * n), ms(40 * n + 70));
        }
        assert!(statistics.fps().is_some_and(|f| (f - 25.0).abs() < 0.01));
        assert!(statistics.latency().is_some_and(|l| (l - 0.07).abs() < 1e-4));
        assert_eq!(statistics.samples().len(), HISTORY);
        assert!(statistics.summary().contains("25.0 frames/s, latency 70 ms"), "{}", statistics.summary());
    }
}
