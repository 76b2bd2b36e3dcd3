//! Descriptions of strangers, checked before the crate parses anything.
//!
//! The crate never sees the text that came in: what is understood here is written anew, with one video section
//! and the few attributes that matter. Simulcast, other media and unknown attributes are left out, and the
//! sections that are left out are refused in the answer.

use super::RtcError;
use super::candidates::{self, Candidate};
use super::video::Video;

/// Bytes of a description.
pub const MAX_BYTES: usize = 64 * 1024;
const MAX_LINES: usize = 2000;
const MAX_SECTIONS: usize = 16;
const MAX_FORMATS: usize = 128;

/// What the other side is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It offers to receive.
    Viewer,
    /// It offers to send.
    Publisher,
    /// It answers our offer to send.
    Answerer,
}

/// User name and password of ICE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    pub ufrag: String,
    pub password: String,
}

/// A description that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    pub role: Role,
    pub credentials: Credentials,
    /// Algorithm and hash of the other side's certificate.
    pub fingerprint: String,
    pub setup: String,
    pub candidates: Vec<Candidate>,
    pub sections: Vec<Section>,
    /// Which of the sections is ours.
    pub chosen: usize,
    pub video: Video,
}

/// A media section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// `video`, `audio`, `application` ...
    pub kind: String,
    pub protocol: String,
    /// Payload types, for media.
    pub formats: Vec<String>,
    pub mid: String,
    is_refused: bool,
    first_line: usize,
    end_line: usize,
}

/// The first characters of what came, for an error.
pub fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

fn refused<T>(message: impl Into<String>) -> Result<T, RtcError> {
    Err(RtcError::Refused(message.into()))
}

/// The lines of a text of bearable size without control characters.
///
/// # Errors
/// `Refused` otherwise.
pub fn check_text(text: &str) -> Result<Vec<&str>, RtcError> {
    if text.len() > MAX_BYTES {
        return refused(format!("SDP: expected at most {MAX_BYTES} bytes, got {}", text.len()));
    }
    let lines: Vec<&str> = text.lines().map(|line| line.trim_end_matches('\r')).collect();
    if lines.len() > MAX_LINES {
        return refused(format!("SDP: expected at most {MAX_LINES} lines, got {}", lines.len()));
    }
    if let Some(line) = lines.iter().find(|line| line.chars().any(char::is_control)) {
        return refused(format!("SDP: control character in {:?}", short(line)));
    }
    Ok(lines)
}

impl Credentials {
    /// # Errors
    /// `Refused` when one is missing or not of ICE's length and characters (RFC 8839).
    pub fn read(ufrag: Option<&str>, password: Option<&str>) -> Result<Self, RtcError> {
        let check = |name, value: Option<&str>, shortest| {
            let Some(value) = value else { return refused(format!("SDP: {name} is missing")) };
            let is_fitting = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/-_=".contains(&b));
            if !(shortest..=256).contains(&value.len()) || !is_fitting {
                return refused(format!(
                    "SDP: expected {name} of {shortest} to 256 letters and digits, got {:?}",
                    short(value)
                ));
            }
            Ok(value.to_owned())
        };
        Ok(Self { ufrag: check("ice-ufrag", ufrag, 4)?, password: check("ice-pwd", password, 22)? })
    }
}

/// Reads the description of a peer of this role.
///
/// # Errors
/// `NoCodec` when it has no H.264 that we speak, `Refused` for everything else.
pub fn read(text: &str, role: Role) -> Result<Description, RtcError> {
    let lines = check_text(text)?;
    if lines.first().is_none_or(|line| line.trim() != "v=0") {
        let got = short(lines.first().copied().unwrap_or_default());
        return refused(format!("SDP: expected v=0 in the first line, got {got:?}"));
    }
    let sections = sections(&lines)?;
    let chosen = choose(&lines, &sections, role)?;
    let session_end = sections.first().map_or(lines.len(), |section| section.first_line);
    let scopes = [sections[chosen].of(&lines), &lines[..session_end], sections[0].of(&lines)];
    // With one transport for all media, the first section may be the only one to describe it.
    let value = |key: &str| scopes.iter().find_map(|scope| attribute(scope, key));
    let credentials = Credentials::read(value("ice-ufrag"), value("ice-pwd"))?;
    let candidate_lines = lines.iter().filter_map(|line| line.strip_prefix("a=candidate:"));
    Ok(Description {
        role,
        fingerprint: fingerprint(&scopes)?,
        setup: setup(value("setup"), role)?,
        candidates: candidates::read_all(candidate_lines)?,
        video: Video::read(sections[chosen].of(&lines), &sections[chosen].formats, role)?,
        credentials,
        sections,
        chosen,
    })
}

/// The value of `a=key:value`.
pub fn attribute<'a>(lines: &[&'a str], key: &str) -> Option<&'a str> {
    lines.iter().find_map(|line| line.strip_prefix("a=")?.strip_prefix(key)?.strip_prefix(':'))
}

impl Section {
    fn of<'a, 'b>(&self, lines: &'b [&'a str]) -> &'b [&'a str] {
        &lines[self.first_line..self.end_line]
    }
}

fn sections(lines: &[&str]) -> Result<Vec<Section>, RtcError> {
    let starts: Vec<usize> = (0..lines.len()).filter(|ix| lines[*ix].starts_with("m=")).collect();
    if starts.is_empty() || starts.len() > MAX_SECTIONS {
        return refused(format!("SDP: expected 1 to {MAX_SECTIONS} media sections, got {}", starts.len()));
    }
    let mut out: Vec<Section> = Vec::with_capacity(starts.len());
    for (ix, &first_line) in starts.iter().enumerate() {
        let end_line = starts.get(ix + 1).copied().unwrap_or(lines.len());
        let section = section(&lines[first_line..end_line], first_line, end_line)?;
        if out.iter().any(|other| other.mid == section.mid) {
            return refused(format!("SDP: two media sections have the mid {:?}", section.mid));
        }
        out.push(section);
    }
    Ok(out)
}

fn section(lines: &[&str], first_line: usize, end_line: usize) -> Result<Section, RtcError> {
    let fields: Vec<&str> = lines[0][2..].split_ascii_whitespace().collect();
    let [kind, port, protocol, formats @ ..] = &fields[..] else {
        return refused(format!("SDP: expected kind, port, protocol and formats, got {:?}", short(lines[0])));
    };
    let is_token = |text: &str| {
        let is_fitting = |b: u8| b.is_ascii_alphanumeric() || b"/-_.+".contains(&b);
        (1..=64).contains(&text.len()) && text.bytes().all(is_fitting)
    };
    let is_fitting = [kind, protocol].into_iter().chain(formats).all(|field| is_token(field));
    let Ok(port) = port.parse::<u16>() else {
        return refused(format!("SDP: expected a port, got {:?}", short(port)));
    };
    if !is_fitting || formats.is_empty() || formats.len() > MAX_FORMATS {
        return refused(format!("SDP: unreadable media line {:?}", short(lines[0])));
    }
    let mid = attribute(lines, "mid").unwrap_or_default();
    if !is_token(mid) {
        return refused(format!("SDP: expected a mid of 1 to 64 letters and digits, got {:?}", short(mid)));
    }
    let is_bundled = lines.contains(&"a=bundle-only");
    Ok(Section {
        kind: (*kind).to_owned(),
        protocol: (*protocol).to_owned(),
        formats: formats.iter().map(|format| (*format).to_owned()).collect(),
        mid: mid.to_owned(),
        is_refused: port == 0 && !is_bundled,
        first_line,
        end_line,
    })
}

/// The first video section of the wanted direction.
fn choose(lines: &[&str], sections: &[Section], role: Role) -> Result<usize, RtcError> {
    let video: Vec<usize> = (0..sections.len()).filter(|ix| sections[*ix].kind == "video").collect();
    if video.is_empty() {
        let kinds: Vec<&str> = sections.iter().map(|section| section.kind.as_str()).collect();
        return Err(RtcError::NoCodec(format!("SDP: expected a video section, got {}", kinds.join(", "))));
    }
    let Some(open) = video.iter().copied().find(|ix| !sections[*ix].is_refused) else {
        return Err(RtcError::NoCodec("SDP: the other side refuses the video".to_owned()));
    };
    let wanted = if role == Role::Publisher { "sendonly" } else { "recvonly" };
    let is_fitting = |ix: &usize| [wanted, "sendrecv"].contains(&direction(sections[*ix].of(lines)));
    let Some(chosen) = video.into_iter().filter(|ix| !sections[*ix].is_refused).find(is_fitting) else {
        let got = direction(sections[open].of(lines));
        return refused(format!("SDP: expected a video section that is {wanted}, got {got}"));
    };
    let protocol = &sections[chosen].protocol;
    if !["UDP/TLS/RTP/SAVPF", "TCP/TLS/RTP/SAVPF", "RTP/SAVPF", "UDP/TLS/RTP/SAVP"]
        .contains(&protocol.as_str())
    {
        return refused(format!("SDP: expected the protocol UDP/TLS/RTP/SAVPF, got {protocol:?}"));
    }
    Ok(chosen)
}

fn direction<'a>(section: &[&'a str]) -> &'a str {
    let names = section.iter().filter_map(|line| line.strip_prefix("a="));
    let mut directions = names.filter(|name| ["sendrecv", "sendonly", "recvonly", "inactive"].contains(name));
    directions.next().unwrap_or("sendrecv")
}

fn fingerprint(scopes: &[&[&str]]) -> Result<String, RtcError> {
    let lines = scopes.iter().flat_map(|scope| scope.iter());
    let mut values = lines.filter_map(|line| line.strip_prefix("a=fingerprint:")).peekable();
    let Some(first) = values.peek().copied() else { return refused("SDP: fingerprint is missing") };
    let is_hash = |hash: &str| {
        let mut count = 0;
        let is_hex = hash.split(':').all(|pair| {
            count += 1;
            pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit())
        });
        is_hex && count == 32
    };
    let found = values.find_map(|value| {
        let (algorithm, hash) = value.trim().split_once(' ')?;
        (algorithm.eq_ignore_ascii_case("sha-256") && is_hash(hash.trim()))
            .then(|| hash.trim().to_ascii_uppercase())
    });
    match found {
        Some(hash) => Ok(format!("sha-256 {hash}")),
        None => refused(format!("SDP: expected a fingerprint by sha-256, got {:?}", short(first))),
    }
}

fn setup(value: Option<&str>, role: Role) -> Result<String, RtcError> {
    let allowed: &[&str] =
        if role == Role::Answerer { &["active", "passive"] } else { &["actpass", "active", "passive"] };
    match value {
        Some(value) if allowed.contains(&value) => Ok(value.to_owned()),
        other => {
            let got = short(other.unwrap_or("nothing"));
            refused(format!("SDP: expected setup {}, got {got:?}", allowed.join(" or ")))
        }
    }
}
