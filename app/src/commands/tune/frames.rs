//! Whole frames with one tuning beside those with another.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use dreamglass_engine::Live;
use dreamglass_engine::kernels::Plan;
use dreamglass_engine::kernels::choice::Tuning;
use indicatif::ProgressBar;

use super::Run;
use crate::commands::bench::session::{Session, ms};
use crate::commands::bench::source::Source;

/// Share of a frame's time that is chance.
const GAIN: f64 = 0.005;

/// A stream whose plans were prepared with one tuning.
pub struct Frames(Session);

/// Medians of frames in turns, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Verdict {
    pub before_ms: f64,
    pub after_ms: f64,
}

impl Verdict {
    /// Whether the second is faster by more than chance.
    pub fn is_faster(&self) -> bool {
        self.after_ms < self.before_ms * (1.0 - GAIN)
    }
    /// Whether it is slower by more than chance.
    pub fn is_slower(&self) -> bool {
        self.after_ms > self.before_ms * (1.0 + GAIN)
    }
}

impl Frames {
    /// Plans with `tuning`, and their first frame.
    pub fn new(run: &Run, tuning: Tuning) -> Result<Self> {
        run.gpu.set_tuning(tuning);
        let live = Live::new(&run.engine, run.params.clone())?;
        let source = Source::open(Path::new("synthetic"))?;
        let mut session = Session::new(live, source, ProgressBar::hidden(), Arc::clone(&run.interrupted));
        session.first()?;
        Ok(Self(session))
    }
    /// What its frames run.
    pub fn plans(&self) -> impl Iterator<Item = &Plan> {
        self.0.live.plans()
    }
    fn frame_ms(&mut self) -> Result<f64> {
        let turn = self.0.turn()?;
        self.0.check()?;
        Ok(ms(turn.done_at - turn.captured_at))
    }
}

/// So many frames of each, one of the first, one of the second and so on; fewer after Ctrl-C.
pub fn compare(before: &mut Frames, after: &mut Frames, turns: u32) -> Result<Verdict> {
    let mut times = [Vec::new(), Vec::new()];
    for turn in 0..=turns {
        let pair = [before.frame_ms()?, after.frame_ms()?];
        // The first ones find caches full of something else.
        if turn > 0 {
            times.iter_mut().zip(pair).for_each(|(times, ms)| times.push(ms));
            if before.0.is_interrupted() {
                break;
            }
        }
    }
    let [before_ms, after_ms] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    Ok(Verdict { before_ms, after_ms })
}
