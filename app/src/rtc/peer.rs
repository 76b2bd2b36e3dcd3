//! The handle of a peer, and the task that looks after it.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::task::JoinHandle;
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::peer_connection::{PeerConnection, RTCIceCandidateInit, StatsSelector};
use webrtc::rtp_transceiver::RtpSender;

use super::connection::{Connection, guarded};
use super::events::{self, Events};
use super::offers::{Shared, theirs};
use super::receive::Incoming;
use super::sdp::{self, Description, Role};
use super::send::{Outgoing, QUEUE, Terms};
use super::{AccessUnit, PeerEvent, PeerState, PeerStats, RtcError, candidates, fragment};

/// A peer that is not connected by then will not be.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// For the last packets to leave before the sockets close.
const FAREWELL: Duration = Duration::from_millis(100);
const FLUSH: Duration = Duration::from_millis(20);
const CLOSING: Duration = Duration::from_secs(3);

/// A connected peer, or one that is about to be. Dropping the last handle closes the connection.
#[derive(Clone)]
pub struct Peer(Arc<Inner>);

/// What a peer is made of.
pub struct Makings {
    pub connection: Connection,
    pub events: Arc<Events>,
    pub shared: Arc<Shared>,
    /// The other side's, when it is known.
    pub description: Option<Description>,
}

/// The way that media goes.
pub enum Stream {
    Out(Terms, Outgoing),
    In(mpsc::Receiver<Arc<dyn TrackRemote>>),
    /// Out, once the answer is there.
    Later(Arc<dyn RtpSender>, Outgoing),
}

/// The task that sends or receives, once it runs.
type Worker = Arc<std::sync::Mutex<Option<JoinHandle<()>>>>;
type Unanswered = (Arc<dyn RtpSender>, Outgoing, mpsc::Receiver<AccessUnit>);

struct Inner {
    connection: Arc<Connection>,
    events: Arc<Events>,
    shared: Arc<Shared>,
    description: Mutex<Option<Description>>,
    unanswered: Mutex<Option<Unanswered>>,
    units: mpsc::Sender<AccessUnit>,
    key_wish: Arc<Notify>,
    worker: Worker,
    /// Set to close; dropped with the last handle, which means the same.
    closing: watch::Sender<bool>,
}

impl Peer {
    /// Starts the tasks of a peer.
    pub(super) fn new(makings: Makings, stream: Stream) -> Self {
        let Makings { connection, events, shared, description } = makings;
        let connection = Arc::new(connection);
        let (units, queue) = mpsc::channel(QUEUE);
        let (closing, key_wish) = (watch::Sender::new(false), Arc::new(Notify::new()));
        let mut unanswered = None;
        let worker = match stream {
            Stream::Out(terms, outgoing) => {
                Some(tokio::spawn(outgoing.run(terms, queue, Arc::clone(&events), closing.subscribe())))
            }
            Stream::In(tracks) => {
                let incoming = Incoming::new(Arc::clone(&events));
                Some(tokio::spawn(incoming.run(tracks, Arc::clone(&key_wish), closing.subscribe())))
            }
            Stream::Later(sender, outgoing) => {
                unanswered = Some((sender, outgoing, queue));
                None
            }
        };
        let worker = Arc::new(std::sync::Mutex::new(worker));
        let keeper = Keeper { connection: Arc::clone(&connection), events: Arc::clone(&events) };
        tokio::spawn(keeper.run(closing.subscribe(), Arc::clone(&worker)));
        Self(Arc::new(Inner {
            connection,
            events,
            shared,
            description: Mutex::new(description),
            unanswered: Mutex::new(unanswered),
            units,
            key_wish,
            worker,
            closing,
        }))
    }

    /// Takes the answer to our offer.
    ///
    /// # Errors
    /// `Refused` and `NoCodec` for the answer, or when it is not awaited.
    pub async fn accept_answer(&self, answer: &str) -> Result<(), RtcError> {
        let inner = &self.0;
        let description = sdp::read(answer, Role::Answerer)?;
        let mut unanswered = inner.unanswered.lock().await;
        let Some((sender, outgoing, queue)) = unanswered.take() else {
            return Err(RtcError::Refused("answer: no offer of ours is open".to_owned()));
        };
        inner.connection.take_answer(description.canonical()).await?;
        let terms = Terms::of(sender.as_ref()).await?;
        let worker = outgoing.run(terms, queue, Arc::clone(&inner.events), inner.closing.subscribe());
        *inner.worker.lock().unwrap_or_else(PoisonError::into_inner) = Some(tokio::spawn(worker));
        let ours = inner.connection.crate_connection.local_description().await;
        let ours = ours.map_or_else(String::new, |description| candidates::addresses(&description.sdp));
        inner.events.set_offered(ours, theirs(answer, &description.candidates));
        *inner.description.lock().await = Some(description);
        Ok(())
    }

    /// Adds candidates that came later, as `application/trickle-ice-sdpfrag`.
    ///
    /// # Errors
    /// `Refused` when the fragment is unreadable or nothing was described yet, `OtherCredentials` when it has
    /// others than the description.
    pub async fn add_candidates(&self, text: &str) -> Result<(), RtcError> {
        let fragment = fragment::read(text)?;
        let mut guard = self.0.description.lock().await;
        let Some(description) = guard.as_mut() else {
            return Err(RtcError::Refused("candidates: no description of the other side yet".to_owned()));
        };
        if fragment.credentials != description.credentials {
            let (expected, got) = (&description.credentials.ufrag, &fragment.credentials.ufrag);
            return Err(RtcError::OtherCredentials(format!(
                "candidates: expected the credentials of ice-ufrag {expected:?}, got others of {:?}",
                sdp::short(got)
            )));
        }
        let mid = description.sections[description.chosen].mid.clone();
        for candidate in fragment.candidates {
            let used = &mut description.candidates;
            if used.len() >= candidates::MAX_USED || used.iter().any(|old| old.address == candidate.address) {
                continue;
            }
            let init = RTCIceCandidateInit {
                candidate: candidate.line.clone(),
                sdp_mid: Some(mid.clone()),
                sdp_mline_index: Some(0),
                username_fragment: Some(fragment.credentials.ufrag.clone()),
                url: None,
            };
            let connection = Arc::clone(&self.0.connection.crate_connection);
            guarded("candidate", async move { connection.add_ice_candidate(init).await }).await?;
            used.push(candidate);
        }
        Ok(())
    }

    /// Restarts ICE with the new credentials of a fragment, and returns the fragment with ours.
    ///
    /// # Errors
    /// `Refused` when the credentials are not new, or when we made the offer.
    pub async fn restart(&self, text: &str) -> Result<String, RtcError> {
        let fragment = fragment::read(text)?;
        let mut guard = self.0.description.lock().await;
        let Some(old) = guard.as_ref().filter(|description| description.role != Role::Answerer) else {
            return Err(RtcError::Refused(
                "restart: not supported by the side that made the offer".to_owned(),
            ));
        };
        if fragment.credentials == old.credentials {
            return Err(RtcError::Refused("restart: expected new credentials, got those in use".to_owned()));
        }
        let fragment::Fragment { credentials, candidates } = fragment;
        let description = Description { credentials, candidates, ..old.clone() };
        let answer = self.0.connection.answer(description.canonical()).await?;
        *guard = Some(description);
        Ok(fragment::write(&candidates::rewrite(&answer, self.0.shared.public_ips())))
    }

    /// Hands a unit to the peer's own task, and never waits. False: the peer is not connected or a few units
    /// are waiting already, and this one is not sent; go on with a key frame.
    pub fn send(&self, unit: &AccessUnit) -> bool {
        self.is_connected() && self.0.units.try_send(unit.clone()).is_ok()
    }

    /// Asks a publisher for a key frame, at most every 500 ms.
    pub fn want_key_frame(&self) {
        self.0.key_wish.notify_one();
    }

    /// Closes the connection; its sockets and port are free when this returns.
    pub async fn close(&self) {
        self.0.closing.send_replace(true);
        let mut states = self.0.events.states();
        let closed = states.wait_for(|state| *state == PeerState::Closed);
        let _ = tokio::time::timeout(CLOSING, closed).await;
    }

    /// Takes the transport away without a word to the other side.
    #[cfg(test)]
    pub async fn vanish(&self) {
        self.0.connection.close().await;
    }

    /// Figures since the peer was made.
    pub fn stats(&self) -> PeerStats {
        self.0.events.stats()
    }

    /// Whether media can flow now.
    pub fn is_connected(&self) -> bool {
        self.0.events.state() == PeerState::Connected
    }
}

/// Looks after a peer until it closes, then cleans up.
struct Keeper {
    connection: Arc<Connection>,
    events: Arc<Events>,
}

impl Keeper {
    async fn run(self, mut closing: watch::Receiver<bool>, worker: Worker) {
        let started = Instant::now();
        let mut states = self.events.states();
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                () = events::set(&mut closing) => break,
                () = failed(&mut states) => break,
                _ = tick.tick() => self.check(started).await,
            }
        }
        let worker = worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut worker) = worker {
            let _ = tokio::time::timeout(FAREWELL, &mut worker).await;
            worker.abort();
            // The driver still has to hand the goodbye to the socket.
            tokio::time::sleep(FLUSH).await;
        }
        self.connection.close().await;
        self.events.change(PeerState::Closed, PeerEvent::Closed);
    }

    async fn check(&self, started: Instant) {
        let is_late = self.events.state() == PeerState::Connecting && started.elapsed() > CONNECT_WITHIN;
        if is_late || self.events.is_driver_dead() {
            return self.events.fail();
        }
        let connection: &Arc<dyn PeerConnection> = &self.connection.crate_connection;
        let report = connection.get_stats(Instant::now(), StatsSelector::None).await;
        let used = report.candidate_pairs().max_by_key(|pair| pair.packets_received);
        if let Some(seconds) =
            used.map(|pair| pair.current_round_trip_time).filter(|s| s.is_finite() && *s > 0.0)
        {
            self.events.figures().round_trip_us.store((seconds * 1e6) as u64, Relaxed);
        }
    }
}

async fn failed(states: &mut watch::Receiver<PeerState>) {
    let _ = states.wait_for(|state| *state == PeerState::Failed).await;
}
