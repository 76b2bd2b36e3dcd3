//! Descriptions written anew: what the crate gets to read of the other side, and what the other side gets of
//! the crate's.

use std::fmt::Write;

use super::sdp::{Description, Role};
use super::video::{FEEDBACK, PROFILE};

/// Names of the stream and the track, for the crate to tell tracks by.
const STREAM: &str = "peer picture";

impl Description {
    /// What the crate is told: the same, with nothing in it that is not known here.
    pub fn canonical(&self) -> String {
        let mut out = String::with_capacity(2048);
        self.write_canonical(&mut out).ok();
        out.replace('\n', "\r\n")
    }

    fn write_canonical(&self, out: &mut String) -> std::fmt::Result {
        let (mid, video) = (&self.sections[self.chosen].mid, &self.video);
        writeln!(out, "v=0\no=- 1 2 IN IP4 127.0.0.1\ns=-\nt=0 0\na=group:BUNDLE {mid}")?;
        write!(out, "m=video 9 UDP/TLS/RTP/SAVPF {}", video.payload_type)?;
        if let Some(repair) = video.repair_type {
            write!(out, " {repair}")?;
        }
        writeln!(out, "\nc=IN IP4 0.0.0.0\na=rtcp:9 IN IP4 0.0.0.0")?;
        writeln!(out, "a=ice-ufrag:{}\na=ice-pwd:{}", self.credentials.ufrag, self.credentials.password)?;
        writeln!(out, "a=ice-options:trickle\na=fingerprint:{}", self.fingerprint)?;
        writeln!(out, "a=setup:{}\na=mid:{mid}", self.setup)?;
        for (id, uri) in &video.extensions {
            writeln!(out, "a=extmap:{id} {uri}")?;
        }
        let is_publisher = self.role == Role::Publisher;
        writeln!(out, "a={}", if is_publisher { "sendonly" } else { "recvonly" })?;
        if is_publisher {
            writeln!(out, "a=msid:{STREAM}")?;
        }
        writeln!(out, "a=rtcp-mux\na=rtcp-rsize")?;
        self.write_formats(out)?;
        self.write_streams(out)?;
        for candidate in &self.candidates {
            writeln!(out, "a={}", candidate.line)?;
        }
        Ok(())
    }

    fn write_formats(&self, out: &mut String) -> std::fmt::Result {
        let video = &self.video;
        let number = video.payload_type;
        writeln!(out, "a=rtpmap:{number} H264/90000")?;
        for (kind, parameter) in FEEDBACK.iter().filter(|one| video.feedback.contains(one)) {
            writeln!(out, "{}", format!("a=rtcp-fb:{number} {kind} {parameter}").trim_end())?;
        }
        writeln!(out, "a=fmtp:{number} level-asymmetry-allowed=1;packetization-mode=1;{PROFILE}")?;
        if let Some(repair) = video.repair_type {
            writeln!(out, "a=rtpmap:{repair} rtx/90000\na=fmtp:{repair} apt={number}")?;
        }
        Ok(())
    }

    fn write_streams(&self, out: &mut String) -> std::fmt::Result {
        let Some((stream, repair)) = self.video.ssrc else { return Ok(()) };
        if let Some(repair) = repair {
            writeln!(out, "a=ssrc-group:FID {stream} {repair}")?;
        }
        for ssrc in std::iter::once(stream).chain(repair) {
            writeln!(out, "a=ssrc:{ssrc} cname:peer\na=ssrc:{ssrc} msid:{STREAM}")?;
        }
        Ok(())
    }

    /// The crate's answer as the other side is to get it: with every section it offered, in its order, the
    /// ones that the crate did not see refused, and with the profile that it offered.
    pub fn complete(&self, answer: &str) -> String {
        let answer = answer.replace(PROFILE, &self.video.profile);
        let at = answer.find("m=video").unwrap_or(answer.len());
        let (session, ours) = answer.split_at(at);
        let mut out = String::with_capacity(answer.len() + 256);
        out.push_str(session);
        for (ix, section) in self.sections.iter().enumerate() {
            if ix == self.chosen {
                out.push_str(ours);
                continue;
            }
            let (kind, protocol, mid) = (&section.kind, &section.protocol, &section.mid);
            let format = section.formats.first().map_or("0", String::as_str);
            let _ = write!(
                out,
                "m={kind} 0 {protocol} {format}\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\na=inactive\r\n"
            );
        }
        out
    }
}
