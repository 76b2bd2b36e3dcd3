//! The stream on a virtual clock, with a device that remembers what is in which slot.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::blend::NoiseMix;
use super::noise::uniform;
use super::prompts::PromptMix;
use super::similarity::FilterSettings;
use super::tables::{Guidance, Tables};
use super::*;
use crate::frame::Size;
use crate::params::{Batching, GuidanceMode};
use crate::schedule::{Schedule, Step};

const MS: Duration = Duration::from_millis(1);

fn schedule(steps: u32, timestep: f64) -> Schedule {
    let step = |k: u32| Step {
        timestep: timestep - f64::from(k),
        input: 1.0,
        denoised: [0.0, 1.0],
        next: [0.5, 0.5, 0.1],
        epsilon: [0.0, 1.0],
        residual: [1.0, -1.0, 1.0],
    };
    Schedule { start: [0.9, 0.4], steps: (0..steps).map(step).collect() }
}

fn setup(size: u32, steps: u32, batching: Batching) -> Setup {
    let layout = Layout {
        size: Size::new(size, size),
        rows: steps,
        batching,
        guidance: GuidanceMode::None,
        is_smoothed: false,
    };
    let tables = Tables::new(&schedule(steps, 900.0), 1.0, Guidance::NONE, 0.0);
    let noise = NoiseMix { seed: 0, second: 0, share: 0.0 };
    let is_eager = batching == Batching::Throughput;
    Setup { layout, tables: Arc::new(tables), noise, filter: None, smoothing: 0.0, is_eager }
}

/// A row of the batch: the frame whose sample it holds and the steps that were taken, all with the
/// same timesteps. None is noise.
type Row = Option<(u64, usize, Vec<f64>)>;

/// What runs on the device, and what it would show.
struct Device {
    rows: Vec<Row>,
    layout: Option<Layout>,
    timesteps: Vec<f64>,
    running: VecDeque<(u64, Option<u64>, Duration)>,
    /// Content of the picture of each job that decodes.
    pictures: VecDeque<(u64, Row)>,
    has_prompt: bool,
    free_at: Duration,
    preparing: Option<(Layout, Duration)>,
    encoding: Option<(String, Duration)>,
    measured: Option<(u64, u64)>,
    last_content: u64,
}

impl Device {
    fn new() -> Self {
        Self {
            rows: Vec::new(),
            layout: None,
            timesteps: Vec::new(),
            running: VecDeque::new(),
            pictures: VecDeque::new(),
            has_prompt: false,
            free_at: Duration::ZERO,
            preparing: None,
            encoding: None,
            measured: None,
            last_content: 0,
        }
    }
    /// Frames carry their content: equal numbers are equal pictures.
    fn run(&mut self, job: Job<u64>, now: Duration, length: Duration) {
        if self.layout != Some(job.layout) {
            assert!(
                job.tables.is_some() && job.entry.is_some() && job.noise.is_some(),
                "nothing is known yet"
            );
            self.layout = Some(job.layout);
            self.rows = vec![None; job.layout.slots()];
            self.has_prompt = false;
        }
        self.has_prompt |= job.prompt.is_some();
        assert!(self.has_prompt, "the new plans have no prompt");
        if let Some(tables) = &job.tables {
            self.timesteps = tables.timesteps.clone();
            assert_eq!(tables.rows(), job.layout.rows as usize);
        }
        let id = match job.frame {
            Some(frame) => {
                self.last_content = frame.picture;
                frame.id
            }
            None => {
                let (id, content) = self.measured.take().expect("a frame was measured");
                self.last_content = content;
                id
            }
        };
        let steps = if job.layout.batching == Batching::Throughput { 1 } else { job.layout.rows as usize };
        self.rows.rotate_right(1);
        self.rows[0] = Some((id, 0, self.timesteps.clone()));
        for row in self.rows.iter_mut().flatten() {
            row.1 += steps;
            if row.2 != self.timesteps {
                row.0 = u64::MAX;
            }
        }
        if job.shows.is_some() {
            self.pictures.push_back((job.id, self.rows.last().unwrap().clone()));
        }
        self.free_at = self.free_at.max(now) + length;
        self.running.push_back((job.id, job.shows, self.free_at));
    }
}

/// A run of many frames with everything that can happen to them.
struct World {
    stream: Stream<u64>,
    device: Device,
    now: Duration,
    chance: u64,
    /// Outputs as `(frame, shown)`, and the pictures that jobs made.
    shown: Vec<Output>,
    jobs_started: u64,
    /// For each job in flight, the jobs started before it.
    started: VecDeque<u64>,
    most_lag: usize,
}

impl World {
    fn new(setup: Setup) -> Self {
        Self {
            stream: Stream::new(setup, PromptMix::only("first"), ""),
            device: Device::new(),
            now: Duration::ZERO,
            chance: 0,
            shown: Vec::new(),
            jobs_started: 0,
            started: VecDeque::new(),
            most_lag: 0,
        }
    }
    fn random(&mut self) -> f64 {
        self.chance += 1;
        uniform(7, self.chance)
    }
    /// Does what the stream wants.
    fn serve(&mut self, length: Duration, similarity: Option<f64>) {
        while let Some(command) = self.stream.poll(self.now) {
            match command {
                Command::Prepare(layout) => self.device.preparing = Some((layout, self.now + 40 * MS)),
                Command::Encode { text, is_negative } => {
                    assert!(!is_negative);
                    self.device.encoding = Some((text, self.now + 15 * MS));
                }
                Command::Measure(frame) => {
                    let same = if frame.picture == self.device.last_content { 1.0 } else { 0.5 };
                    self.device.measured = Some((frame.id, frame.picture));
                    self.stream.measured(frame.id, similarity.unwrap_or(same));
                }
                Command::Run(job) => {
                    self.started.push_back(self.jobs_started);
                    self.jobs_started += 1;
                    self.device.run(job, self.now, length);
                    assert!(self.device.running.len() <= 2, "at most two jobs in flight");
                }
            }
        }
    }
    /// Lets time pass to `until`.
    fn advance(&mut self, until: Duration, length: Duration) {
        loop {
            let device = &self.device;
            let events = [
                device.running.front().map(|r| r.2),
                device.preparing.as_ref().map(|p| p.1),
                device.encoding.as_ref().map(|e| e.1),
                self.stream.wake_at().filter(|&at| at > self.now),
            ];
            let next = events.into_iter().flatten().min().filter(|&at| at <= until);
            let Some(at) = next else { break };
            self.now = self.now.max(at);
            self.complete();
            self.serve(length, None);
            self.collect();
        }
        self.now = self.now.max(until);
    }
    fn complete(&mut self) {
        let now = self.now;
        if self.device.preparing.as_ref().is_some_and(|p| p.1 <= now) {
            let (layout, _) = self.device.preparing.take().unwrap();
            self.stream.prepared(layout);
        }
        if self.device.encoding.as_ref().is_some_and(|e| e.1 <= now) {
            let (text, _) = self.device.encoding.take().unwrap();
            let value = text.len() as f32;
            self.stream.encoded(&text, false, vec![value]);
        }
        while self.device.running.front().is_some_and(|r| r.2 <= now) {
            let (job, _, at) = self.device.running.pop_front().unwrap();
            let before = self.started.pop_front().unwrap();
            // Jobs that were started after this one before it was done.
            self.most_lag = self.most_lag.max((self.jobs_started - before - 1) as usize);
            self.stream.finished(job, at);
        }
    }
    /// Checks and keeps what came out.
    fn collect(&mut self) {
        while let Some(output) = self.stream.next_output() {
            if let Shown::Job(job) = output.shown {
                let (id, row) = self.device.pictures.pop_front().unwrap();
                assert_eq!(id, job);
                let (frame, steps, timesteps) = row.expect("noise was shown");
                assert_eq!(frame, output.frame, "another frame's picture, or one of mixed schedules");
                assert_eq!(steps, timesteps.len(), "a sample that is not denoised yet was shown");
            } else {
                assert!(!self.shown.is_empty(), "nothing to show again");
            }
            if let Some(last) = self.shown.last() {
                assert!(output.frame > last.frame, "{output:?} after {last:?}");
                assert!(output.done_at >= last.done_at && output.done_at >= output.captured_at);
            }
            self.shown.push(output);
        }
    }
    fn frame(&mut self, id: u64, content: u64, length: Duration) {
        self.stream.push(Frame { id, captured_at: self.now, picture: content });
        self.serve(length, None);
        self.collect();
    }
    /// Every frame went somewhere.
    fn balance(&self) {
        let c = self.stream.counters();
        let gone = c.dropped + c.skipped + c.shown + c.flushed + c.failed;
        assert_eq!(c.received, gone + self.stream.inside(), "{c:?}");
        let shown = self.shown.iter().filter(|o| matches!(o.shown, Shown::Job(_))).count() as u64;
        assert_eq!(shown, c.shown);
    }
}

/// Jittered frames, stalls of the device, changes of prompt, size, steps, batching, schedule and
/// filter: 10 000 frames.
#[test]
fn ten_thousand_frames_keep_their_order_and_never_show_noise() {
    let mut world = World::new(setup(512, 4, Batching::Throughput));
    let mut wanted = setup(512, 4, Batching::Throughput);
    let mut held = Vec::new();
    for id in 0..10_000 {
        let jitter = (world.random() * 30.0) as u32;
        let until = world.now + (18 + jitter) * MS;
        let is_stalled = world.random() < 0.02;
        let length = if is_stalled { 400 * MS } else { (8 + jitter) * MS };
        world.advance(until, length);
        match (world.random() * 200.0) as u32 {
            0 => wanted = setup(256 + 8 * (id % 5) as u32, wanted.layout.rows, wanted.layout.batching),
            1 => wanted = setup(512, 1 + (id % 4) as u32, wanted.layout.batching),
            2 => wanted = setup(512, wanted.layout.rows, Batching::Throughput),
            3 => wanted = setup(512, wanted.layout.rows, Batching::Latency),
            4 => {
                let other = schedule(wanted.layout.rows, 500.0 + (id % 7) as f64);
                wanted.tables = Arc::new(Tables::new(&other, 1.0, Guidance::NONE, 0.0));
            }
            5 => wanted.filter = Some(FilterSettings { threshold: 0.98, max_skip: 10 }),
            6 => wanted.filter = None,
            7 => wanted.noise.seed = id,
            8 => world.stream.set_prompts(PromptMix::only(&format!("prompt {}", id % 20)), ""),
            9 => {
                let slow = PromptMix { transition: 500 * MS, ..PromptMix::only(&format!("slow {}", id % 3)) };
                world.stream.set_prompts(slow, "");
            }
            _ => {}
        }
        world.stream.set(wanted.clone());
        // Half a second of a still picture, now and then.
        let content = if id / 15 % 4 == 0 { id / 15 } else { 1_000_000 + id };
        world.frame(id, content, length);
        world.balance();
        held.push(world.shown.len());
    }
    world.advance(world.now + 2000 * MS, MS);
    world.balance();
    let c = world.stream.counters();
    assert!(c.shown > 4000 && c.dropped > 500 && c.skipped > 100 && c.flushed > 50, "{c:?}");
    assert_eq!(c.failed, 0);
    // No stall holds the picture longer than the stalls, preparations and batches that it met.
    let longest = held.chunk_by(|a, b| a == b).map(<[usize]>::len).max().unwrap();
    assert!(longest < 60, "nothing was shown for {longest} frames");
}

/// However slow the device, a picture is at most the jobs in flight and the batch behind.
#[test]
fn lag_is_bounded_on_a_slow_device() {
    for (steps, batching) in [(1, Batching::Latency), (4, Batching::Latency), (3, Batching::Throughput)] {
        let mut world = World::new(setup(512, steps, batching));
        let length = 400 * MS;
        for id in 0..2000 {
            world.advance(world.now + 33 * MS, length);
            world.frame(id, id, length);
        }
        let slots = if batching == Batching::Throughput { steps as usize } else { 1 };
        assert!(world.most_lag <= 1, "{} jobs were started while one ran", world.most_lag);
        // A frame waits for at most one job's start, runs behind at most one, and goes through the
        // batch's slots.
        let newest = if batching == Batching::Throughput { 2 } else { 1 };
        let bound = length * (newest + slots as u32 - 1) + length + 2 * 33 * MS;
        for output in &world.shown[slots + 2..] {
            let lag = output.done_at - output.captured_at;
            assert!(lag <= bound, "{batching:?} {steps}: {lag:?} > {bound:?}");
        }
        let shown = world.shown.len();
        assert!(shown as f64 >= 2000.0 * 33.0 / 400.0 * 0.95, "the device was idle: {shown}");
    }
}

#[test]
fn the_batch_fills_before_it_shows_and_lags_by_its_slots() {
    let mut world = World::new(setup(64, 4, Batching::Throughput));
    for id in 0..20 {
        world.advance(world.now + 100 * MS, 10 * MS);
        world.frame(id, id, 10 * MS);
    }
    world.advance(world.now + 100 * MS, 10 * MS);
    let first = world.shown[0];
    // Frames before the plans and the prompt were ready were replaced by newer ones.
    let c = world.stream.counters();
    assert_eq!(first.frame, c.dropped);
    assert_eq!(c.shown, 20 - c.dropped - 3);
    assert_eq!(world.stream.lag(), 3);
    assert!(world.shown.windows(2).all(|w| w[1].frame == w[0].frame + 1));
}

#[test]
fn a_prompt_change_costs_no_frame() {
    for batching in [Batching::Latency, Batching::Throughput] {
        let mut world = World::new(setup(64, 2, batching));
        for id in 0..300 {
            world.advance(world.now + 33 * MS, 20 * MS);
            if id % 20 == 19 {
                world.stream.set_prompts(PromptMix::only(&format!("prompt {id}")), "");
            }
            world.frame(id, id, 20 * MS);
        }
        assert!(world.shown.windows(2).all(|w| w[1].frame == w[0].frame + 1));
        assert!(world.shown.len() > 290);
    }
}

#[test]
fn a_still_picture_is_skipped_and_a_change_shows_at_once() {
    let mut still = setup(64, 1, Batching::Latency);
    still.filter = Some(FilterSettings { threshold: 0.98, max_skip: 10 });
    let mut world = World::new(still.clone());
    for id in 0..1000 {
        world.advance(world.now + 33 * MS, 10 * MS);
        world.frame(id, 5, 10 * MS);
    }
    let c = world.stream.counters();
    assert!(c.skipped > 800, "{c:?}");
    still.noise.seed = 9;
    world.stream.set(still);
    let before = c.processed;
    world.advance(world.now + 33 * MS, 10 * MS);
    world.frame(1000, 5, 10 * MS);
    assert_eq!(world.stream.counters().processed, before + 1, "the new seed is to be seen");
    // Every frame differs from the last processed one.
    for id in 1001..1200 {
        world.advance(world.now + 33 * MS, 10 * MS);
        world.frame(id, id, 10 * MS);
    }
    let moved = world.stream.counters();
    assert_eq!(moved.skipped, c.skipped);
}

#[test]
fn what_cannot_be_made_leaves_the_stream_as_it_was() {
    let mut world = World::new(setup(64, 1, Batching::Latency));
    for id in 0..10 {
        world.advance(world.now + 100 * MS, 10 * MS);
        world.frame(id, id, 10 * MS);
    }
    world.stream.set(setup(8192, 1, Batching::Latency));
    assert!(matches!(world.stream.poll(world.now), Some(Command::Prepare(_))));
    world.stream.not_prepared(setup(8192, 1, Batching::Latency).layout);
    for id in 10..20 {
        world.advance(world.now + 100 * MS, 10 * MS);
        world.frame(id, id, 10 * MS);
    }
    assert!(world.stream.poll(world.now).is_none(), "it is not tried again");
    assert_eq!(world.stream.active().unwrap().layout.size, Size::new(64, 64));
    assert!(world.shown.len() >= 18);
}

#[test]
fn a_failed_job_loses_its_batch_only() {
    let mut world = World::new(setup(64, 3, Batching::Throughput));
    for id in 0..30 {
        world.advance(world.now + 50 * MS, 10 * MS);
        world.frame(id, id, 10 * MS);
        if id == 15 {
            let (job, _, _) = world.device.running.pop_front().unwrap();
            world.started.pop_front();
            world.device.pictures.pop_back();
            world.device.rows.fill(None);
            world.stream.failed(job, world.now);
        }
    }
    let c = world.stream.counters();
    assert_eq!((c.failed, c.flushed), (1, 2));
    world.advance(world.now + 50 * MS, 10 * MS);
    world.balance();
}
