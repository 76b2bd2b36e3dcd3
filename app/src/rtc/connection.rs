//! One peer connection of the crate: built, negotiated under guard, closed.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
    RTCIceGatheringState, RTCIceServer, RTCPeerConnectionState, RTCSessionDescription,
};

use super::RtcError;
use super::addresses::Lease;
use super::events::Events;
use super::offers::Shared;
use super::{PeerEvent, PeerState, addresses, settings};

/// STUN and TURN servers that do not answer hold a description up no longer than this.
const GATHERING: Duration = Duration::from_secs(4);

type Callback<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A peer connection with its sockets.
pub struct Connection {
    pub crate_connection: Arc<dyn PeerConnection>,
    gathered: Arc<watch::Sender<bool>>,
    /// Given back after the sockets are; `None` once closed.
    lease: Mutex<Option<Lease>>,
}

/// The crate's callbacks. They run on its driver and must not wait.
struct Handler {
    events: Arc<Events>,
    gathered: Arc<watch::Sender<bool>>,
    tracks: mpsc::Sender<Arc<dyn TrackRemote>>,
}

impl PeerConnectionEventHandler for Handler {
    fn on_ice_gathering_state_change<'life0, 'async_trait>(
        &'life0 self,
        state: RTCIceGatheringState,
    ) -> Callback<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        self.gathered.send_replace(state == RTCIceGatheringState::Complete);
        Box::pin(std::future::ready(()))
    }

    fn on_connection_state_change<'life0, 'async_trait>(
        &'life0 self,
        state: RTCPeerConnectionState,
    ) -> Callback<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        match state {
            RTCPeerConnectionState::Connected => {
                self.events.change(PeerState::Connected, PeerEvent::Connected)
            }
            RTCPeerConnectionState::Disconnected => {
                self.events.change(PeerState::Disconnected, PeerEvent::Disconnected);
            }
            RTCPeerConnectionState::Failed => self.events.fail(),
            _ => {}
        }
        Box::pin(std::future::ready(()))
    }

    fn on_track<'life0, 'async_trait>(&'life0 self, track: Arc<dyn TrackRemote>) -> Callback<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        // One track is what we negotiate; more find no place.
        let _ = self.tracks.try_send(track);
        Box::pin(std::future::ready(()))
    }
}

fn failed(what: &'static str) -> impl Fn(webrtc::error::Error) -> RtcError {
    move |error| RtcError::Failed(format!("{what}: {error}"))
}

impl Connection {
    /// Binds sockets and starts the crate's driver. Tracks of the other side go to `tracks`.
    ///
    /// # Errors
    /// `Busy` when no port is left, else `Failed`.
    pub async fn open(
        shared: &Shared,
        events: &Arc<Events>,
        ssrc: Option<u32>,
        tracks: mpsc::Sender<Arc<dyn TrackRemote>>,
    ) -> Result<Self, RtcError> {
        let bound = addresses::expand(&shared.config.addresses);
        let lease = shared.ports.take(&bound)?;
        let sockets = bound.iter().map(|ip| std::net::SocketAddr::new(*ip, lease.port).to_string()).collect();
        let gathered = Arc::new(watch::Sender::new(false));
        let handler = Handler { events: Arc::clone(events), gathered: Arc::clone(&gathered), tracks };
        let servers = shared.config.ice_servers.iter().map(|server| RTCIceServer {
            urls: server.urls.clone(),
            username: server.username.clone(),
            credential: server.credential.clone(),
        });
        let configuration = RTCConfigurationBuilder::new()
            .with_certificates(vec![shared.certificate.clone()])
            .with_ice_servers(servers.collect())
            .build();
        let connection = PeerConnectionBuilder::<String>::new()
            .with_configuration(configuration)
            .with_media_engine(settings::media().map_err(failed("codecs"))?)
            .with_setting_engine(settings::engine())
            .with_interceptor_registry(settings::interceptors(events, ssrc))
            .with_handler(Arc::new(handler))
            .with_udp_addrs(sockets)
            .build();
        let connection = connection.await.map_err(failed("cannot open a peer connection"))?;
        Ok(Self { crate_connection: Arc::new(connection), gathered, lease: Mutex::new(Some(lease)) })
    }

    /// Answers a canonical offer and gathers.
    ///
    /// # Errors
    /// `Refused` when the crate does not take the offer.
    pub async fn answer(&self, offer: String) -> Result<String, RtcError> {
        let connection = Arc::clone(&self.crate_connection);
        let gathered = Arc::clone(&self.gathered);
        guarded("offer", async move {
            let offer = RTCSessionDescription::offer(offer)?;
            connection.set_remote_description(offer).await?;
            let answer = connection.create_answer(None).await?;
            // A restart gathers once more.
            gathered.send_replace(false);
            connection.set_local_description(answer).await
        })
        .await?;
        self.local_description().await
    }

    /// Makes an offer and gathers.
    ///
    /// # Errors
    /// `Failed` when the crate does.
    pub async fn offer(&self) -> Result<String, RtcError> {
        let offer = self.crate_connection.create_offer(None).await.map_err(failed("offer"))?;
        self.crate_connection.set_local_description(offer).await.map_err(failed("offer"))?;
        self.local_description().await
    }

    /// Takes a canonical answer.
    ///
    /// # Errors
    /// `Refused` when the crate does not.
    pub async fn take_answer(&self, answer: String) -> Result<(), RtcError> {
        let connection = Arc::clone(&self.crate_connection);
        guarded("answer", async move {
            connection.set_remote_description(RTCSessionDescription::answer(answer)?).await
        })
        .await
    }

    /// Our description with every candidate.
    async fn local_description(&self) -> Result<String, RtcError> {
        let mut gathered = self.gathered.subscribe();
        if tokio::time::timeout(GATHERING, gathered.wait_for(|is_complete| *is_complete)).await.is_err() {
            tracing::debug!("not every STUN or TURN server answered in time");
        }
        let description = self.crate_connection.local_description().await;
        description.map(|d| d.sdp).ok_or_else(|| RtcError::Failed("the crate made no description".to_owned()))
    }

    /// Frees the sockets and the port.
    pub async fn close(&self) {
        close(&self.crate_connection, self.take_lease()).await;
    }

    fn take_lease(&self) -> Option<Lease> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

async fn close(connection: &Arc<dyn PeerConnection>, lease: Option<Lease>) {
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "closing a peer");
    }
    drop(lease);
}

impl Drop for Connection {
    /// The crate's driver would live on without its owner.
    fn drop(&mut self) {
        let lease = self.take_lease();
        if lease.is_some()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let connection = Arc::clone(&self.crate_connection);
            runtime.spawn(async move { close(&connection, lease).await });
        }
    }
}

/// Runs `work` on a task of its own, so that a panic on what a stranger wrote ends there.
///
/// # Errors
/// `Refused`, with what was worked on.
pub async fn guarded<T: Send + 'static>(
    what: &'static str,
    work: impl Future<Output = webrtc::error::Result<T>> + Send + 'static,
) -> Result<T, RtcError> {
    match tokio::spawn(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(RtcError::Refused(format!("{what}: {error}"))),
        Err(_) => Err(RtcError::Refused(format!("{what}: the parser gave up on it"))),
    }
}
