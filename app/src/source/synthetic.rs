//! A source that needs no device: a test card in real time.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use dreamglass_engine::Size;

use super::pace::Beat;
use super::test_card::TestCard;
use super::{Captured, Event, Source};

/// A moving test card. Frames that nobody asked for in time are skipped, as a camera does.
#[derive(Debug)]
pub struct Synthetic {
    size: Size,
    fps: f64,
    card: TestCard,
    beat: Beat,
}

impl Synthetic {
    /// Cards of `size` at `fps`.
    pub fn new(size: Size, fps: f64) -> Self {
        Self { size, fps, card: TestCard::new(size), beat: Beat::new(fps) }
    }
}

impl Source for Synthetic {
    fn next(&mut self) -> Result<Option<Event>> {
        let Some((index, captured_at)) = self.beat.wait() else { return Ok(None) };
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let taken = unix.saturating_sub(captured_at.elapsed());
        let picture = self.card.draw_at(index, u64::try_from(taken.as_millis())?)?;
        Ok(Some(Event::Frame(Captured { index, captured_at, picture })))
    }
    fn describe(&self) -> String {
        format!("test card {}x{} {} fps", self.size.width, self.size.height, self.fps)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use std::thread;
    use std::time::{Duration, Instant};

    use super::super::barcode::decode_counter;
    use super::*;

    fn frame(source: &mut Synthetic) -> Captured {
        loop {
            if let Some(Event::Frame(frame)) = source.next().unwrap() {
                return frame;
            }
        }
    }

    #[test]
    fn cards_come_in_real_time() {
        let mut source = Synthetic::new(Size::new(64, 64), 50.0);
        let started = Instant::now();
        let frames: Vec<Captured> = (0..10).map(|_| frame(&mut source)).collect();
        assert!(started.elapsed() >= Duration::from_millis(180), "{:?}", started.elapsed());
        for pair in frames.windows(2) {
            let [a, b] = pair else { unreachable!() };
            assert!(a.index < b.index && a.captured_at < b.captured_at);
        }
        assert!(frames.iter().all(|f| decode_counter(&f.picture) == Some(f.index)));
    }

    #[test]
    fn who_asks_late_misses_frames() {
        let mut source = Synthetic::new(Size::new(64, 64), 100.0);
        assert_eq!(frame(&mut source).index, 0);
        thread::sleep(Duration::from_millis(205));
        let late = frame(&mut source);
        assert!(late.index >= 20, "{}", late.index);
        assert!(late.captured_at.elapsed() < Duration::from_millis(205));
    }

    #[test]
    fn a_slow_card_answers_in_between() {
        let mut source = Synthetic::new(Size::new(64, 64), 0.1);
        assert!(source.next().unwrap().is_some());
        let asked = Instant::now();
        assert!(source.next().unwrap().is_none());
        assert!(asked.elapsed() < Duration::from_secs(2));
    }
}
