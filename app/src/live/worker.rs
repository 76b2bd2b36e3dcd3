//! The engine's thread: the only one that drives the stream.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result};
use dreamglass_engine::kernels::KernelError;
use dreamglass_engine::kernels::submit::SubmissionTicket;
use dreamglass_engine::live::{Builder, LiveOutput, Reweighed, Stages, TextDone, Work};
use dreamglass_engine::params::Value;
use dreamglass_engine::stream::{Frame, Layout};
use dreamglass_engine::{EngineError, Live, Params, Picture, Planes};

use super::drain::{Drain, Word};
use super::feed::Feed;
use super::host::Guest;
use super::stage_times::StageTimes;
use super::{Answer, OnDevice, Phase, Start, Summary, View};
use crate::sink::Sink;
use crate::source::{Captured, Source};

/// Longest time between looks at the stream when nothing happens.
const IDLE: Duration = Duration::from_millis(100);

/// How long the device is left alone between two looks at what it has done: a few per cent of a frame.
const GLANCE: Duration = Duration::from_micros(250);

/// How long a window may take to present a picture before the next job is started all the same.
const PRESENTING: Duration = Duration::from_millis(25);

/// How often a lost device is opened anew before giving up.
const REOPENINGS: u32 = 3;

/// What the engine's thread hears.
pub enum Event {
    /// A frame is in the slot.
    Frame,
    /// The source does not work now.
    Trouble(String),
    /// The source is over, or broken for good.
    SourceEnd(Option<Error>),
    /// Other parameters.
    Set(Box<Params>),
    /// Some other parameters, by name.
    Change(Vec<(String, Value)>, Answer),
    /// Another source.
    SetSource(Box<dyn Source>),
    /// Another sink.
    AddSink(Box<dyn Sink>),
    /// No sinks any more.
    FinishSinks,
    /// The device is done with something.
    Done,
    /// Plans are made.
    Built(Layout, Box<Result<Stages, EngineError>>),
    /// LoRAs are fused with other weights.
    Fused(Box<Result<Reweighed, EngineError>>),
    /// Something is done for prompts.
    Text(Box<TextDone>),
    /// The end.
    Quit,
}

/// State of the engine's thread.
pub struct Worker {
    pub(super) start: Start,
    view: Arc<Mutex<View>>,
    events: Sender<Event>,
    pub(super) inbox: Receiver<Event>,
    feed: Option<Feed>,
    /// Frames that sources before this one lost.
    lost: u64,
    drains: Vec<Drain>,
    waiter: Sender<SubmissionTicket>,
    waiting: Option<JoinHandle<()>>,
    /// What is done beside the stream.
    beside: Vec<JoinHandle<()>>,
    pub(super) began: Instant,
    pub(super) frames: u64,
    pictures: u64,
    written: Vec<String>,
    pub(super) is_over: bool,
    source_ended: bool,
    source_error: Option<Error>,
    generation: u64,
    reopened: u32,
    guest: Option<Guest>,
    stage_times: StageTimes,
}

impl Worker {
    /// Starts the threads around it.
    pub fn new(
        mut start: Start,
        view: Arc<Mutex<View>>,
        events: Sender<Event>,
        inbox: Receiver<Event>,
    ) -> Result<Self> {
        let source = std::mem::replace(&mut start.source, Box::new(Nothing));
        let sinks = std::mem::take(&mut start.sinks);
        let feed = Feed::start(source, events.clone())?;
        let (waiter, tickets) = channel();
        let done = events.clone();
        let waiting = thread::Builder::new().name("device".into());
        let waiting = waiting.spawn(move || wait(&tickets, &done)).context("cannot start a thread")?;
        let stage_times = StageTimes::new(start.stage_tap.take());
        let mut worker = Self {
            start,
            view,
            events,
            inbox,
            feed: Some(feed),
            lost: 0,
            drains: Vec::new(),
            waiter,
            waiting: Some(waiting),
            beside: Vec::new(),
            began: Instant::now(),
            frames: 0,
            pictures: 0,
            written: Vec::new(),
            is_over: false,
            source_ended: false,
            source_error: None,
            generation: 0,
            reopened: 0,
            guest: None,
            stage_times,
        };
        if !sinks.is_empty() {
            worker.add_sinks(sinks)?;
        }
        Ok(worker)
    }
    /// Loads the model and runs the stream to its end.
    pub fn run(mut self) -> Result<Summary> {
        let result = if self.start.passes_through {
            self.pass_through()
        } else {
            self.guest = Some(self.start.host.enter());
            self.load().and_then(|live| self.stream(live))
        };
        self.feed = None;
        self.finish_sinks();
        let (waiter, _) = channel();
        drop(std::mem::replace(&mut self.waiter, waiter));
        for thread in self.waiting.take().into_iter().chain(self.beside.drain(..)) {
            let _ = thread.join();
        }
        let mut view = self.view();
        view.is_over = true;
        let statistics = view.statistics.summary();
        drop(view);
        (self.start.wake)();
        match self.source_error.take().filter(|_| self.start.ends_with_source) {
            Some(error) if result.is_ok() => Err(error),
            _ => result.map(|()| Summary { statistics, written: self.written }),
        }
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub(super) fn change(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.view());
        (self.start.wake)();
    }
    fn reads_back(&self) -> bool {
        self.start.reads_back || !self.drains.is_empty()
    }
    fn load(&mut self) -> Result<Live> {
        let params = self.view().params.clone();
        let (mut live, generation) = self.start.host.live(params)?;
        self.generation = generation;
        live.set_read_back(self.reads_back());
        live.set_planes(self.start.tap.is_some());
        self.stage_times.begin(&mut live);
        self.change(|view| view.phase = Phase::Waiting);
        Ok(live)
    }
    fn stream(&mut self, mut live: Live) -> Result<()> {
        while !self.is_over {
            match self.turn(&mut live) {
                Ok(()) => {}
                Err(EngineError::Kernel(lost @ KernelError::DeviceLost { .. })) => {
                    live = self.recover(lost)?
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
    /// Hears what happened and drives the stream once.
    fn turn(&mut self, live: &mut Live) -> Result<(), EngineError> {
        let now = self.began.elapsed();
        let patience = live.wake_at().map_or(IDLE, |at| at.saturating_sub(now).min(IDLE));
        match self.inbox.recv_timeout(patience) {
            Ok(event) => self.hear(event, live)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => self.is_over = true,
        }
        while let Ok(event) = self.inbox.try_recv() {
            self.hear(event, live)?;
        }
        live.look(self.began.elapsed())?;
        self.show_all(live);
        live.set_shared(self.start.host.is_shared());
        for work in live.drive(self.began.elapsed())? {
            match work {
                Work::Build(builder) => self.build(builder),
                Work::Reweigh(reweigher) => {
                    self.do_beside("loras", move || Event::Fused(Box::new(reweigher.fuse())));
                }
                Work::Text(text) => self.do_beside("texts", move || Event::Text(Box::new(text.run()))),
                Work::Wait(ticket) => {
                    // It ends only after this thread.
                    let _ = self.waiter.send(ticket);
                }
            }
        }
        self.show_all(live);
        self.stage_times.look(live)?;
        self.report(live);
        let is_done = self.source_ended && live.status().is_idle;
        self.is_over |= is_done && self.start.ends_with_source;
        Ok(())
    }
    fn hear(&mut self, event: Event, live: &mut Live) -> Result<(), EngineError> {
        match event {
            Event::Frame => self.push(live),
            Event::Trouble(reason) => self.change(|view| view.complain(reason)),
            Event::SourceEnd(error) => {
                // A frame may still be in the slot.
                self.push(live);
                self.source_over(error);
            }
            Event::Set(params) => {
                let result = self.set(*params, live);
                self.change(|view| {
                    if let Err(error) = result {
                        view.complain(error.to_string());
                    }
                });
            }
            Event::Change(changes, answer) => {
                let result = self.changed(&changes).and_then(|params| self.set(params, live));
                // Whoever asked may be gone.
                let _ = answer.send(result.map(|()| live.params().clone()));
            }
            Event::SetSource(source) => self.set_source(source),
            Event::AddSink(sink) => {
                if let Err(error) = self.add_sinks(vec![sink]) {
                    self.change(|view| view.complain(format!("{error:#}")));
                }
                live.set_read_back(self.reads_back());
            }
            Event::FinishSinks => {
                self.finish_sinks();
                live.set_read_back(self.reads_back());
            }
            Event::Done => {}
            Event::Built(layout, stages) => {
                live.install(layout, *stages);
            }
            Event::Text(done) => live.hear_text(*done),
            Event::Fused(reweighed) => {
                live.reweigh(*reweighed);
            }
            Event::Quit => self.is_over = true,
        }
        Ok(())
    }
    /// The source is over, or broken for good.
    pub(super) fn source_over(&mut self, error: Option<Error>) {
        self.source_ended = true;
        self.change(|view| {
            view.phase = Phase::Ended;
            if let Some(error) = &error {
                view.complain(format!("{error:#}"));
            }
        });
        self.source_error = error;
    }
    /// The newest frame, if one waits.
    pub(super) fn take(&self) -> Option<Captured> {
        let frame = self.feed.as_ref().and_then(|feed| feed.slot.take())?;
        let mut view = self.view();
        if view.wants_source {
            view.source = Some(Arc::new(frame.picture.clone()));
        }
        Some(frame)
    }
    fn push(&mut self, live: &mut Live) {
        let Some(Captured { captured_at, picture, .. }) = self.take() else { return };
        let captured_at = captured_at.saturating_duration_since(self.began);
        let frame = Frame { id: self.frames, captured_at, picture };
        self.frames += 1;
        if let Err(error) = live.push(frame) {
            self.change(|view| view.complain(error.to_string()));
        }
    }
    /// The parameters with some of them changed.
    pub(super) fn changed(&self, changes: &[(String, Value)]) -> Result<Params, EngineError> {
        let mut params = self.view().params.clone();
        changes.iter().try_for_each(|(name, value)| params.set(name, value))?;
        Ok(params)
    }
    fn set(&self, mut params: Params, live: &mut Live) -> Result<(), EngineError> {
        self.start.looks.complete(&mut params);
        let result = live.set(params);
        self.change(|view| view.params = live.params().clone());
        result
    }
    /// Goes over to another source; the last picture stays until it has a frame.
    pub(super) fn set_source(&mut self, source: Box<dyn Source>) {
        let name = source.describe();
        match Feed::start(source, self.events.clone()) {
            Ok(feed) => {
                let old = self.feed.replace(feed);
                self.lost += old.as_ref().map_or(0, Feed::lost);
                // Its thread may take a moment to end; pictures do not wait for it.
                thread::spawn(move || drop(old));
                (self.source_ended, self.source_error) = (false, None);
                self.change(|view| {
                    view.source_name = name;
                    view.source = None;
                    view.phase = if view.phase == Phase::Ended { Phase::Live } else { view.phase };
                });
            }
            Err(error) => self.change(|view| view.complain(format!("{name}: {error:#}"))),
        }
    }
    fn build(&mut self, builder: Builder) {
        let layout = builder.layout();
        self.do_beside("compiler", move || Event::Built(layout, Box::new(builder.build())));
    }
    /// Does `work` on a thread of its own, which tells what came of it.
    fn do_beside(&mut self, name: &str, work: impl FnOnce() -> Event + Send + 'static) {
        let events = self.events.clone();
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            let _ = events.send(work());
        });
        self.beside.retain(|thread| !thread.is_finished());
        match thread {
            Ok(thread) => self.beside.push(thread),
            Err(error) => self.change(|view| view.complain(format!("cannot start a thread: {error}"))),
        }
    }
    /// Hands on what is done. A window gets the time to present it before a long job is started.
    fn show_all(&mut self, live: &mut Live) {
        let before = self.pictures;
        while let Some(output) = live.next_output() {
            self.show(output);
        }
        let is_long = live.status().job_length.is_some_and(|length| length > 2 * PRESENTING);
        if let (true, Some(presented)) = (self.pictures > before && is_long, &self.start.presented) {
            presented.wait(self.pictures, PRESENTING);
        }
    }
    fn show(&mut self, output: LiveOutput) {
        let LiveOutput { output, size, pixels, picture, planes } = output;
        self.pictures += 1;
        let number = self.pictures;
        self.hand_on(picture.as_ref(), planes, self.began + output.captured_at);
        self.change(|view| {
            view.statistics.add(output.captured_at, output.done_at);
            if let Some(pixels) = pixels {
                view.picture = Some(OnDevice { pixels, size, number, host: picture });
            }
            view.phase = if view.phase == Phase::Ended { Phase::Ended } else { Phase::Live };
        });
        self.is_over |= self.start.limit.is_some_and(|limit| self.pictures >= limit);
    }
    /// Gives a picture to sinks and the encoder.
    pub(super) fn hand_on(
        &mut self,
        picture: Option<&Arc<Picture>>,
        planes: Option<Arc<Planes>>,
        captured_at: Instant,
    ) {
        if let Some(picture) = picture {
            self.drains.iter_mut().for_each(|drain| drain.put(Arc::clone(picture)));
        }
        if let (Some(planes), Some(tap)) = (planes, &self.start.tap) {
            tap(planes, captured_at);
        }
    }
    fn report(&self, live: &mut Live) {
        let status = live.status();
        let lost = self.lost();
        let mut news = false;
        let mut view = self.view();
        while let Some(trouble) = live.next_trouble() {
            view.complain(trouble);
            news = true;
        }
        let phase = match view.phase {
            Phase::Waiting if self.frames > 0 => Phase::Compiling,
            other => other,
        };
        news |= phase != view.phase || view.is_preparing != status.is_preparing;
        view.phase = phase;
        view.is_preparing = status.is_preparing;
        view.statistics.status = Some(status);
        view.statistics.lost = lost;
        drop(view);
        if news {
            (self.start.wake)();
        }
    }
    /// Frames that never reached the stream.
    pub(super) fn lost(&self) -> u64 {
        self.lost + self.feed.as_ref().map_or(0, Feed::lost)
    }
    /// Opens another device after a loss and loads the model again; the last picture stays.
    fn recover(&mut self, lost: KernelError) -> Result<Live> {
        self.reopened += 1;
        if self.reopened > REOPENINGS {
            return Err(Error::from(lost).context(format!("the device was lost {REOPENINGS} times")));
        }
        self.change(|view| view.complain(format!("{lost}; opening it again")));
        for thread in self.beside.drain(..) {
            let _ = thread.join();
        }
        // What was made for the lost device is nothing to the next.
        let is_made = |event: &Event| matches!(event, Event::Built(..) | Event::Fused(_) | Event::Text(_));
        let others: Vec<Event> = self.inbox.try_iter().filter(|event| !is_made(event)).collect();
        others.into_iter().for_each(|event| drop(self.events.send(event)));
        self.start.host.renew(self.generation)?;
        let gpu = self.start.host.gpu();
        self.change(|view| {
            view.gpu = gpu;
            // What is on the host can still be shown.
            view.picture = view.picture.take().filter(|picture| picture.host.is_some());
            view.phase = Phase::Loading;
        });
        self.load()
    }
    pub(super) fn add_sinks(&mut self, sinks: Vec<Box<dyn Sink>>) -> Result<()> {
        let (view, wake) = (Arc::clone(&self.view), Arc::clone(&self.start.wake));
        let tell = move |Word::Trouble(message): Word| {
            view.lock().unwrap_or_else(PoisonError::into_inner).complain(message);
            wake();
        };
        self.drains.push(Drain::start(sinks, tell)?);
        Ok(())
    }
    pub(super) fn finish_sinks(&mut self) {
        for drain in std::mem::take(&mut self.drains) {
            let dropped = drain.dropped;
            for written in drain.finish() {
                match written {
                    Ok(text) => self.written.push(text),
                    Err(error) => self.change(|view| view.complain(format!("{error:#}"))),
                }
            }
            if dropped > 0 {
                tracing::warn!("{dropped} pictures were not written: the disk is too slow");
            }
        }
    }
}

/// Waits for each ticket in turn, so that the engine's thread need not. It looks again and again
/// instead of blocking: wgpu holds a lock while it blocks, for which a window's present waits, and
/// behind that every submission (wgpu-core 30, `Device::maintain` and `present.rs`).
fn wait(tickets: &Receiver<SubmissionTicket>, done: &Sender<Event>) {
    for ticket in tickets {
        // What went wrong is found by the engine's thread.
        while let Ok(false) = ticket.is_done() {
            thread::sleep(GLANCE);
        }
        if done.send(Event::Done).is_err() {
            return;
        }
    }
}

/// In the place of a source that went to its thread.
struct Nothing;

impl Source for Nothing {
    fn next(&mut self) -> Result<Option<crate::source::Event>> {
        Ok(Some(crate::source::Event::End))
    }
    fn describe(&self) -> String {
        String::new()
    }
}
