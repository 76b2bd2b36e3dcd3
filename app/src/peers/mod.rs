//! Whoever is connected over WebRTC: viewers, publishers, and the broadcaster that the result goes to.

pub mod broadcaster;
mod publisher;
mod viewer;

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;

use crate::hub::{Channel, Hub, Refusal};
use crate::rtc::{Peer, PeerEvents, PeerStats, Rtc, RtcError};

/// How long a peer may take from its offer to a connection; half-open ones would fill the server.
const CONNECTING: Duration = Duration::from_secs(20);

/// How long a peer that is gone may take to come back before it is forgotten.
const GONE: Duration = Duration::from_secs(30);

/// Why a peer is not connected.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// No such stream.
    #[error("there is no stream {0}")]
    NoStream(String),
    /// No room for another viewer.
    #[error("{max} viewers are connected, the most that this server takes")]
    Full {
        /// The limit.
        max: usize,
    },
    /// The stream takes no publisher.
    #[error(transparent)]
    Refusal(#[from] Refusal),
    /// The connection cannot be made.
    #[error(transparent)]
    Rtc(#[from] RtcError),
    /// No such peer, or not any more.
    #[error("there is no such peer (any more)")]
    Gone,
}

/// What a peer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It watches.
    Viewer,
    /// It publishes.
    Publisher,
}

/// A peer that was answered.
#[derive(Debug, Clone)]
pub struct Answered {
    /// What its resource is called: not to be guessed.
    pub id: String,
    /// The answer.
    pub sdp: String,
}

struct Entry {
    peer: Peer,
    role: Role,
    task: Option<JoinHandle<()>>,
    end: watch::Sender<bool>,
    /// Nobody is told of it any more; it only has to finish.
    is_ended: bool,
}

/// What went over all connections since the server began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes to viewers.
    pub bytes_out: u64,
    /// Bytes from publishers.
    pub bytes_in: u64,
    /// Pictures of publishers that came incomplete or too late.
    pub units_lost: u64,
}

impl Traffic {
    fn add(&mut self, stats: PeerStats) {
        self.bytes_out += stats.bytes_out;
        self.bytes_in += stats.bytes_in;
        self.units_lost += stats.units_lost;
    }
}

#[derive(Default)]
struct Table {
    entries: HashMap<String, Entry>,
    /// Of peers that are gone.
    past: Traffic,
}

impl Table {
    fn find(&mut self, id: &str) -> Result<&mut Entry, PeerError> {
        self.entries.get_mut(id).filter(|entry| !entry.is_ended).ok_or(PeerError::Gone)
    }
}

/// All peers of a server.
#[derive(Clone)]
pub struct Peers {
    rtc: Rtc,
    hub: Arc<Hub>,
    viewers: Arc<Semaphore>,
    max_viewers: usize,
    table: Arc<Mutex<Table>>,
}

impl Peers {
    /// No peers yet; at most `max_viewers` viewers, each with a permit of `viewers`.
    pub fn new(rtc: Rtc, hub: Arc<Hub>, viewers: Arc<Semaphore>, max_viewers: usize) -> Self {
        Self { rtc, hub, viewers, max_viewers, table: Arc::default() }
    }
    /// Connects a viewer of `stream` that offers `offer`.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn watch(&self, stream: &str, offer: &str) -> Result<Answered, PeerError> {
        let channel = self.hub.stream(stream).ok_or_else(|| PeerError::NoStream(stream.into()))?;
        let permit = Arc::clone(&self.viewers).try_acquire_owned();
        let permit = permit.map_err(|_| PeerError::Full { max: self.max_viewers })?;
        let (peer, events, sdp) = self.rtc.answer_viewer(offer).await?;
        let id = self.add(Role::Viewer, peer.clone(), |end| {
            tokio::spawn(viewer::run(Viewing { channel, peer, events, end, _permit: permit }))
        });
        Ok(Answered { id, sdp })
    }
    /// Connects a publisher to `stream` that offers `offer`.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn publish(&self, stream: &str, offer: &str) -> Result<Answered, PeerError> {
        // Who is refused costs no socket, and a bad offer no stream.
        self.hub.may_publish(stream)?;
        let (peer, events, sdp) = self.rtc.answer_publisher(offer).await?;
        let hub = Arc::clone(&self.hub);
        let name = stream.to_string();
        // A new stream starts threads and maybe loads the model.
        let publication = tokio::task::spawn_blocking(move || hub.publish(&name)).await;
        let publication = publication.map_err(|error| Refusal::Failed(error.to_string()))??;
        let id = self.add(Role::Publisher, peer.clone(), |end| {
            tokio::spawn(publisher::run(publisher::Publishing { publication, peer, events, end }))
        });
        Ok(Answered { id, sdp })
    }
    /// Takes more of a peer's candidates, or restarts ICE where the fragment says so: the answering
    /// fragment then.
    ///
    /// # Errors
    /// [`PeerError::Gone`], [`PeerError::Rtc`].
    pub async fn patch(&self, id: &str, fragment: &str) -> Result<Option<String>, PeerError> {
        let peer = self.table().find(id)?.peer.clone();
        match peer.add_candidates(fragment).await {
            Ok(()) => Ok(None),
            // Other credentials than those in use ask for a restart (RFC 9725, 4.3.3).
            Err(RtcError::OtherCredentials(_)) => Ok(Some(peer.restart(fragment).await?)),
            Err(error) => Err(error.into()),
        }
    }
    /// Ends a peer.
    ///
    /// # Errors
    /// [`PeerError::Gone`].
    pub fn end(&self, id: &str) -> Result<(), PeerError> {
        let mut table = self.table();
        let entry = table.find(id)?;
        entry.is_ended = true;
        // Its task ends by itself; nobody waits for it.
        entry.end.send_replace(true);
        Ok(())
    }
    /// How many watch and how many publish.
    pub fn count(&self) -> [usize; 2] {
        let table = self.table();
        let count = |role| table.entries.values().filter(|e| e.role == role && !e.is_ended).count();
        [count(Role::Viewer), count(Role::Publisher)]
    }
    /// What went over all connections.
    pub fn traffic(&self) -> Traffic {
        let table = self.table();
        table.entries.values().fold(table.past, |mut traffic, entry| {
            traffic.add(entry.peer.stats());
            traffic
        })
    }
    /// Ends all peers, waiting at most `patience`.
    pub async fn shut_down(&self, patience: Duration) {
        let mut tasks = Vec::new();
        for entry in self.table().entries.values_mut() {
            entry.end.send_replace(true);
            tasks.extend(entry.task.take());
        }
        let all = async {
            for task in tasks {
                let _ = task.await;
            }
        };
        let _ = tokio::time::timeout(patience, all).await;
    }

    fn add(
        &self,
        role: Role,
        peer: Peer,
        start: impl FnOnce(watch::Receiver<bool>) -> JoinHandle<()>,
    ) -> String {
        let id = new_id();
        let (end, ended) = watch::channel(false);
        // The lock is held, so that the entry is there before its task can end.
        let mut table = self.table();
        let task = start(ended);
        let watched = (Arc::clone(&self.table), id.clone(), task.abort_handle());
        table.entries.insert(id.clone(), Entry { peer, role, task: Some(task), end, is_ended: false });
        drop(table);
        tokio::spawn(forget(watched));
        id
    }
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a peer off the table when its task has ended.
async fn forget((table, id, task): (Arc<Mutex<Table>>, String, tokio::task::AbortHandle)) {
    while !task.is_finished() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(entry) = table.entries.remove(&id) {
        table.past.add(entry.peer.stats());
    }
}

/// 128 random bits in hexadecimal digits.
fn new_id() -> String {
    let mut bytes = [0; 16];
    // A system without randomness cannot make connections either.
    if let Err(error) = getrandom::fill(&mut bytes) {
        tracing::error!("the system has no randomness: {error}");
    }
    bytes.iter().fold(String::new(), |mut id, byte| {
        let _ = write!(id, "{byte:02x}");
        id
    })
}

/// What a viewer's task has.
struct Viewing {
    channel: Arc<Channel>,
    peer: Peer,
    events: PeerEvents,
    end: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

/// Resolves when the sender says so or is gone.
async fn ended(end: &mut watch::Receiver<bool>) {
    let _ = end.wait_for(|is_over| *is_over).await;
}
