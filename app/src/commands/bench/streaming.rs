//! Frames as a stream: a fresh one whenever the engine takes one, up to two in flight.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dreamglass_engine::kernels::KernelError;
use dreamglass_engine::kernels::profile::{Detail, Profiler, Span};
use dreamglass_engine::kernels::submit::SubmissionTicket;
use dreamglass_engine::live::Work;
use dreamglass_engine::stream::{Counters, Shown};

use super::session::{Session, ms};
use crate::clock;

/// Outputs until the stream runs evenly, beside those that older frames in the batch still make.
const FILLING: usize = 2;
/// Longest sleep while the device works: Ctrl-C is seen behind it.
const SLEEP: Duration = Duration::from_secs(1);
/// Longest sleep while it does not.
const NAP: Duration = Duration::from_millis(5);
/// Shortest sleep.
const BLINK: Duration = Duration::from_micros(200);
/// Spans of the stages of a frame.
const SPANS: u32 = 64;

/// What a stream gave.
#[derive(Default)]
pub struct Streamed {
    /// When each output was done, in milliseconds since the first one.
    pub done_ms: Vec<f64>,
    /// From the capture of a frame to its picture.
    pub latency_ms: Vec<f64>,
    /// CPU time in `push` and `drive` from one job to the next.
    pub cpu_ms: Vec<f64>,
    /// What encoding and submitting each job spent on a core.
    pub encode_ms: Vec<f64>,
    /// Each `drive` that started a job, by the clock.
    pub submit_ms: Vec<f64>,
    /// Outputs that showed the last picture again.
    pub again: u64,
    /// What became of the frames.
    pub processed: u64,
    pub skipped: u64,
    /// Spans of jobs and of comparisons, where they were measured.
    pub spans: Vec<Vec<Span>>,
}

/// The stream and the thread that waits for the device.
struct Run<'a> {
    session: &'a mut Session,
    to_wait: Sender<SubmissionTicket>,
    done: Receiver<Result<(), KernelError>>,
    in_flight: usize,
    cpu: Duration,
    streamed: Streamed,
}

impl Streamed {
    /// Measures until `count` frames are done with; device times of stages only if `is_profiled`.
    pub fn measure(session: &mut Session, count: u32, is_profiled: bool) -> Result<Self> {
        if is_profiled {
            let profiler = match Profiler::new(session.live.gpu(), SPANS) {
                Err(KernelError::Unsupported { .. }) => None,
                profiler => Some((profiler?, Detail::Stages)),
            };
            session.live.set_profiler(profiler);
        }
        let streamed = thread::scope(|scope| {
            let (to_wait, tickets) = channel::<SubmissionTicket>();
            let (tell, done) = channel();
            scope.spawn(move || tickets.iter().all(|ticket| tell.send(ticket.wait()).is_ok()));
            let (streamed, cpu) = (Self::default(), Duration::ZERO);
            let mut run = Run { session, to_wait, done, in_flight: 0, cpu, streamed };
            run.all(count as usize)?;
            Ok(run.streamed)
        });
        session.live.set_profiler(None);
        streamed
    }
    /// Pictures per second, those shown again included.
    pub fn fps(&self) -> Option<f64> {
        let last = self.done_ms.last().filter(|last| **last > 0.0)?;
        Some((self.done_ms.len() - 1) as f64 / last * 1e3)
    }
    /// Times between outputs.
    pub fn intervals(&self) -> Vec<f64> {
        self.done_ms.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

impl Run<'_> {
    fn all(&mut self, count: usize) -> Result<()> {
        let slots = self.session.live.status().layout.map_or(1, |l| l.slots());
        self.until(slots - 1 + FILLING)?;
        let filled = self.session.live.status().counters;
        self.streamed = Streamed::default();
        // One more: intervals lie between outputs.
        self.until(count + 1)?;
        self.count(filled);
        self.drain()
    }
    /// Runs until so many frames are done with.
    fn until(&mut self, count: usize) -> Result<()> {
        let mut first = None;
        let before = handled(self.session.live.status().counters);
        loop {
            let shown = self.streamed.done_ms.len();
            self.cpu += self.session.push(clock::of_thread)?;
            self.drive()?;
            self.collect(&mut first)?;
            let now = self.streamed.done_ms.len();
            self.session.bar.inc((now - shown) as u64);
            // Skipped frames make no output while older ones wait in the batch.
            let is_silent = handled(self.session.live.status().counters) - before >= 2 * count as u64;
            if now >= count || is_silent || self.session.is_interrupted() {
                return Ok(());
            }
            self.sleep()?;
        }
    }
    /// Nanoseconds spent on encoding and submitting so far.
    fn encode_ns(&self) -> u64 {
        self.session.live.gpu().counters().encode_ns
    }
    fn drive(&mut self) -> Result<()> {
        let live = &mut self.session.live;
        let before = live.status().counters.processed;
        let (begun, spent) = (self.session.now(), clock::of_thread());
        let encoded = self.encode_ns();
        let work = self.session.live.drive(begun)?;
        let took = self.session.now() - begun;
        self.cpu += clock::of_thread() - spent;
        if self.session.live.status().counters.processed > before {
            self.streamed.cpu_ms.push(ms(std::mem::take(&mut self.cpu)));
            self.streamed.submit_ms.push(ms(took));
            self.streamed.encode_ms.push((self.encode_ns() - encoded) as f64 / 1e6);
        }
        for work in work {
            match work {
                Work::Wait(ticket) => self.wait(ticket)?,
                Work::Build(builder) => self.session.live.install(builder.layout(), builder.build()),
                Work::Text(text) => self.session.live.hear_text(text.run()),
                Work::Reweigh(reweigher) => self.session.live.reweigh(reweigher.fuse()),
            }
        }
        self.session.check()
    }
    fn collect(&mut self, first: &mut Option<Duration>) -> Result<()> {
        while let Some(output) = self.session.live.next_output() {
            let output = output.output;
            let first = *first.get_or_insert(output.done_at);
            self.streamed.done_ms.push(ms(output.done_at.saturating_sub(first)));
            self.streamed.latency_ms.push(ms(output.done_at.saturating_sub(output.captured_at)));
            self.streamed.again += u64::from(output.shown == Shown::Again);
        }
        if let Some(profiler) = self.session.live.profiler() {
            while let Some(spans) = profiler.poll()? {
                self.streamed.spans.push(spans);
            }
        }
        Ok(())
    }
    /// Hands a ticket to the waiting thread.
    fn wait(&mut self, ticket: SubmissionTicket) -> Result<()> {
        self.to_wait.send(ticket).context("the waiting thread is gone")?;
        self.in_flight += 1;
        Ok(())
    }
    /// Until the device is done with something, or the stream wants to start the next job.
    fn sleep(&mut self) -> Result<()> {
        let now = self.session.now();
        let wake = self.session.live.wake_at().map(|at| at.saturating_sub(now));
        let longest = if self.in_flight > 0 { SLEEP } else { NAP };
        match self.done.recv_timeout(wake.map_or(longest, |w| w.clamp(BLINK, longest))) {
            Ok(result) => {
                self.in_flight -= 1;
                Ok(result?)
            }
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => bail!("the waiting thread is gone"),
        }
    }
    fn count(&mut self, before: Counters) {
        let now = self.session.live.status().counters;
        self.streamed.processed = now.processed - before.processed;
        self.streamed.skipped = now.skipped - before.skipped;
    }
    /// Lets what is in flight come to its end.
    fn drain(&mut self) -> Result<()> {
        while self.in_flight > 0 {
            self.sleep()?;
            let work = self.session.live.drive(self.session.now())?;
            for work in work {
                if let Work::Wait(ticket) = work {
                    self.wait(ticket)?;
                }
            }
            while self.session.live.next_output().is_some() {}
        }
        Ok(())
    }
}

fn handled(counters: Counters) -> u64 {
    counters.processed + counters.skipped
}
