//! A stream under measurement: its clock, its source, and frames one at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use dreamglass_engine::Live;
use dreamglass_engine::live::{LiveOutput, TextWork, Work};
use dreamglass_engine::stream::Frame;
use indicatif::ProgressBar;

use super::source::Source;
use crate::clock;

/// Frames after which a stream that shows nothing counts as stuck: more than any batch holds.
const PATIENCE: usize = 16;

/// A stream, and all that feeds and watches it.
pub struct Session {
    pub live: Live,
    pub source: Source,
    pub bar: ProgressBar,
    started: Instant,
    interrupted: Arc<AtomicBool>,
    frames: u64,
    /// What prompts need that no picture waits for.
    later: Vec<TextWork>,
}

/// What one frame alone cost the CPU, and when. Times are since the session's start.
pub struct Turn {
    pub captured_at: Duration,
    /// Time in `push`.
    pub push: Duration,
    /// When `drive` was called that started the job, and how long it took.
    pub submit: [Duration; 2],
    /// When the first `drive` behind the device's end was called, and how long all of them took.
    pub finish: [Duration; 2],
    /// Time that making plans took.
    pub build: Duration,
    /// Time that waiting for prompts took.
    pub prompt: Duration,
    /// When all was done.
    pub done_at: Duration,
    pub outputs: Vec<LiveOutput>,
}

impl Session {
    pub fn new(live: Live, source: Source, bar: ProgressBar, interrupted: Arc<AtomicBool>) -> Self {
        Self { live, source, bar, started: Instant::now(), interrupted, frames: 0, later: Vec::new() }
    }
    /// Since the session's start.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }
    /// Whether the user wants the end.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }
    /// A fresh frame goes in. Returns how long that took by `clock`, the making of its picture left out.
    pub fn push(&mut self, clock: fn() -> Duration) -> Result<Duration> {
        let picture = self.source.next();
        let (captured_at, begun) = (self.now(), clock());
        self.live.push(Frame { id: self.frames, captured_at, picture })?;
        self.frames += 1;
        Ok(clock() - begun)
    }
    /// Trouble does not end streams, but figures of a stream with trouble are none.
    pub fn check(&mut self) -> Result<()> {
        match self.live.next_trouble() {
            Some(trouble) => bail!("the stream had trouble: {trouble}"),
            None => Ok(()),
        }
    }
    /// One frame in, and everything done that follows from it.
    pub fn turn(&mut self) -> Result<Turn> {
        self.catch_up();
        let captured_at = self.now();
        let push = self.push(clock::now)?;
        let begun = self.now();
        let mut work = self.live.drive(begun)?;
        let none = Duration::ZERO;
        let mut turn = Turn {
            captured_at,
            push,
            submit: [begun, self.now() - begun],
            finish: [begun, none],
            build: none,
            prompt: none,
            done_at: begun,
            outputs: Vec::new(),
        };
        while !work.is_empty() {
            self.work(work, &mut turn)?;
            let begun = self.now();
            let before = self.live.status().counters.processed;
            work = self.live.drive(begun)?;
            let took = self.now() - begun;
            // Behind prompts and plans comes the job itself.
            if self.live.status().counters.processed > before {
                turn.submit = [begun, took];
            } else if turn.finish[1] == none {
                turn.finish = [begun, took];
            } else {
                turn.finish[1] += took;
            }
        }
        turn.done_at = self.now();
        turn.outputs.extend(std::iter::from_fn(|| self.live.next_output()));
        Ok(turn)
    }
    /// Frames one at a time until a picture comes out.
    pub fn first(&mut self) -> Result<Vec<Turn>> {
        let mut turns = Vec::new();
        for _ in 0..PATIENCE {
            turns.push(self.turn()?);
            self.check()?;
            if turns.last().is_some_and(|t| !t.outputs.is_empty()) {
                return Ok(turns);
            }
        }
        bail!("no picture came out after {PATIENCE} frames")
    }

    /// Does what prompts need that no picture waited for, and returns how long that took.
    pub fn catch_up(&mut self) -> Duration {
        if self.later.is_empty() {
            return Duration::ZERO;
        }
        let begun = self.now();
        self.later.drain(..).for_each(|text| self.live.hear_text(text.run()));
        self.now() - begun
    }

    fn work(&mut self, mut work: Vec<Work>, turn: &mut Turn) -> Result<()> {
        // Prompts first: while plans are made they would be done unseen.
        work.sort_by_key(|work| matches!(work, Work::Build(_)));
        for work in work {
            let begun = self.now();
            match work {
                Work::Build(builder) => {
                    let layout = builder.layout();
                    self.live.install(layout, builder.build());
                    turn.build += self.now() - begun;
                }
                Work::Text(text) if self.live.status().counters.shown > 0 => self.later.push(text),
                Work::Text(text) => {
                    self.live.hear_text(text.run());
                    turn.prompt += self.now() - begun;
                }
                Work::Reweigh(reweigher) => self.live.reweigh(reweigher.fuse()),
                Work::Wait(ticket) => {
                    ticket.wait()?;
                    if self.live.status().counters.processed == 0 {
                        turn.prompt += self.now() - begun;
                    }
                }
            }
        }
        Ok(())
    }
}

/// In milliseconds.
pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
