//! The state machine.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::blend::NoiseMix;
use super::prompts::{Embeddings, PromptMix, Prompts};
use super::similarity::{Filter, FilterSettings};
use super::tables::Tables;
use crate::frame::Size;
use crate::params::{Batching, GuidanceMode};

/// Most jobs that were started and are not finished, where a device serves one stream.
pub const IN_FLIGHT: usize = 2;

/// Without [`Setup::is_eager`], how long before the expected end of a job the next one is started: long
/// enough that the device does not wait, short enough that its frame is new.
const LEAD: Duration = Duration::from_millis(2);

/// Without [`Setup::is_eager`], jobs that take this long start only when the one before is done: what
/// shows its picture runs on the same queue and would wait for all of the next job.
const LONG: Duration = Duration::from_millis(20);

/// Weight of the newest job in the expected length of one.
const NEWEST: f64 = 0.25;

/// What plans are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Size of the result.
    pub size: Size,
    /// Steps, rows of a stream batch.
    pub rows: u32,
    /// How steps are spread over frames; [`Batching::Latency`] where there is one.
    pub batching: Batching,
    /// Guidance, [`GuidanceMode::None`] where it has no effect.
    pub guidance: GuidanceMode,
    /// Whether pictures are smoothed.
    pub is_smoothed: bool,
}

impl Layout {
    /// Rows that hold frames between jobs: outputs lag by so many, less one.
    pub fn slots(&self) -> usize {
        if self.batching == Batching::Throughput { self.rows as usize } else { 1 }
    }
    /// Whether a negative prompt has an effect.
    pub fn reads_negative(&self) -> bool {
        matches!(self.guidance, GuidanceMode::Initialize | GuidanceMode::Full)
    }
}

/// Everything that follows from parameters and model, but for the prompts.
#[derive(Debug, Clone, PartialEq)]
pub struct Setup {
    /// What plans are needed.
    pub layout: Layout,
    /// The numbers.
    pub tables: Arc<Tables>,
    /// The noise.
    pub noise: NoiseMix,
    /// The similarity filter, where it is on.
    pub filter: Option<FilterSettings>,
    /// Share of the last picture that stays in the next one.
    pub smoothing: f64,
    /// Whether the next job starts while another still has long to run: more frames per second for
    /// more lag.
    pub is_eager: bool,
}

/// A source frame. Times are since the stream's start.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame<P> {
    /// Counts up in the order of arrival.
    pub id: u64,
    /// When it was taken.
    pub captured_at: Duration,
    /// The picture.
    pub picture: P,
}

/// What the stream wants done, in order.
#[derive(Debug, PartialEq)]
pub enum Command<P> {
    /// Make plans beside the stream; then [`Stream::prepared`] or [`Stream::not_prepared`].
    Prepare(Layout),
    /// Encode a text beside the stream; then [`Stream::encoded`] or [`Stream::not_encoded`].
    Encode {
        /// The text.
        text: String,
        /// Whether it is the negative prompt's.
        is_negative: bool,
    },
    /// Upload a frame and compare it with the last processed one; then [`Stream::measured`].
    Measure(Frame<P>),
    /// Process a frame; then [`Stream::finished`] or [`Stream::failed`].
    Run(Job<P>),
}

/// The processing of one frame. What is none is as it was.
#[derive(Debug, PartialEq)]
pub struct Job<P> {
    /// Counts up.
    pub id: u64,
    /// The frame that enters; none where it was uploaded to be measured.
    pub frame: Option<Frame<P>>,
    /// Plans to use.
    pub layout: Layout,
    /// The source frame whose picture comes out; none while the batch fills: nothing is decoded.
    pub shows: Option<u64>,
    /// New numbers.
    pub tables: Option<Arc<Tables>>,
    /// Factors of what enters, new with the numbers and when the last latents become valid.
    pub entry: Option<Vec<f32>>,
    /// New noise.
    pub noise: Option<NoiseMix>,
    /// New text embeddings.
    pub prompt: Option<Embeddings>,
    /// New text embeddings of the negative prompt.
    pub negative: Option<Embeddings>,
    /// New factors of `[this picture, the last one]`.
    pub smoothing: Option<[f32; 2]>,
}

/// A picture to show.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Output {
    /// The source frame.
    pub frame: u64,
    /// When it was taken.
    pub captured_at: Duration,
    /// When its picture was there.
    pub done_at: Duration,
    /// What to show.
    pub shown: Shown,
}

/// What an [`Output`] shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// The picture of this job.
    Job(u64),
    /// The last picture again: the frame was too similar to be processed.
    Again,
}

/// What became of the frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames that came.
    pub received: u64,
    /// Replaced by a newer one before their turn came.
    pub dropped: u64,
    /// Left out by the similarity filter.
    pub skipped: u64,
    /// Entered a job.
    pub processed: u64,
    /// Came out as a picture.
    pub shown: u64,
    /// Were in the batch when it was started anew.
    pub flushed: u64,
    /// Were lost to an error on the device.
    pub failed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Taken {
    id: u64,
    captured_at: Duration,
}

#[derive(Debug, Clone)]
struct Running {
    job: u64,
    started_at: Duration,
    shows: Option<Taken>,
    /// Skipped after it: they show its picture again.
    again: Vec<Taken>,
}

/// Preparation of the setup that is wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Preparation {
    /// Nothing is being prepared.
    Idle,
    /// These plans are being made.
    Making(Layout),
    /// These cannot be made: not tried again until something else is wanted.
    Refused(Layout),
}

/// A frame whose similarity is being measured, or was.
#[derive(Debug, Clone, Copy)]
struct Measurement {
    frame: Taken,
    similarity: Option<f64>,
}

/// What the device holds already.
#[derive(Debug, Default)]
struct Sent {
    tables: Option<Arc<Tables>>,
    has_last: bool,
    noise: Option<NoiseMix>,
    smoothing: Option<[f32; 2]>,
}

/// The stream's state; `P` is what a frame carries.
#[derive(Debug)]
pub struct Stream<P> {
    wanted: Setup,
    active: Option<Setup>,
    preparation: Preparation,
    prompts: Prompts,
    negative: Prompts,
    filter: Filter,
    pending: Option<Frame<P>>,
    measuring: Option<Measurement>,
    /// Frames in the batch's slots, the newest first.
    slots: VecDeque<Taken>,
    running: VecDeque<Running>,
    /// Whether the last job's clean latents and picture belong to this batch.
    has_last: bool,
    /// Jobs until a change has come through: so long a still picture looks different, too.
    unsettled: usize,
    sent: Sent,
    jobs: u64,
    in_flight: usize,
    job_length: Option<Duration>,
    outputs: VecDeque<Output>,
    counters: Counters,
}

impl<P> Stream<P> {
    /// A stream that has nothing yet.
    pub fn new(setup: Setup, prompt: PromptMix, negative: &str) -> Self {
        Self {
            wanted: setup,
            active: None,
            preparation: Preparation::Idle,
            prompts: Prompts::new(prompt),
            negative: Prompts::new(PromptMix::only(negative)),
            filter: Filter::default(),
            pending: None,
            measuring: None,
            slots: VecDeque::new(),
            running: VecDeque::new(),
            has_last: false,
            unsettled: 1,
            sent: Sent::default(),
            jobs: 0,
            in_flight: IN_FLIGHT,
            job_length: None,
            outputs: VecDeque::new(),
            counters: Counters::default(),
        }
    }
    /// Wants another setup. One that needs other plans takes effect when they are there.
    pub fn set(&mut self, setup: Setup) {
        if matches!(self.preparation, Preparation::Refused(layout) if layout != setup.layout) {
            self.preparation = Preparation::Idle;
        }
        self.wanted = setup;
        if self.active.as_ref().is_some_and(|a| a.layout == self.wanted.layout) {
            self.activate();
        }
    }
    /// Has at most `jobs` started and not finished from now on: 1 or [`IN_FLIGHT`].
    pub fn set_in_flight(&mut self, jobs: usize) {
        self.in_flight = jobs.clamp(1, IN_FLIGHT);
    }
    /// Wants other prompts. They take effect when they are encoded.
    pub fn set_prompts(&mut self, prompt: PromptMix, negative: &str) {
        self.prompts.set(prompt);
        self.negative.set(PromptMix::only(negative));
    }
    /// A frame came. One that still waits is dropped for it.
    pub fn push(&mut self, frame: Frame<P>) {
        self.counters.received += 1;
        if self.pending.replace(frame).is_some() {
            self.counters.dropped += 1;
        }
    }
    /// Plans are ready.
    pub fn prepared(&mut self, layout: Layout) {
        self.preparation = Preparation::Idle;
        if layout == self.wanted.layout {
            self.activate();
        }
    }
    /// Plans cannot be made: the stream goes on as it was.
    pub fn not_prepared(&mut self, layout: Layout) {
        self.preparation = Preparation::Refused(layout);
    }
    /// The plans in use have other weights, those of the text encoder, too, where `has_texts` says so: what the device
    /// computed from prompts and times is computed anew with the next job. No frame in the batch is lost.
    pub fn reweighed(&mut self, has_texts: bool) {
        self.sent.tables = None;
        let renew = if has_texts { Prompts::renew } else { Prompts::resend };
        [&mut self.prompts, &mut self.negative].into_iter().for_each(renew);
        self.unsettled = self.active.as_ref().map_or(1, |active| active.layout.slots());
    }
    /// A text is encoded.
    pub fn encoded(&mut self, text: &str, is_negative: bool, embeddings: Vec<f32>) {
        if is_negative { &mut self.negative } else { &mut self.prompts }.encoded(text, embeddings);
    }
    /// A text cannot be encoded: the old prompt stays.
    pub fn not_encoded(&mut self, text: &str, is_negative: bool) {
        if is_negative { &mut self.negative } else { &mut self.prompts }.refused(text);
    }
    /// Cosine similarity to the last processed frame of `frame`, which was to be measured.
    pub fn measured(&mut self, frame: u64, similarity: f64) {
        if let Some(measurement) = self.measuring.as_mut().filter(|m| m.frame.id == frame) {
            measurement.similarity = Some(similarity);
        }
    }
    /// A job is done.
    pub fn finished(&mut self, job: u64, now: Duration) {
        let Some(running) = self.take_running(job) else { return };
        let length = now.saturating_sub(running.started_at).as_secs_f64();
        let known = self.job_length.map_or(length, |l| l.as_secs_f64());
        self.job_length = Some(Duration::from_secs_f64(known + NEWEST * (length - known)));
        // The device was busy with this one until now.
        if let Some(first) = self.running.front_mut() {
            first.started_at = first.started_at.max(now);
        }
        if let Some(frame) = running.shows {
            self.counters.shown += 1;
            self.show(frame, now, Shown::Job(job));
        }
        for frame in running.again {
            self.show(frame, now, Shown::Again);
        }
    }
    /// A job failed on the device: its batch is lost, and so are the jobs that were built on it.
    pub fn failed(&mut self, job: u64, now: Duration) {
        let Some(running) = self.take_running(job) else { return };
        let lost = std::iter::once(running.shows).chain(self.running.iter_mut().map(|r| r.shows.take()));
        self.counters.failed += lost.flatten().count() as u64;
        for frame in running.again {
            self.show(frame, now, Shown::Again);
        }
        self.restart();
    }
    /// Everything in flight failed, texts that are being encoded included.
    pub fn abandon(&mut self, now: Duration) {
        self.counters.failed += u64::from(self.measuring.take().is_some());
        while let Some(first) = self.running.front() {
            self.failed(first.job, now);
        }
        self.restart();
        // What was to be written may not have been.
        self.sent = Sent::default();
        self.prompts.abandon();
        self.negative.abandon();
    }
    /// What to do at `now`; to be asked until it says nothing.
    pub fn poll(&mut self, now: Duration) -> Option<Command<P>> {
        if let Some(command) = self.prepare() {
            return Some(command);
        }
        if let Some(text) = self.prompts.next_text() {
            return Some(Command::Encode { text, is_negative: false });
        }
        if let Some(text) = self.wanted.layout.reads_negative().then(|| self.negative.next_text()).flatten() {
            return Some(Command::Encode { text, is_negative: true });
        }
        if self.can_start(now) { self.start(now) } else { None }
    }
    /// When [`Stream::poll`] may have something to do though nothing happens.
    pub fn wake_at(&self) -> Option<Duration> {
        let waits = self.pending.is_some() && self.running.len() == 1 && self.in_flight > 1;
        if waits { self.early_start() } else { None }
    }
    /// The next picture to show.
    pub fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
    /// What became of the frames so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }
    /// The setup in effect.
    pub fn active(&self) -> Option<&Setup> {
        self.active.as_ref()
    }
    /// Whether other plans are being made.
    pub fn is_preparing(&self) -> bool {
        matches!(self.preparation, Preparation::Making(_))
    }
    /// Frames by which outputs lag: those of the batch and those in flight.
    pub fn lag(&self) -> usize {
        self.active.as_ref().map_or(0, |a| a.layout.slots() - 1) + self.running.len()
    }
    /// Frames that are neither finished nor lost.
    pub fn inside(&self) -> u64 {
        let shows = self.running.iter().filter(|r| r.shows.is_some()).count();
        let waiting = usize::from(self.pending.is_some()) + usize::from(self.measuring.is_some());
        (self.slots.len() + shows + waiting) as u64
    }
    /// Whether nothing is under way or waits: only a batch may still hold frames.
    pub fn is_idle(&self) -> bool {
        self.pending.is_none() && self.measuring.is_none() && self.running.is_empty()
    }
    /// How long a job takes, as far as is known.
    pub fn job_length(&self) -> Option<Duration> {
        self.job_length
    }

    fn prepare(&mut self) -> Option<Command<P>> {
        let layout = self.wanted.layout;
        let is_active = self.active.as_ref().is_some_and(|a| a.layout == layout);
        let is_tried = match self.preparation {
            Preparation::Idle => false,
            Preparation::Making(_) => true,
            Preparation::Refused(refused) => refused == layout,
        };
        if is_active || is_tried {
            return None;
        }
        self.preparation = Preparation::Making(layout);
        Some(Command::Prepare(layout))
    }
    /// The wanted setup takes effect.
    fn activate(&mut self) {
        let wanted = self.wanted.clone();
        let Some(active) = &self.active else {
            self.active = Some(wanted);
            return;
        };
        let is_other_layout = active.layout != wanted.layout;
        // Samples in the slots were noised for their old timesteps.
        let is_other_schedule =
            wanted.layout.slots() > 1 && active.tables.timesteps != wanted.tables.timesteps;
        if *active != wanted {
            self.unsettled = wanted.layout.slots();
        }
        self.active = Some(wanted);
        if is_other_layout {
            // The device holds the new plans' tensors, none of them written.
            self.sent = Sent::default();
            self.prompts.resend();
            self.negative.resend();
            self.job_length = None;
            self.measuring = self.drop_measured();
        }
        if is_other_layout || is_other_schedule {
            self.restart();
        }
    }
    /// A measured frame was uploaded for other plans.
    fn drop_measured(&mut self) -> Option<Measurement> {
        self.counters.dropped += u64::from(self.measuring.is_some());
        None
    }
    /// Nothing in the batch is valid any more.
    fn restart(&mut self) {
        self.counters.flushed += self.slots.len() as u64;
        self.slots.clear();
        self.has_last = false;
    }
    fn can_start(&self, now: Duration) -> bool {
        let Some(active) = &self.active else { return false };
        if !self.prompts.are_ready() || (active.layout.reads_negative() && !self.negative.are_ready()) {
            return false;
        }
        match self.running.len() {
            0 => true,
            n if n >= self.in_flight => false,
            _ if active.is_eager => true,
            1 => self.early_start().is_some_and(|at| now >= at),
            _ => false,
        }
    }
    /// When the next job may start before the running one is done.
    fn early_start(&self) -> Option<Duration> {
        let length = self.job_length.filter(|length| *length < LONG)?;
        Some((self.running.front()?.started_at + length).saturating_sub(LEAD))
    }
    fn start(&mut self, now: Duration) -> Option<Command<P>> {
        let Setup { filter: settings, layout, .. } = self.active.as_ref()?;
        let (settings, slots) = (*settings, layout.slots());
        if self.prompts.have_news() || self.negative.have_news() {
            self.unsettled = slots;
        }
        match (self.measuring, settings) {
            (Some(Measurement { similarity: None, .. }), _) => None,
            (Some(Measurement { frame, similarity: Some(c) }), settings) => {
                self.measuring = None;
                let admits = self.unsettled > 0 || settings.is_none_or(|s| self.filter.admits(s, c));
                if admits {
                    return self.run(frame, None, now);
                }
                self.skip(frame, now);
                self.start(now)
            }
            (None, Some(_)) if self.has_last && self.unsettled == 0 => {
                let frame = self.pending.take()?;
                let Frame { id, captured_at, .. } = frame;
                self.measuring = Some(Measurement { frame: Taken { id, captured_at }, similarity: None });
                Some(Command::Measure(frame))
            }
            (None, _) => {
                let frame = self.pending.take()?;
                let Frame { id, captured_at, .. } = frame;
                self.filter.processed();
                self.run(Taken { id, captured_at }, Some(frame), now)
            }
        }
    }
    /// The last picture is shown again, after those that are on their way. While older frames wait
    /// in the batch it stays without a word: their pictures are still to come.
    fn skip(&mut self, frame: Taken, now: Duration) {
        self.counters.skipped += 1;
        if !self.slots.is_empty() {
            return;
        }
        match self.running.back_mut() {
            Some(running) => running.again.push(frame),
            None => self.show(frame, now, Shown::Again),
        }
    }
    fn run(&mut self, taken: Taken, frame: Option<Frame<P>>, now: Duration) -> Option<Command<P>> {
        let active = self.active.clone()?;
        self.counters.processed += 1;
        self.slots.push_front(taken);
        let shows = if self.slots.len() == active.layout.slots() { self.slots.pop_back() } else { None };
        let job = self.jobs;
        self.jobs += 1;
        self.running.push_back(Running { job, started_at: now, shows, again: Vec::new() });
        let prompt = self.prompts.next(now);
        let negative = active.layout.reads_negative().then(|| self.negative.next(now)).flatten();
        let mut command = Job {
            id: job,
            frame,
            layout: active.layout,
            shows: shows.map(|s| s.id),
            tables: None,
            entry: None,
            noise: None,
            prompt,
            negative,
            smoothing: None,
        };
        self.send_changes(&active, &mut command);
        self.has_last |= shows.is_some();
        self.unsettled = self.unsettled.saturating_sub(1);
        Some(Command::Run(command))
    }
    /// Puts into `job` what the device does not hold yet.
    fn send_changes(&mut self, active: &Setup, job: &mut Job<P>) {
        let Sent { tables, has_last, noise, smoothing } = &mut self.sent;
        let is_new = tables.as_ref() != Some(&active.tables);
        if is_new || *has_last != self.has_last {
            job.entry = Some(active.tables.entry(self.has_last));
            *has_last = self.has_last;
        }
        if is_new {
            job.tables = Some(Arc::clone(&active.tables));
            *tables = job.tables.clone();
        }
        if *noise != Some(active.noise) {
            job.noise = Some(active.noise);
            *noise = job.noise;
        }
        let share = if self.has_last { active.smoothing as f32 } else { 0.0 };
        let factors = Some([1.0 - share, share]);
        if *smoothing != factors {
            job.smoothing = factors;
            *smoothing = factors;
        }
    }
    fn take_running(&mut self, job: u64) -> Option<Running> {
        let at = self.running.iter().position(|r| r.job == job)?;
        self.running.remove(at)
    }
    fn show(&mut self, frame: Taken, now: Duration, shown: Shown) {
        let Taken { id, captured_at } = frame;
        self.outputs.push_back(Output { frame: id, captured_at, done_at: now, shown });
    }
}
