//! A stream's encoder thread: each picture is coded once, for all viewers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use dreamglass_engine::Planes;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::broadcast;

use super::Unit;
use super::encoder::Encoder;
use super::rate::{Bounds, Rate};

/// Units that a slow viewer may fall behind before it has to wait for a key frame.
const WAITING: usize = 16;

/// Shortest time between two key frames: viewers that join together share one.
const KEY_FRAMES: Duration = Duration::from_millis(150);

/// How often rates are measured and the encoder is aimed.
const AIMING: Duration = Duration::from_millis(500);

/// Time over which measured rates are smoothed.
const SMOOTHING: Duration = Duration::from_millis(1500);

/// Change of the frame rate that the encoder is told of.
const FPS_CHANGE: f32 = 0.2;

/// Ticks of RTP's video clock in a second.
const CLOCK: u128 = 90_000;

/// What a stream is coded with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setup {
    /// Bits per second.
    pub bounds: Bounds,
    /// Most frames per second; pictures beyond are left out.
    pub max_fps: f32,
}

impl Default for Setup {
    fn default() -> Self {
        Self { bounds: Bounds::default(), max_fps: 60.0 }
    }
}

/// What was coded.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// Pictures coded since the start.
    pub frames: u64,
    /// Key frames among them.
    pub key_frames: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Pictures replaced by newer ones before they were coded, while somebody watched.
    pub replaced: u64,
    /// Pictures per second lately.
    pub fps: f32,
    /// Bits per second lately.
    pub bits_per_s: f64,
    /// Bits per second that are aimed at.
    pub target: u32,
    /// Seconds that the last picture took to code.
    pub encode_s: f64,
    /// Whether a picture waits for the encoder.
    pub queue: u32,
}

#[derive(Clone)]
struct Shot {
    planes: Arc<Planes>,
    captured_at: Instant,
}

struct State {
    newest: Option<Shot>,
    is_new: bool,
    wants_key: bool,
    viewers: u64,
    is_over: bool,
    rate: Rate,
    figures: Figures,
}

struct Shared {
    epoch: Instant,
    setup: Setup,
    state: Mutex<State>,
    changed: Condvar,
    units: broadcast::Sender<Arc<Unit>>,
    next_viewer: AtomicU64,
    encode_seconds: Histogram,
}

/// Codes the newest picture as long as somebody watches.
pub struct VideoOut {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// A viewer of a stream.
pub struct Subscription {
    shared: Arc<Shared>,
    units: broadcast::Receiver<Arc<Unit>>,
    viewer: u64,
    has_key: bool,
}

impl VideoOut {
    /// Starts the thread; times are counted from `epoch`.
    pub fn start(epoch: Instant, setup: Setup) -> Result<Self> {
        let buckets = [0.001, 0.002, 0.004, 0.008, 0.016, 0.033, 0.066, 0.133];
        let state = State {
            newest: None,
            is_new: false,
            wants_key: false,
            viewers: 0,
            is_over: false,
            rate: Rate::new(setup.bounds),
            figures: Figures::default(),
        };
        let shared = Arc::new(Shared {
            epoch,
            setup,
            state: Mutex::new(state),
            changed: Condvar::new(),
            units: broadcast::Sender::new(WAITING),
            next_viewer: AtomicU64::new(0),
            encode_seconds: Histogram::new(buckets),
        });
        let worker = Arc::clone(&shared);
        let thread = thread::Builder::new().name("encoder".into()).spawn(move || Coding::new(&worker).run());
        Ok(Self { shared, thread: Some(thread.context("cannot start a thread")?) })
    }
    /// Takes a picture; the newest wins.
    pub fn put(&self, planes: Arc<Planes>, captured_at: Instant) {
        let mut state = self.shared.state();
        state.figures.replaced += u64::from(state.is_new && state.viewers > 0);
        state.newest = Some(Shot { planes, captured_at });
        state.is_new = true;
        drop(state);
        self.shared.changed.notify_one();
    }
    /// The newest picture.
    pub fn latest(&self) -> Option<Arc<Planes>> {
        self.shared.state().newest.as_ref().map(|shot| Arc::clone(&shot.planes))
    }
    /// Somebody watches from now on; the first unit is a key frame.
    pub fn subscribe(&self) -> Subscription {
        // Before the key frame is asked for, so that it is not missed.
        let units = self.shared.units.subscribe();
        let mut state = self.shared.state();
        state.viewers += 1;
        state.rate.joined();
        drop(state);
        let viewer = self.shared.next_viewer.fetch_add(1, Ordering::SeqCst);
        let subscription = Subscription { shared: Arc::clone(&self.shared), units, viewer, has_key: false };
        subscription.want_key();
        subscription
    }
    /// How many watch.
    pub fn viewers(&self) -> u64 {
        self.shared.state().viewers
    }
    /// What was coded until now.
    pub fn figures(&self) -> Figures {
        let state = self.shared.state();
        Figures { queue: u32::from(state.is_new && state.viewers > 0), ..state.figures }
    }
    /// Seconds that pictures took to code.
    pub fn encode_seconds(&self) -> Histogram {
        self.shared.encode_seconds.clone()
    }
}

impl Drop for VideoOut {
    fn drop(&mut self) {
        self.shared.state().is_over = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Subscription {
    /// The next unit, beginning with a key frame; after units were missed, too. None when the stream
    /// is over.
    pub async fn next(&mut self) -> Option<Arc<Unit>> {
        loop {
            match self.units.recv().await {
                Ok(unit) if self.has_key || unit.is_key => {
                    self.has_key = true;
                    return Some(unit);
                }
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => self.missed(),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
    /// A unit could not be sent: nothing can be shown before the next key frame.
    pub fn missed(&mut self) {
        self.has_key = false;
        self.want_key();
    }
    /// Asks for a key frame.
    pub fn want_key(&self) {
        self.shared.state().wants_key = true;
        self.shared.changed.notify_one();
    }
    /// The viewer estimates what it could get, in bits per second.
    pub fn estimated(&self, bits_per_s: f64) {
        let mut state = self.shared.state();
        let sent = state.figures.bits_per_s;
        state.rate.estimated(self.viewer, bits_per_s, sent);
    }
    /// The viewer lost this share of packets.
    pub fn lost(&self, share: f64) {
        self.shared.state().rate.lost(self.viewer, share);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.viewers -= 1;
        state.rate.left(self.viewer);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread's side.
struct Coding<'a> {
    shared: &'a Shared,
    encoder: Option<Encoder>,
    fps: f32,
    last: Option<Instant>,
    last_key: Option<Instant>,
    last_time: Option<u32>,
    aimed: Instant,
    since: Figures,
}

impl<'a> Coding<'a> {
    fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            encoder: None,
            fps: 30.0,
            last: None,
            last_key: None,
            last_time: None,
            aimed: Instant::now(),
            since: Figures::default(),
        }
    }
    fn run(&mut self) {
        while let Some((shot, wants_key)) = self.wait() {
            if let Err(error) = self.code(&shot, wants_key) {
                tracing::warn!("{error:#}");
                self.encoder = None;
                // A codec that fails at once would take a core otherwise.
                thread::sleep(AIMING);
            }
        }
    }
    /// The next picture to code, when its time has come, and whether it is to be a key frame.
    fn wait(&mut self) -> Option<(Shot, bool)> {
        let shared = self.shared;
        let mut state = shared.state();
        loop {
            if state.is_over {
                return None;
            }
            let now = Instant::now();
            if now - self.aimed >= AIMING {
                self.aim(&mut state, now);
            }
            let ripe = |last: Option<Instant>, gap: Duration| last.map_or(now, |last| last + gap);
            let has_viewers = state.viewers > 0;
            // A little early is in time: cameras are not that even.
            let gap = Duration::from_secs_f32(0.9 / shared.setup.max_fps);
            let key_at = ripe(self.last_key, KEY_FRAMES);
            let is_key = state.wants_key && now >= key_at;
            let mut patience = AIMING;
            if let (true, Some(shot)) = (has_viewers, state.newest.clone()) {
                let at = ripe(self.last, gap);
                if (state.is_new && now >= at) || is_key {
                    state.is_new = false;
                    state.wants_key &= !is_key;
                    return Some((shot, is_key));
                }
                let next = [state.is_new.then_some(at), state.wants_key.then_some(key_at)];
                let next = next.into_iter().flatten().min();
                patience = next.map_or(AIMING, |at| at.saturating_duration_since(now).min(AIMING));
            }
            let result = shared.changed.wait_timeout(state, patience.max(Duration::from_micros(100)));
            state = result.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
    /// Measures rates, and aims at what viewers can take.
    fn aim(&mut self, state: &mut State, now: Instant) {
        let time = now - self.aimed;
        let seconds = time.as_secs_f64();
        let figures = &mut state.figures;
        let fps = (figures.frames - self.since.frames) as f64 / seconds;
        let bits_per_s = (figures.bytes - self.since.bytes) as f64 * 8.0 / seconds;
        // A slow engine has no picture at all in some of these spans.
        let share = 1.0 - (-seconds / SMOOTHING.as_secs_f64()).exp();
        let smooth = |old: f64, new: f64| if old == 0.0 { new } else { old + share * (new - old) };
        figures.fps = smooth(f64::from(figures.fps), fps) as f32;
        figures.bits_per_s = smooth(figures.bits_per_s, bits_per_s);
        (self.since, self.aimed) = (*figures, now);
        if fps > 0.0 && (figures.fps - self.fps).abs() > FPS_CHANGE * self.fps {
            self.fps = figures.fps.clamp(1.0, self.shared.setup.max_fps);
        }
        if let Some(shot) = &state.newest {
            let size = shot.planes.size();
            // Below 10 frames a second each picture gets as much as at 10.
            state.rate.suit(u64::from(size.width) * u64::from(size.height), f64::from(self.fps.max(10.0)));
        }
        state.rate.grow(time);
        let target = state.rate.target();
        state.figures.target = target;
        if let Some(encoder) = &mut self.encoder
            && let Err(error) = encoder.aim(target, self.fps)
        {
            tracing::warn!("{error:#}");
        }
    }
    fn code(&mut self, shot: &Shot, wants_key: bool) -> Result<()> {
        let began = Instant::now();
        if self.encoder.is_none() {
            let target = self.shared.state().rate.target();
            self.encoder = Some(Encoder::new(target, self.fps)?);
        }
        let encoder = self.encoder.as_mut().context("the encoder was just made")?;
        let at = shot.captured_at.saturating_duration_since(self.shared.epoch);
        let (data, is_key) = encoder.encode(&shot.planes, at, wants_key)?;
        let data = Bytes::copy_from_slice(data);
        let taken = began.elapsed();
        self.last = Some(began);
        self.last_key = if is_key { Some(began) } else { self.last_key };
        let rtp_time = self.stamp(at);
        self.shared.encode_seconds.observe(taken.as_secs_f64());
        let mut state = self.shared.state();
        let figures = &mut state.figures;
        figures.frames += 1;
        figures.key_frames += u64::from(is_key);
        figures.bytes += data.len() as u64;
        figures.encode_s = taken.as_secs_f64();
        drop(state);
        if !data.is_empty() {
            // Nobody may be there any more.
            let _ = self.shared.units.send(Arc::new(Unit { data, rtp_time, is_key }));
        }
        Ok(())
    }
    /// The RTP time of a frame. A picture that is coded again gets the next tick: receivers take units
    /// of one time for one picture.
    fn stamp(&mut self, at: Duration) -> u32 {
        let time = (at.as_nanos() * CLOCK / 1_000_000_000) as u32;
        let time = match self.last_time {
            Some(last) if (time.wrapping_sub(last) as i32) <= 0 => last.wrapping_add(1),
            _ => time,
        };
        self.last_time = Some(time);
        time
    }
}

#[cfg(test)]
mod tests;
