//! How many bits a second a stream is coded with: what its worst healthy viewer can take.

use std::collections::HashMap;
use std::time::Duration;

/// An estimate below so many times what is sent tells of the network; one above it only says that no
/// more was sent: receivers estimate at most half as much again as they get.
const MARGIN: f64 = 1.3;

/// What is aimed at of an estimate that limits: retransmissions need the rest.
const SHARE: f64 = 0.95;

/// Growth a second while nothing limits.
const GROWTH: f64 = 0.08;

/// Loss above which a viewer is sent less (Google's congestion control, loss-based part).
const LOSS: f64 = 0.1;

/// Bits per pixel and frame of a stream that nobody has limited yet.
const BITS_PER_PIXEL: f64 = 0.3;

/// Bounds of a stream's bit rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Fewest bits per second; viewers that cannot take so many are left to lose packets.
    pub min: u32,
    /// Most bits per second.
    pub max: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { min: 250_000, max: 6_000_000 }
    }
}

/// The limits of all viewers.
#[derive(Debug)]
pub struct Rate {
    bounds: Bounds,
    start: f64,
    limits: HashMap<u64, f64>,
    viewers: u64,
}

impl Rate {
    /// A rate that nobody has limited.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, start: f64::from(bounds.max), limits: HashMap::new(), viewers: 0 }
    }
    /// A viewer came.
    pub fn joined(&mut self) {
        self.viewers += 1;
    }
    /// The stream has so many pixels and frames per second.
    pub fn suit(&mut self, pixels: u64, fps: f64) {
        self.start = pixels as f64 * fps * BITS_PER_PIXEL;
    }
    /// A viewer estimates that it could get `estimate` bits per second while `sent` were.
    pub fn estimated(&mut self, viewer: u64, estimate: f64, sent: f64) {
        if estimate < sent * MARGIN {
            self.limits.insert(viewer, estimate * SHARE);
        }
    }
    /// A viewer lost this share of packets.
    pub fn lost(&mut self, viewer: u64, share: f64) {
        if share > LOSS {
            let target = f64::from(self.target());
            let limit = self.limits.entry(viewer).or_insert(target);
            *limit = limit.min(target) * (1.0 - 0.5 * share.min(1.0));
        }
    }
    /// Time went by: limits are tried anew, slowly.
    pub fn grow(&mut self, time: Duration) {
        let most = self.most();
        let factor = 1.0 + GROWTH * time.as_secs_f64().min(1.0);
        self.limits.retain(|_, limit| {
            *limit *= factor;
            *limit < most
        });
    }
    /// A viewer left.
    pub fn left(&mut self, viewer: u64) {
        self.limits.remove(&viewer);
        self.viewers = self.viewers.saturating_sub(1);
    }
    /// Bits per second to aim at. A viewer that cannot take the fewest is not healthy: the others do
    /// not suffer for it. Where all are like that, they get the fewest.
    pub fn target(&self) -> u32 {
        let is_healthy = |limit: &f64| *limit >= f64::from(self.bounds.min);
        let has_others = self.viewers > self.limits.len() as u64;
        if self.viewers > 0 && !has_others && !self.limits.values().any(is_healthy) {
            return self.bounds.min;
        }
        let healthy = self.limits.values().copied().filter(is_healthy);
        healthy.fold(self.most(), f64::min).clamp(f64::from(self.bounds.min), f64::from(self.bounds.max))
            as u32
    }

    fn most(&self) -> f64 {
        self.start.clamp(f64::from(self.bounds.min), f64::from(self.bounds.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate() -> Rate {
        let mut rate = Rate::new(Bounds { min: 200_000, max: 4_000_000 });
        rate.suit(512 * 512, 30.0);
        (0..4).for_each(|_| rate.joined());
        rate
    }

    #[test]
    fn who_is_alone_with_a_bad_line_gets_the_fewest() {
        let mut rate = Rate::new(Bounds { min: 200_000, max: 4_000_000 });
        rate.suit(512 * 512, 30.0);
        rate.joined();
        rate.estimated(7, 50_000.0, 800_000.0);
        assert_eq!(rate.target(), 200_000);
        // Another one does not suffer for it.
        rate.joined();
        assert!(rate.target() > 2_000_000);
    }

    #[test]
    fn the_worst_healthy_viewer_decides() {
        let mut rate = rate();
        let most = rate.target();
        assert_eq!(most, (512.0 * 512.0 * 30.0 * 0.3) as u32);
        rate.estimated(1, 1_000_000.0, 2_000_000.0);
        rate.estimated(2, 800_000.0, 2_000_000.0);
        assert_eq!(rate.target(), 760_000);
        // Too bad a network: it is left alone.
        rate.estimated(3, 50_000.0, 800_000.0);
        assert_eq!(rate.target(), 760_000);
        rate.left(2);
        assert_eq!(rate.target(), 950_000);
        rate.left(1);
        assert_eq!(rate.target(), most);
    }

    #[test]
    fn a_still_picture_does_not_talk_the_rate_down() {
        let mut rate = rate();
        let most = rate.target();
        rate.estimated(1, 150_000.0, 100_000.0);
        assert_eq!(rate.target(), most);
    }

    #[test]
    fn loss_lowers_and_time_raises_the_rate() {
        let mut rate = rate();
        let most = rate.target();
        rate.lost(1, 0.05);
        assert_eq!(rate.target(), most);
        rate.lost(1, 0.2);
        let lower = rate.target();
        assert!(lower < most && lower >= 200_000);
        for _ in 0..100 {
            rate.grow(Duration::from_millis(100));
        }
        assert!(rate.target() > lower, "{lower}");
        (0..1000).for_each(|_| rate.grow(Duration::from_millis(100)));
        assert_eq!(rate.target(), most);
        (0..100).for_each(|_| rate.lost(2, 1.0));
        assert_eq!(rate.target(), most, "who loses everything is not healthy");
    }
}
