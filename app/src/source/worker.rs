//! Sources that work on a thread of their own and come back after trouble.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use dreamglass_engine::Picture;

use super::inbox::{Inbox, Policy, Said};
use super::pace::{PATIENCE, Pace, wait_for};
use super::stop::Stop;
use super::{Captured, Event, Source};

/// Something that can be opened again after it has failed. Lives on the worker's thread.
pub trait Feed: Send + 'static {
    /// Opens it. Gives up early when `stop` is raised.
    fn open(&mut self, stop: &Stop) -> Result<Opened>;
}

/// What was opened.
pub struct Opened {
    /// Its pictures.
    pub stream: Box<dyn Stream>,
    /// What people call it.
    pub text: String,
    /// Frames per second where pictures do not come in their own time.
    pub rate: Option<f64>,
}

/// Pictures until the end or a failure. May wait as long as it takes.
pub trait Stream {
    /// What comes next. An error is the end of this stream, and the reason to open another one.
    fn next(&mut self) -> Result<Next>;
}

/// What comes next.
pub enum Next {
    /// A picture.
    Picture(Picture),
    /// A frame that could not be read, and why.
    Lost(String),
    /// There is no more, and that is as it should be.
    End,
}

/// How a worker behaves.
#[derive(Debug, Clone, Copy)]
pub struct Habits {
    /// What happens to pictures that nobody has taken yet.
    pub policy: Policy,
    /// Wait before the first new try; each further one waits twice as long.
    pub first_wait: Duration,
    /// Silence after which something is wrong.
    pub max_silence: Option<Duration>,
    /// How long it may take from the opening to the first picture.
    pub max_opening: Option<Duration>,
}

/// Seconds before a new try: 1, 2, 4, 8, 8, ...
pub const FIRST_WAIT: Duration = Duration::from_secs(1);

/// How long the end of a thread is waited for: a driver may hang, and must not take the program along.
const MAX_ENDING: Duration = Duration::from_secs(2);

/// Times that the wait doubles.
const DOUBLINGS: u32 = 3;

/// A source on a thread of its own.
pub struct Worker {
    inbox: Arc<Inbox>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
    habits: Habits,
    text: String,
    rate: Option<f64>,
    pace: Option<Pace>,
    held: Option<Captured>,
    heard: Instant,
    is_silent: bool,
    is_over: bool,
}

impl Worker {
    /// Opens `feed` and waits until that has worked.
    pub fn start(feed: impl Feed, habits: Habits) -> Result<Self> {
        let (inbox, stop) = (Arc::new(Inbox::new(habits.policy)), Stop::default());
        let thread = {
            let mut labour = Labour {
                inbox: Arc::clone(&inbox),
                stop: stop.clone(),
                index: 0,
                lost: 0,
                last_trouble: None,
            };
            let named = thread::Builder::new().name("source".into());
            named.spawn(move || labour.run(feed, habits.first_wait))?
        };
        let mut worker = Self {
            inbox,
            stop,
            thread: Some(thread),
            habits,
            text: String::new(),
            rate: None,
            pace: None,
            held: None,
            heard: Instant::now(),
            is_silent: false,
            is_over: false,
        };
        worker.wait_for_opening()?;
        Ok(worker)
    }
    fn wait_for_opening(&mut self) -> Result<()> {
        loop {
            match self.inbox.take(PATIENCE) {
                Some(Said::Opened { text, rate }) => {
                    self.opened(text, rate);
                    return Ok(());
                }
                Some(Said::Failed(error)) => return Err(error),
                _ if self.is_gone() => return Err(anyhow!("the source's thread panicked")),
                _ => self.check_opening()?,
            }
        }
    }
    fn check_opening(&self) -> Result<()> {
        let Some(max) = self.habits.max_opening.filter(|max| self.heard.elapsed() > *max) else {
            return Ok(());
        };
        // The opening then fails, and says why. What hangs in a driver cannot.
        self.stop.end_child();
        if self.heard.elapsed() < max + MAX_ENDING {
            return Ok(());
        }
        Err(anyhow!("no picture came in {} s", max.as_secs_f32()))
    }
    fn is_gone(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
    fn opened(&mut self, text: String, rate: Option<f64>) {
        (self.text, self.rate, self.pace) = (text, rate, None);
        (self.heard, self.is_silent) = (Instant::now(), false);
    }
    /// The frame that is due, or none for now.
    fn due(&mut self, frame: Captured) -> Option<Event> {
        let Some(rate) = self.rate else { return Some(Event::Frame(frame)) };
        let now = Instant::now();
        let pace = self.pace.get_or_insert_with(|| {
            let before = Duration::try_from_secs_f64(frame.index as f64 / rate).unwrap_or_default();
            Pace::new(rate, now.checked_sub(before).unwrap_or(now))
        });
        pace.catch_up(frame.index, now);
        if !wait_for(pace.due(frame.index)) {
            self.held = Some(frame);
            return None;
        }
        let newest = pace.newest(Instant::now());
        let mut frame = frame;
        while let Some(Said::Picture { index, at, picture }) =
            self.inbox.take_picture_if(|index| index <= newest)
        {
            frame = Captured { index, captured_at: at, picture };
        }
        frame.captured_at = Instant::now();
        Some(Event::Frame(frame))
    }
    /// What a worker that says nothing means.
    fn silence(&mut self) -> Result<Option<Event>> {
        if self.is_gone() && !self.stop.is_raised() {
            self.is_over = true;
            return Err(anyhow!("{}: the source's thread panicked", self.text));
        }
        let Some(max) = self.habits.max_silence else { return Ok(None) };
        if self.is_silent || self.heard.elapsed() < max {
            return Ok(None);
        }
        self.is_silent = true;
        // A child that hangs is replaced by a new one; a device that hangs may come back.
        self.stop.end_child();
        let seconds = max.as_secs_f32();
        Ok(Some(Event::Trouble(format!("{}: nothing came for {seconds} s, waiting", self.text))))
    }
}

impl Source for Worker {
    fn next(&mut self) -> Result<Option<Event>> {
        if self.is_over {
            return Ok(Some(Event::End));
        }
        if let Some(frame) = self.held.take() {
            return Ok(self.due(frame));
        }
        let Some(said) = self.inbox.take(PATIENCE) else { return self.silence() };
        (self.heard, self.is_silent) = (Instant::now(), false);
        Ok(match said {
            Said::Opened { text, rate } => {
                self.opened(text, rate);
                None
            }
            Said::Picture { index, at, picture } => self.due(Captured { index, captured_at: at, picture }),
            Said::Trouble(message) => Some(Event::Trouble(message)),
            Said::End => {
                self.is_over = true;
                Some(Event::End)
            }
            Said::Failed(error) => return Err(error),
        })
    }
    fn describe(&self) -> String {
        self.text.clone()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.raise();
        let asked = Instant::now();
        while !self.is_gone() && asked.elapsed() < MAX_ENDING {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// The thread's side.
struct Labour {
    inbox: Arc<Inbox>,
    stop: Stop,
    index: u64,
    lost: u64,
    last_trouble: Option<String>,
}

impl Labour {
    fn run(&mut self, mut feed: impl Feed, first_wait: Duration) {
        let mut doublings = 0;
        let mut has_worked = false;
        while !self.stop.is_raised() {
            let before = self.index;
            match feed.open(&self.stop).and_then(|opened| {
                has_worked = true;
                self.pump(opened)
            }) {
                Ok(()) => return self.say(Said::End),
                Err(error) if !has_worked => return self.say(Said::Failed(error)),
                Err(error) => self.trouble(format!("{error:#}")),
            }
            if self.index > before {
                doublings = 0;
            }
            if self.stop.sleep(first_wait * 2_u32.pow(doublings)) {
                return;
            }
            doublings = (doublings + 1).min(DOUBLINGS);
        }
    }
    fn pump(&mut self, opened: Opened) -> Result<()> {
        let Opened { mut stream, text, rate } = opened;
        self.say(Said::Opened { text, rate });
        while !self.stop.is_raised() {
            match stream.next()? {
                Next::Picture(picture) => {
                    self.say(Said::Picture { index: self.index, at: Instant::now(), picture });
                    self.last_trouble = None;
                }
                Next::Lost(why) => self.lost(&why),
                Next::End => return Ok(()),
            }
            self.index += 1;
        }
        Ok(())
    }
    /// Told for the 1st, 2nd, 4th, 8th...: a camera that sends nothing else would fill the log.
    fn lost(&mut self, why: &str) {
        self.lost += 1;
        if self.lost.is_power_of_two() {
            tracing::warn!("{} frames could not be read so far; the last one: {why}", self.lost);
        }
    }
    fn say(&self, said: Said) {
        self.inbox.put(said, &self.stop);
    }
    /// The same trouble again is no news.
    fn trouble(&mut self, message: String) {
        if self.stop.is_raised() || self.last_trouble.as_ref() == Some(&message) {
            return;
        }
        self.last_trouble = Some(message.clone());
        self.say(Said::Trouble(message));
    }
}

#[cfg(test)]
mod tests;
