//! The video section of a description: which of its formats is H.264 as we speak it, and what goes with it.

use super::RtcError;
use super::sdp::{Role, short};

/// The identity of a section in every packet.
pub const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
/// Tells a browser not to hold frames back.
pub const PLAYOUT_DELAY: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
/// The profile that the crate is told; the offered one is put back into the answer.
pub const PROFILE: &str = "profile-level-id=42e01f";
/// Feedback that is understood.
pub const FEEDBACK: [(&str, &str); 4] = [("nack", ""), ("nack", "pli"), ("ccm", "fir"), ("goog-remb", "")];

/// A stream of H.264.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Video {
    pub payload_type: u8,
    /// Of retransmissions (RFC 4588).
    pub repair_type: Option<u8>,
    /// `profile-level-id=...` as offered.
    pub profile: String,
    pub feedback: Vec<(&'static str, &'static str)>,
    /// Ids of header extensions.
    pub extensions: Vec<(u8, &'static str)>,
    /// The stream and its retransmissions, of a publisher that names them.
    pub ssrc: Option<(u32, Option<u32>)>,
}

/// A payload type and what is said about it.
struct Format<'a> {
    payload_type: u8,
    codec: &'a str,
    parameters: &'a str,
}

impl Video {
    /// Takes the best H.264 of a section: constrained baseline before baseline, in fragments
    /// (packetization-mode=1).
    ///
    /// # Errors
    /// `NoCodec` when there is none.
    pub fn read(section: &[&str], formats: &[String], role: Role) -> Result<Self, RtcError> {
        let formats: Vec<Format> =
            formats.iter().filter_map(|format| Format::read(section, format)).collect();
        let best = formats.iter().filter_map(|format| Some((format.rank()?, format)));
        // The first of the best: formats are in the order of preference.
        let Some((_, best)) = best.rev().max_by_key(|(rank, _)| *rank) else {
            let mut names: Vec<&str> = formats.iter().map(|format| format.codec).collect();
            names.dedup();
            let got = short(&names.join(", "));
            return Err(RtcError::NoCodec(format!(
                "SDP: expected H.264 in the baseline profile with packetization-mode=1, got {got}"
            )));
        };
        let repair = format!("apt={}", best.payload_type);
        let repair_type = formats.iter().find(|format| {
            format.codec.eq_ignore_ascii_case("rtx/90000")
                && format.parameters.split(';').any(|p| p.trim() == repair)
        });
        Ok(Self {
            payload_type: best.payload_type,
            repair_type: repair_type.map(|format| format.payload_type),
            profile: format!("profile-level-id={}", best.parameter("profile-level-id").unwrap_or("42e01f")),
            feedback: feedback(section, best.payload_type),
            extensions: extensions(section),
            ssrc: if role == Role::Publisher { ssrc(section) } else { None },
        })
    }
}

impl<'a> Format<'a> {
    fn read(section: &[&'a str], format: &str) -> Option<Self> {
        let payload_type: u8 = format.parse().ok().filter(|number| *number < 128)?;
        let value = |key: &str| {
            let prefix = format!("a={key}:{payload_type} ");
            section.iter().find_map(|line| Some(line.strip_prefix(&prefix)?.trim()))
        };
        Some(Self { payload_type, codec: value("rtpmap")?, parameters: value("fmtp").unwrap_or_default() })
    }

    fn parameter(&self, key: &str) -> Option<&'a str> {
        self.parameters.split(';').find_map(|one| one.trim().strip_prefix(key)?.strip_prefix('='))
    }

    /// How well this suits; `None` for what is not spoken here.
    fn rank(&self) -> Option<u8> {
        if !self.codec.eq_ignore_ascii_case("H264/90000") || self.parameter("packetization-mode") != Some("1")
        {
            return None;
        }
        // Without the parameter it is baseline (RFC 6184).
        let profile = self.parameter("profile-level-id").unwrap_or("42000a");
        let is_hex = profile.len() == 6 && profile.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hex || &profile[..2] != "42" {
            return None;
        }
        let constraints = u8::from_str_radix(&profile[2..4], 16).ok()?;
        Some(if constraints & 0x40 != 0 { 2 } else { 1 })
    }
}

fn feedback(section: &[&str], payload_type: u8) -> Vec<(&'static str, &'static str)> {
    let is_offered = |(kind, parameter): &(&str, &str)| {
        let value = format!("{kind} {parameter}");
        let lines =
            [format!("a=rtcp-fb:{payload_type} {}", value.trim()), format!("a=rtcp-fb:* {}", value.trim())];
        section.iter().any(|line| lines.iter().any(|wanted| wanted == line.trim_end()))
    };
    FEEDBACK.into_iter().filter(is_offered).collect()
}

/// Ids above 14 would need headers of two bytes, which not everybody reads.
fn extensions(section: &[&str]) -> Vec<(u8, &'static str)> {
    let mut out: Vec<(u8, &'static str)> = Vec::new();
    for line in section.iter().filter_map(|line| line.strip_prefix("a=extmap:")) {
        let mut fields = line.split_ascii_whitespace();
        let id = fields.next().and_then(|id| id.split('/').next()).and_then(|id| id.parse::<u8>().ok());
        let known =
            fields.next().and_then(|uri| [MID, PLAYOUT_DELAY].into_iter().find(|known| *known == uri));
        if let (Some(id @ 1..=14), Some(known)) = (id, known)
            && out.iter().all(|(other_id, other)| *other_id != id && *other != known)
        {
            out.push((id, known));
        }
    }
    out
}

/// The first stream that is named, with its retransmissions. Others are further layers of the same picture.
fn ssrc(section: &[&str]) -> Option<(u32, Option<u32>)> {
    let first = section.iter().find_map(|line| line.strip_prefix("a=ssrc:")?.split(' ').next()?.parse().ok());
    let groups = section.iter().filter_map(|line| line.strip_prefix("a=ssrc-group:FID "));
    let pairs = groups.filter_map(|group| {
        let (stream, repair) = group.trim().split_once(' ')?;
        Some((stream.parse::<u32>().ok()?, repair.parse::<u32>().ok()?))
    });
    let mut pairs = pairs.filter(|(stream, repair)| stream != repair);
    match pairs.next() {
        Some((stream, repair)) => Some((stream, Some(repair))),
        None => first.map(|stream| (stream, None)),
    }
}
