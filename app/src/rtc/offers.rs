//! Peers made from offers and answers.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{bail, ensure};
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use tokio::sync::mpsc;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::peer_connection::RTCCertificate;
use webrtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit, RtpSender};

use super::addresses::{self, Ports};
use super::connection::Connection;
use super::events::Events;
use super::peer::{Makings, Stream};
use super::sdp::{self, Role};
use super::send::{Outgoing, Terms};
use super::{Peer, PeerEvents, RtcConfig, RtcError, candidates, certificate};

/// Makes peers. Clones share ports and certificate.
#[derive(Clone)]
pub struct Rtc(Arc<Shared>);

/// What all peers share.
pub struct Shared {
    pub config: RtcConfig,
    pub ports: Ports,
    pub certificate: RTCCertificate,
}

type Made = Result<(Peer, PeerEvents, String), RtcError>;

impl Rtc {
    /// Checks the configuration and makes or loads the certificate.
    ///
    /// # Errors
    /// An empty list of addresses or range of ports, an address that is not of this machine, a server whose URL
    /// is none, or a certificate file that cannot be used; each named.
    pub fn new(config: RtcConfig) -> anyhow::Result<Self> {
        check(&config)?;
        let certificate = certificate::load_or_make(config.certificate.as_deref())?;
        let ports = Ports::new(config.ports.clone());
        Ok(Self(Arc::new(Shared { config, ports, certificate })))
    }

    /// Answers someone who wants to see (WHEP): we send H.264. The answer has all candidates.
    ///
    /// # Errors
    /// `Refused` and `NoCodec` for the offer, `Busy` without a port, `Failed` for us.
    pub async fn answer_viewer(&self, offer: &str) -> Made {
        let (shared, offer) = (Arc::clone(&self.0), offer.to_owned());
        detached(async move { answer(&shared, &offer, Role::Viewer).await }).await
    }

    /// Answers someone who wants to publish (WHIP): we receive H.264. The answer has all candidates.
    ///
    /// # Errors
    /// `Refused` and `NoCodec` for the offer, `Busy` without a port, `Failed` for us.
    pub async fn answer_publisher(&self, offer: &str) -> Made {
        let (shared, offer) = (Arc::clone(&self.0), offer.to_owned());
        detached(async move { answer(&shared, &offer, Role::Publisher).await }).await
    }

    /// Offers to publish (WHIP client): we send H.264 once [`Peer::accept_answer`] has the answer. The offer
    /// has all candidates.
    ///
    /// # Errors
    /// `Busy` without a port, `Failed` for us.
    pub async fn offer_publisher(&self) -> Made {
        let shared = Arc::clone(&self.0);
        detached(async move { offer(&shared).await }).await
    }

    #[cfg(test)]
    pub fn certificate(&self) -> &RTCCertificate {
        &self.0.certificate
    }
}

fn check(config: &RtcConfig) -> anyhow::Result<()> {
    ensure!(!config.addresses.is_empty(), "WebRTC: expected at least one address to bind, got none");
    let bound = addresses::expand(&config.addresses);
    ensure!(!bound.is_empty(), "WebRTC: no address of {:?} can be bound on this machine", config.addresses);
    for ip in bound {
        if let Err(error) = std::net::UdpSocket::bind((ip, 0)) {
            bail!("WebRTC: cannot bind {ip}: {error}");
        }
    }
    if let Some(ports) = &config.ports {
        let (first, last) = (ports.start(), ports.end());
        ensure!(*first > 0 && first <= last, "WebRTC: expected ports from 1 up, got {first}-{last}");
    }
    for ip in &config.public_ips {
        let is_host = !ip.is_unspecified() && !ip.is_multicast();
        ensure!(is_host, "WebRTC: expected a public address of one host, got {ip}");
    }
    for url in config.ice_servers.iter().flat_map(|server| &server.urls) {
        let is_known = ["stun:", "stuns:", "turn:", "turns:"].iter().any(|scheme| url.starts_with(scheme));
        ensure!(
            is_known,
            "WebRTC: expected a STUN or TURN server as stun:, stuns:, turn: or turns:, got {url:?}"
        );
    }
    Ok(())
}

/// On a task of its own: a caller that goes away in the middle leaves nothing behind, and a panic ends there.
async fn detached(work: impl Future<Output = Made> + Send + 'static) -> Made {
    match tokio::spawn(work).await {
        Ok(made) => made,
        Err(error) if error.is_panic() => {
            Err(RtcError::Refused("offer: the parser gave up on it".to_owned()))
        }
        Err(_) => Err(RtcError::Failed("the program is ending".to_owned())),
    }
}

async fn answer(shared: &Arc<Shared>, offer: &str, role: Role) -> Made {
    let description = sdp::read(offer, role)?;
    let (events, receiver) = Events::new();
    let events = Arc::new(events);
    let (tracks, new_tracks) = mpsc::channel::<Arc<dyn TrackRemote>>(1);
    let outgoing = if role == Role::Viewer { Some(Outgoing::new()?) } else { None };
    let ssrc = outgoing.as_ref().map(|outgoing| outgoing.ssrc);
    let connection = Connection::open(shared, &events, ssrc, tracks).await?;
    let negotiated = async {
        let sender = match &outgoing {
            Some(outgoing) => Some(add_track(&connection, outgoing).await?),
            None => receive_video(&connection).await.map(|()| None)?,
        };
        let answer = connection.answer(description.canonical()).await?;
        if !answer.contains("m=video 9 ") || !answer.contains("H264/90000") {
            return Err(RtcError::NoCodec("expected H.264 in our answer to the offer, got none".to_owned()));
        }
        let stream = match (sender, outgoing) {
            (Some(sender), Some(outgoing)) => Stream::Out(Terms::of(sender.as_ref()).await?, outgoing),
            _ => Stream::In(new_tracks),
        };
        Ok((answer, stream))
    };
    let (answer, stream) = match negotiated.await {
        Ok(negotiated) => negotiated,
        Err(error) => {
            connection.close().await;
            return Err(error);
        }
    };
    let answer = candidates::rewrite(&description.complete(&answer), &shared.config.public_ips);
    let theirs = theirs(offer, &description.candidates);
    events.set_offered(candidates::addresses(&answer), theirs);
    let makings = Makings { connection, events, shared: Arc::clone(shared), description: Some(description) };
    Ok((Peer::new(makings, stream), receiver, answer))
}

async fn offer(shared: &Arc<Shared>) -> Made {
    let (events, receiver) = Events::new();
    let events = Arc::new(events);
    let (tracks, _) = mpsc::channel(1);
    let outgoing = Outgoing::new()?;
    let connection = Connection::open(shared, &events, Some(outgoing.ssrc), tracks).await?;
    let negotiated = async {
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Sendonly,
            streams: Vec::new(),
            send_encodings: Vec::new(),
        };
        let track = Arc::clone(&outgoing.track) as Arc<dyn TrackLocal>;
        let added = connection.crate_connection.add_transceiver_from_track(track, Some(init)).await;
        let sender = added.map_err(failed)?.sender().await.map_err(failed)?;
        let sender = sender.ok_or_else(|| RtcError::Failed("the crate made no sender".to_owned()))?;
        Ok((sender, connection.offer().await?))
    };
    let (sender, offer) = match negotiated.await {
        Ok(negotiated) => negotiated,
        Err(error) => {
            connection.close().await;
            return Err(error);
        }
    };
    let offer = candidates::rewrite(&offer, &shared.config.public_ips);
    events.set_offered(candidates::addresses(&offer), "nothing yet".to_owned());
    let makings = Makings { connection, events, shared: Arc::clone(shared), description: None };
    Ok((Peer::new(makings, Stream::Later(sender, outgoing)), receiver, offer))
}

fn failed(error: webrtc::error::Error) -> RtcError {
    RtcError::Failed(format!("WebRTC: {error}"))
}

async fn add_track(connection: &Connection, outgoing: &Outgoing) -> Result<Arc<dyn RtpSender>, RtcError> {
    let track = Arc::clone(&outgoing.track) as Arc<dyn TrackLocal>;
    connection.crate_connection.add_track(track).await.map_err(failed)
}

async fn receive_video(connection: &Connection) -> Result<(), RtcError> {
    let init = RTCRtpTransceiverInit {
        direction: RTCRtpTransceiverDirection::Recvonly,
        streams: Vec::new(),
        send_encodings: Vec::new(),
    };
    let added = connection.crate_connection.add_transceiver_from_kind(RtpCodecKind::Video, Some(init)).await;
    added.map(drop).map_err(failed)
}

/// What the other side offered: what can be used of it, or else what it wrote.
pub fn theirs(text: &str, used: &[candidates::Candidate]) -> String {
    if used.is_empty() {
        return candidates::addresses(text);
    }
    used.iter().map(|candidate| format!("udp {}", candidate.address)).collect::<Vec<_>>().join(", ")
}

impl Shared {
    /// Our addresses behind a NAT.
    pub fn public_ips(&self) -> &[IpAddr] {
        &self.config.public_ips
    }
}
