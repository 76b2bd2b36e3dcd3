//! The WebRTC transport: H.264 access units out to viewers and in from publishers.
//!
//! This folder is the only user of the `webrtc` and `rtc` crates. It takes SDP as text and hands access units
//! and events back; HTTP, the engine and the codec are elsewhere.

mod addresses;
mod assemble;
mod candidates;
mod certificate;
mod compose;
mod connection;
mod depacketise;
mod events;
mod feedback;
mod fragment;
mod offers;
mod packets;
mod peer;
mod receive;
mod reorder;
mod sdp;
mod send;
mod settings;
#[cfg(test)]
mod tests;
mod video;

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

pub use offers::Rtc;
pub use peer::Peer;

/// For the log's filter: the crate warns of what is normal, such as a peer that leaves.
pub const QUIET_LOG: &str =
    "webrtc=error,rtc=error,rtc_ice=error,rtc_dtls=error,rtc_srtp=error,rtc_interceptor=error";

/// Where and how peers are connected.
#[derive(Debug, Clone, Default)]
pub struct RtcConfig {
    /// Addresses that sockets are bound to. `0.0.0.0` and `::` mean every interface and loopback.
    pub addresses: Vec<IpAddr>,
    /// UDP ports to use, one for each peer; any free port without it.
    pub ports: Option<RangeInclusive<u16>>,
    /// Addresses that a NAT maps to this machine with the same ports; told to peers beside our own.
    pub public_ips: Vec<IpAddr>,
    /// STUN and TURN servers.
    pub ice_servers: Vec<IceServer>,
    /// A PEM file that keeps the DTLS certificate between runs; made with mode 0600 when missing.
    pub certificate: Option<PathBuf>,
}

/// A STUN or TURN server.
#[derive(Clone, Default)]
pub struct IceServer {
    /// `stun:`, `stuns:`, `turn:` or `turns:` URLs.
    pub urls: Vec<String>,
    /// For TURN; may be empty for STUN.
    pub username: String,
    /// For TURN; may be empty for STUN.
    pub credential: String,
}

impl fmt::Debug for IceServer {
    /// Without the credential, which must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceServer").field("urls", &self.urls).finish_non_exhaustive()
    }
}

/// Why a peer was not connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RtcError {
    /// The other side's SDP or fragment is not acceptable.
    Refused(String),
    /// A fragment with other credentials than those in use: candidates of another session, or a restart.
    OtherCredentials(String),
    /// No H.264 that both sides speak.
    NoCodec(String),
    /// No port is left.
    Busy(String),
    /// Our own side failed.
    Failed(String),
}

impl fmt::Display for RtcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why)
            | Self::OtherCredentials(why)
            | Self::NoCodec(why)
            | Self::Busy(why)
            | Self::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for RtcError {}

/// One coded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessUnit {
    /// H.264 in Annex B: every NAL unit behind a start code.
    pub data: Bytes,
    /// Capture time in ticks of 90 kHz, wrapping.
    pub rtp_time: u32,
    /// Whether decoding can begin here (an IDR picture).
    pub is_key: bool,
}

/// What a peer has to tell. Bounded: access units are dropped and counted when nobody reads.
pub type PeerEvents = tokio::sync::mpsc::Receiver<PeerEvent>;

/// What happened to a peer.
#[derive(Debug, Clone, PartialEq)]
pub enum PeerEvent {
    /// Media can flow. Comes again when a disconnected peer is back.
    Connected,
    /// Nothing was heard for about 5 s, or a publisher said that it leaves.
    Disconnected,
    /// The connection did not come about or was lost for good; `Closed` follows.
    Failed(String),
    /// The last event: sockets and port are free again.
    Closed,
    /// A viewer cannot decode and wants a key frame.
    KeyFrameWanted,
    /// A viewer's estimate of what its line carries (REMB).
    Estimate {
        /// Bits per second.
        bits_per_s: u64,
    },
    /// A viewer's receiver report.
    Loss {
        /// Packets lost since its last report, 0 to 1.
        fraction: f32,
    },
    /// An access unit of a publisher, in order and whole.
    Unit(AccessUnit),
    /// A publisher's units were lost; the next one is a key frame.
    UnitsLost,
}

/// Where a peer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PeerState {
    /// Not connected yet.
    #[default]
    Connecting,
    /// Media can flow.
    Connected,
    /// Nothing heard for a while.
    Disconnected,
    /// Lost for good.
    Failed,
    /// Closed by either side.
    Closed,
}

/// Figures of a peer since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PeerStats {
    /// RTP bytes sent, headers included.
    pub bytes_out: u64,
    /// RTP packets sent.
    pub packets_out: u64,
    /// RTP payload bytes received.
    pub bytes_in: u64,
    /// RTP packets received.
    pub packets_in: u64,
    /// Whole access units handed up.
    pub units_in: u64,
    /// Access units that came incomplete, could not be decoded for want of another, or found no reader.
    pub units_lost: u64,
    /// Round trip of the ICE checks, when known.
    pub round_trip: Option<Duration>,
    /// Where the peer stands.
    pub state: PeerState,
}
