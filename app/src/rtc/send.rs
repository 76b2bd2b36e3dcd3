//! Access units of ours on their way to a peer.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use rtc::media_stream::MediaStreamTrack;
use rtc::rtcp::goodbye::Goodbye;
use rtc::rtp;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodingParameters, RTCRtpEncodingParameters, RTCRtpRtxParameters, RtpCodecKind,
};
use tokio::sync::{mpsc, watch};
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::rtp_transceiver::RtpSender;

use super::events::{self, Events};
use super::video::PLAYOUT_DELAY;
use super::{AccessUnit, RtcError, packets, settings};

/// Units that wait for the network: more would only be late.
pub const QUEUE: usize = 4;
/// Packets sent without a pause: a key frame in one go overruns the socket's buffer at the other end.
const BURST: usize = 40;
const PAUSE: Duration = Duration::from_millis(1);
/// Packets of this many bytes of header: fixed part, and the extension with its own header.
const HEADER_BYTES: u64 = 20;

/// A stream to a peer, before and while it runs.
pub struct Outgoing {
    pub track: Arc<TrackLocalStaticRTP>,
    pub ssrc: u32,
}

/// What was negotiated for the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    payload_type: u8,
    playout_delay: Option<u8>,
}

impl Terms {
    /// Read from the sender after the answer: before it, neither number is the one that will be used.
    ///
    /// # Errors
    /// `NoCodec` when the crate agreed on no H.264.
    pub async fn of(sender: &dyn RtpSender) -> Result<Self, RtcError> {
        let parameters = sender.get_parameters().await;
        let parameters = parameters
            .map_err(|error| RtcError::Failed(format!("terms of the stream: {error}")))?
            .rtp_parameters;
        let is_h264 = |mime: &str| mime.eq_ignore_ascii_case(&settings::codec().mime_type);
        let codec = parameters.codecs.iter().find(|codec| is_h264(&codec.rtp_codec.mime_type));
        let Some(codec) = codec else {
            return Err(RtcError::NoCodec("expected H.264 after the answer, got no codec".to_owned()));
        };
        let delay = parameters.header_extensions.iter().find(|extension| extension.uri == PLAYOUT_DELAY);
        let playout_delay = delay.and_then(|extension| u8::try_from(extension.id).ok());
        Ok(Self {
            payload_type: codec.payload_type,
            playout_delay: playout_delay.filter(|id| (1..=14).contains(id)),
        })
    }
}

impl Outgoing {
    /// A stream with numbers of its own.
    ///
    /// # Errors
    /// `Failed` when the system has no chance to give.
    pub fn new() -> Result<Self, RtcError> {
        let random =
            || getrandom::u32().map_err(|error| RtcError::Failed(format!("random numbers: {error}")));
        let (ssrc, repair) = (random()?, random()?);
        let coding = RTCRtpCodingParameters {
            ssrc: Some(ssrc),
            rtx: Some(RTCRtpRtxParameters { ssrc: repair }),
            ..RTCRtpCodingParameters::default()
        };
        let encoding = RTCRtpEncodingParameters {
            rtp_coding_parameters: coding,
            codec: settings::codec(),
            ..RTCRtpEncodingParameters::default()
        };
        let [stream, track, label] = ["dreamglass", "picture", "picture"].map(str::to_owned);
        let track = MediaStreamTrack::new(stream, track, label, RtpCodecKind::Video, vec![encoding]);
        Ok(Self { track: Arc::new(TrackLocalStaticRTP::new(track)), ssrc })
    }

    /// Sends what comes until the peer closes, then says goodbye.
    pub async fn run(
        self,
        terms: Terms,
        mut units: mpsc::Receiver<AccessUnit>,
        figures: Arc<Events>,
        mut closing: watch::Receiver<bool>,
    ) {
        // Any start will do; small, as some receivers take a wrap in the first packets badly.
        let mut sequence = self.ssrc as u16 & 0x3fff;
        loop {
            let unit = tokio::select! {
                unit = units.recv() => unit,
                () = events::set(&mut closing) => None,
            };
            let Some(unit) = unit else { break };
            if let Err(error) = self.send(&unit, terms, &mut sequence, &figures).await {
                tracing::debug!(%error, "sending to a peer");
                break;
            }
        }
        let goodbye = Goodbye { sources: vec![self.ssrc], reason: Bytes::new() };
        let _ = self.track.write_rtcp(vec![Box::new(goodbye)]).await;
    }

    async fn send(
        &self,
        unit: &AccessUnit,
        terms: Terms,
        sequence: &mut u16,
        events: &Events,
    ) -> webrtc::error::Result<()> {
        let payloads = packets::payloads(&unit.data);
        let count = payloads.len();
        for (ix, payload) in payloads.into_iter().enumerate() {
            if ix > 0 && ix % BURST == 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let bytes = payload.len() as u64 + HEADER_BYTES;
            let mut header = rtp::Header {
                version: 2,
                marker: ix + 1 == count,
                payload_type: terms.payload_type,
                sequence_number: *sequence,
                timestamp: unit.rtp_time,
                ssrc: self.ssrc,
                ..rtp::Header::default()
            };
            if let Some(id) = terms.playout_delay {
                // Minimum and maximum of 12 bits each, both 0: show at once.
                header.set_extension(id, Bytes::from_static(&[0, 0, 0]))?;
            }
            self.track.write_rtp(rtp::Packet { header, payload }).await?;
            *sequence = sequence.wrapping_add(1);
            events.figures().packets_out.fetch_add(1, Relaxed);
            events.figures().bytes_out.fetch_add(bytes, Relaxed);
        }
        Ok(())
    }
}
