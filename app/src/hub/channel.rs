//! A stream that is served.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use dreamglass_engine::params::Value;
use dreamglass_engine::{EngineError, Params, Planes};
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::{broadcast, oneshot};

use super::report::{PublisherReport, Report, VideoReport};
use super::{MAIN, Setup, SourceOpener};
use crate::codec::video_in::{Outlet, VideoIn};
use crate::codec::video_out::{Subscription, VideoOut};
use crate::live::{Phase, Session, StageTap, Start, Summary, Tap};
use crate::sink::Sink;
use crate::source::Source;
use crate::source::remote::{RemoteSender, remote};

/// Notices that a slow listener may fall behind.
const NOTICES: usize = 64;

/// Something new about a stream.
#[derive(Debug, Clone)]
pub enum Notice {
    /// Parameters changed.
    Params(Arc<Params>),
    /// Where the stream is, and what its source calls itself.
    Phase(Phase, String),
    /// Something went wrong.
    Trouble(String),
    /// The stream is over, and why.
    Over(String),
}

/// Why nobody can publish.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Somebody does.
    #[error("somebody publishes to this stream already")]
    Busy,
    /// No more streams.
    #[error("there are {max_streams} streams already, the most that this server runs")]
    Full {
        /// The limit.
        max_streams: usize,
    },
    /// Not a name.
    #[error("a stream is called by up to 32 small letters, digits, - and _")]
    Name,
    /// It cannot be made.
    #[error("{0}")]
    Failed(String),
}

/// A running stream with its encoder.
pub struct Channel {
    name: String,
    began: Instant,
    epoch: SystemTime,
    session: Mutex<Option<Session>>,
    video: Arc<VideoOut>,
    latency_seconds: Histogram,
    stages: Arc<StageHistograms>,
    notices: broadcast::Sender<Notice>,
    seen: Mutex<Seen>,
    publisher: Mutex<Publisher>,
    source: SourceOpener,
    gpu_name: String,
}

/// What listeners know.
struct Seen {
    params: Arc<Params>,
    phase: Phase,
    source: String,
    trouble: Option<Instant>,
}

struct Publisher {
    video: Option<Arc<VideoIn>>,
    left: Instant,
}

/// Somebody publishes as long as this is there.
pub struct Publication {
    channel: Arc<Channel>,
    sender: RemoteSender,
    video: Arc<VideoIn>,
    wants_key: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Channel {
    pub(super) fn start(
        name: &str,
        setup: &Setup,
        source: Box<dyn Source>,
        sinks: Vec<Box<dyn Sink>>,
    ) -> Result<Arc<Self>> {
        let (began, epoch) = (Instant::now(), SystemTime::now());
        let video = Arc::new(VideoOut::start(began, setup.video)?);
        let latency_seconds = Histogram::new([0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]);
        let stages = Arc::new(StageHistograms::default());
        let source_name = source.describe();
        let session = Session::start(Start {
            host: Arc::clone(&setup.host),
            passes_through: setup.passes_through,
            looks: Arc::clone(&setup.looks),
            params: setup.params.clone(),
            source,
            sinks,
            reads_back: false,
            tap: Some(tap(&video, &latency_seconds)),
            stage_tap: Some(stages_tap(&stages)),
            presented: None,
            ends_with_source: false,
            limit: None,
            wake: Arc::new(|| ()),
        })?;
        let params = Arc::new(session.view().params.clone());
        Ok(Arc::new(Self {
            name: name.into(),
            began,
            epoch,
            session: Mutex::new(Some(session)),
            video,
            latency_seconds,
            stages,
            notices: broadcast::Sender::new(NOTICES),
            seen: Mutex::new(Seen { params, phase: Phase::Loading, source: source_name, trouble: None }),
            publisher: Mutex::new(Publisher { video: None, left: began }),
            source: Arc::clone(&setup.source),
            gpu_name: setup.host.gpu().summary().name.clone(),
        }))
    }
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// What RTP times are counted from, by the server's clock.
    pub fn epoch(&self) -> SystemTime {
        self.epoch
    }
    /// Its encoder.
    pub fn video(&self) -> &VideoOut {
        &self.video
    }
    /// Watches it.
    pub fn subscribe(&self) -> Subscription {
        self.video.subscribe()
    }
    /// Hears what is new from now on.
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }
    /// The newest picture.
    pub fn snapshot(&self) -> Option<Arc<Planes>> {
        self.video.latest()
    }
    /// Seconds from capture to result.
    pub fn latency_seconds(&self) -> Histogram {
        self.latency_seconds.clone()
    }
    /// Seconds on the device by stages of a frame, of a few frames in a second.
    pub fn stage_seconds(&self) -> BTreeMap<String, Histogram> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// Parameters in effect or on their way.
    pub fn params(&self) -> Arc<Params> {
        Arc::clone(&self.seen().params)
    }
    /// Where it is, and what its source calls itself.
    pub fn phase(&self) -> (Phase, String) {
        let seen = self.seen();
        (seen.phase, seen.source.clone())
    }
    /// Whether somebody publishes to it.
    pub fn has_publisher(&self) -> bool {
        self.publisher().video.is_some()
    }
    /// Sets some parameters by name, all or none of them: all parameters then. None when the stream
    /// ended meanwhile.
    pub async fn change(&self, changes: Vec<(String, Value)>) -> Option<Result<Arc<Params>, EngineError>> {
        let (answer, answered) = oneshot::channel();
        match &*self.session() {
            Some(session) => session.change(changes, answer),
            None => return None,
        }
        let result = answered.await.ok()?;
        self.look();
        Some(result.map(|_| self.params()))
    }
    /// Everything that is measured.
    pub fn report(&self) -> Report {
        // Before the session: `publish` locks them in this order, and waits for good where another does not.
        let publisher = self.publisher().video.as_ref().map(|v| PublisherReport::from(v.counts()));
        let session = self.session();
        let Some(session) = &*session else { return Report::over(&self.name) };
        let view = session.view();
        let statistics = &view.statistics;
        let status = statistics.status;
        let mut report = Report {
            fps: statistics.fps().unwrap_or(0.0),
            latency_ms: statistics.latency().map(|seconds| seconds * 1e3),
            lag_frames: status.map_or(0, |s| s.lag),
            is_preparing: view.is_preparing,
            frames: status.map(|s| s.counters.into()).unwrap_or_default(),
            device: self.gpu_name.clone(),
            ..Report::over(&self.name)
        };
        report.frames.dropped += statistics.lost;
        report.frames.received += statistics.lost;
        report.phase = view.phase.into();
        report.source.clone_from(&view.source_name);
        drop(view);
        let size = self.snapshot().map(|planes| planes.size());
        report.size = size.map(|size| format!("{}x{}", size.width, size.height));
        report.video = VideoReport::from(self.video.figures());
        report.viewers = self.video.viewers();
        report.publisher = publisher;
        report
    }
    /// Takes pictures from a publisher.
    pub(super) fn publish(self: &Arc<Self>) -> Result<Publication, Refusal> {
        let mut publisher = self.publisher();
        if publisher.video.is_some() {
            return Err(Refusal::Busy);
        }
        let (source, sender) = remote("a publisher");
        let wish = Arc::new(KeyWish::default());
        let (to, wished) = (sender.clone(), Arc::clone(&wish));
        let outlet = Outlet {
            picture: Box::new(move |picture, at| to.put(picture, at)),
            want_key: Box::new(move || wished.raise()),
        };
        let video = VideoIn::start(outlet).map_err(|error| Refusal::Failed(format!("{error:#}")))?;
        let video = Arc::new(video);
        match &*self.session() {
            Some(session) => session.set_source(Box::new(source)),
            None => return Err(Refusal::Failed("the stream has just ended".into())),
        }
        publisher.video = Some(Arc::clone(&video));
        let wants_key = Arc::new(move || wish.take());
        Ok(Publication { channel: Arc::clone(self), sender, video, wants_key })
    }
    /// The publisher is gone: [`MAIN`] goes back to the server's source, others wait for a new one.
    fn unpublish(self: &Arc<Self>) {
        let mut publisher = self.publisher();
        (publisher.video, publisher.left) = (None, Instant::now());
        drop(publisher);
        if self.name != MAIN {
            return;
        }
        let channel = Arc::clone(self);
        // A camera may take seconds to open.
        thread::spawn(move || {
            let source = (channel.source)();
            // Somebody else may publish by now.
            if channel.publisher().video.is_some() {
                return;
            }
            match (source, &*channel.session()) {
                (Ok(source), Some(session)) => session.set_source(source),
                (Err(error), Some(session)) => session.view().complain(format!("{error:#}")),
                (_, None) => {}
            }
        });
    }
    /// Whether nobody has published to it for so long.
    pub(super) fn is_deserted(&self, linger: Duration) -> bool {
        let publisher = self.publisher();
        publisher.video.is_none() && publisher.left.elapsed() > linger && self.began.elapsed() > linger
    }
    /// Whether its engine has ended.
    pub(super) fn is_over(&self) -> bool {
        self.session().as_ref().is_some_and(|session| session.view().is_over)
    }
    /// Whether it was ended.
    pub fn has_ended(&self) -> bool {
        self.session().is_none()
    }
    /// Tells listeners what is new.
    pub(super) fn look(&self) {
        let session = self.session();
        let Some(session) = &*session else { return };
        let view = session.view();
        let mut seen = self.seen();
        if *seen.params != view.params {
            seen.params = Arc::new(view.params.clone());
            self.tell(Notice::Params(Arc::clone(&seen.params)));
        }
        if seen.phase != view.phase || seen.source != view.source_name {
            (seen.phase, seen.source) = (view.phase, view.source_name.clone());
            self.tell(Notice::Phase(seen.phase, seen.source.clone()));
        }
        if let Some((at, message)) = view.trouble.as_ref().filter(|(at, _)| seen.trouble != Some(*at)) {
            seen.trouble = Some(*at);
            self.tell(Notice::Trouble(message.clone()));
        }
    }
    /// Ends the stream, tells everybody why, and says how it went; none where it has ended before.
    pub(super) fn end(&self, reason: &str) -> Option<Result<Summary>> {
        let session = self.session().take()?;
        session.stopper()();
        self.tell(Notice::Over(reason.into()));
        Some(session.join())
    }

    fn tell(&self, notice: Notice) {
        // Nobody may be listening.
        let _ = self.notices.send(notice);
    }
    fn session(&self) -> MutexGuard<'_, Option<Session>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn publisher(&self) -> MutexGuard<'_, Publisher> {
        self.publisher.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands pictures to the encoder.
fn tap(video: &Arc<VideoOut>, latency_seconds: &Histogram) -> Tap {
    let (video, latency_seconds) = (Arc::clone(video), latency_seconds.clone());
    Arc::new(move |planes, captured_at| {
        latency_seconds.observe(captured_at.elapsed().as_secs_f64());
        video.put(planes, captured_at);
    })
}

type StageHistograms = Mutex<BTreeMap<String, Histogram>>;

/// Keeps the device's times by stages.
fn stages_tap(stages: &Arc<StageHistograms>) -> StageTap {
    let stages = Arc::clone(stages);
    Arc::new(move |stage, seconds| {
        let mut stages = stages.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram =
            || Histogram::new([0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]);
        stages.entry(stage.to_string()).or_insert_with(histogram).observe(seconds);
    })
}

/// Whether the decoder wants a key frame.
#[derive(Debug, Default)]
struct KeyWish(std::sync::atomic::AtomicBool);

impl KeyWish {
    fn raise(&self) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
    fn take(&self) -> bool {
        self.0.swap(false, std::sync::atomic::Ordering::SeqCst)
    }
}

impl Publication {
    /// The stream.
    pub fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }
    /// A unit that began to come `at`.
    pub fn put(&self, unit: bytes::Bytes, is_key: bool, at: Instant) {
        self.video.put(unit, is_key, at);
    }
    /// Units were lost on the way.
    pub fn lost(&self) {
        self.video.lost();
    }
    /// Whether a key frame is wanted since the last call; to be asked every now and then.
    pub fn wants_key(&self) -> bool {
        (self.wants_key)()
    }
    /// No frames come now, for this reason.
    pub fn trouble(&self, reason: String) {
        self.sender.trouble(reason);
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        self.channel.unpublish();
    }
}
