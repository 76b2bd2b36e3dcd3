//! The crate's settings for one peer: one codec, short timers, and the chain of interceptors.

use std::sync::Arc;
use std::time::Duration;

use rtc::ice::mdns::MulticastDnsMode;
use rtc::interceptor::{
    NackGeneratorBuilder, NackResponderBuilder, ReceiverReportBuilder, SenderReportBuilder, Slot,
};
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_H264, MIME_TYPE_RTX};
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpHeaderExtensionCapability, RtpCodecKind,
};
use webrtc::error::Result;
use webrtc::peer_connection::{MediaEngine, Registry, SettingEngine, SettingEngineBuilder};

use super::events::Events;
use super::feedback::Feedback;
use super::video::{FEEDBACK, MID, PLAYOUT_DELAY, PROFILE};

const PAYLOAD_TYPE: u8 = 102;
const REPAIR_TYPE: u8 = 103;

/// H.264 as our encoder makes it.
pub fn codec() -> RTCRtpCodec {
    let feedback = |(typ, parameter): (&str, &str)| RTCPFeedback {
        typ: typ.to_owned(),
        parameter: parameter.to_owned(),
    };
    RTCRtpCodec {
        mime_type: MIME_TYPE_H264.to_owned(),
        clock_rate: 90_000,
        channels: 0,
        sdp_fmtp_line: format!("level-asymmetry-allowed=1;packetization-mode=1;{PROFILE}"),
        rtcp_feedback: FEEDBACK.into_iter().map(feedback).collect(),
    }
}

/// H.264 and its retransmissions, and nothing else.
///
/// # Errors
/// When the crate refuses its own kind of entries.
pub fn media() -> Result<MediaEngine> {
    let mut media = MediaEngine::default();
    let h264 = RTCRtpCodecParameters { rtp_codec: codec(), payload_type: PAYLOAD_TYPE };
    let repair = RTCRtpCodec {
        mime_type: MIME_TYPE_RTX.to_owned(),
        clock_rate: 90_000,
        channels: 0,
        sdp_fmtp_line: format!("apt={PAYLOAD_TYPE}"),
        rtcp_feedback: Vec::new(),
    };
    media.register_codec(h264, RtpCodecKind::Video)?;
    let repair = RTCRtpCodecParameters { rtp_codec: repair, payload_type: REPAIR_TYPE };
    media.register_codec(repair, RtpCodecKind::Video)?;
    for uri in [MID, PLAYOUT_DELAY] {
        let extension = RTCRtpHeaderExtensionCapability { uri: uri.to_owned() };
        media.register_header_extension(extension, RtpCodecKind::Video, None)?;
    }
    Ok(media)
}

/// The crate's defaults ask for lost packets every 100 ms and for ever, which is too slow at first and a storm
/// of retransmissions later; its jitter buffer delays by more than ours.
pub fn interceptors(events: &Arc<Events>, ssrc: Option<u32>) -> Registry {
    let asking =
        NackGeneratorBuilder::new().with_interval(Duration::from_millis(20)).with_max_nacks_per_packet(4);
    Registry::new()
        .with(Slot::NackResponder, NackResponderBuilder::new().build())
        .with(Slot::NackGenerator, asking.build())
        .with(Slot::ReceiverReport, ReceiverReportBuilder::new().build())
        .with(Slot::SenderReport, SenderReportBuilder::new().build())
        // Behind all others, so that these have seen what it reads.
        .with(Slot::from(14_000), Feedback::new(Arc::clone(events), ssrc))
}

/// Timers and candidates.
pub fn engine() -> SettingEngine {
    SettingEngineBuilder::new()
        // As DTLS client the crate sends its first packet with the next ICE check, so frequent checks connect
        // sooner; with the default of 200 ms the first picture comes 200 ms later.
        .with_ice_connection_attempts(Some(Duration::from_millis(20)), Some(200))
        // A peer that vanished is disconnected after 5 s and given up 10 s later.
        .with_ice_timeouts(
            Some(Duration::from_secs(5)),
            Some(Duration::from_secs(10)),
            Some(Duration::from_secs(1)),
        )
        // Without a route for multicast (containers) mDNS makes connecting fail.
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .with_include_loopback_candidate(true)
        .build()
}
