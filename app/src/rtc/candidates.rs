//! Candidate lines: what a stranger may make us send packets to, and what we tell of ourselves.

use std::net::{IpAddr, SocketAddr};

use super::RtcError;

/// Lines in one description or fragment.
pub const MAX_LINES: usize = 100;
/// Addresses of a peer that are really tried: each gets some hundred checks at worst, and must not become a
/// way to make this machine knock at many doors.
pub const MAX_USED: usize = 20;
const MAX_LINE: usize = 512;

/// A candidate of the other side that can be used here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub address: SocketAddr,
    /// The canonical line, from `candidate:` on.
    pub line: String,
}

/// Reads the value behind `a=candidate:`. `None` for what is of no use here: TCP, other components, names
/// (mDNS needs multicast, and such a peer is found by the packets it sends), and addresses of no single host.
///
/// # Errors
/// `Refused` when the line is no candidate at all.
pub fn read(value: &str) -> Result<Option<Candidate>, RtcError> {
    let refused = |expected: &str, got: &str| {
        Err(RtcError::Refused(format!("candidate: expected {expected}, got {:?}", super::sdp::short(got))))
    };
    if value.len() > MAX_LINE {
        return refused("at most 512 bytes", value);
    }
    let fields: Vec<&str> = value.split_ascii_whitespace().collect();
    let [foundation, component, transport, priority, address, port, "typ", kind, ..] = fields[..] else {
        return refused("foundation, component, transport, priority, address, port, typ and type", value);
    };
    let is_ice_text = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/".contains(&b));
    if foundation.len() > 32 || !is_ice_text(foundation) {
        return refused("a foundation of at most 32 letters and digits", foundation);
    }
    let Ok(port) = port.parse::<u16>() else { return refused("a port", port) };
    let Ok(priority) = priority.parse::<u32>() else { return refused("a priority", priority) };
    if !["host", "srflx", "prflx", "relay"].contains(&kind) {
        return refused("host, srflx, prflx or relay", kind);
    }
    let Ok(ip) = address.parse::<IpAddr>() else { return Ok(None) };
    if component != "1" || !transport.eq_ignore_ascii_case("udp") || port == 0 || !is_one_host(ip) {
        return Ok(None);
    }
    // The related address is of no use to us, but the parser wants one for these types.
    let related = if kind == "host" { "" } else { " raddr 0.0.0.0 rport 0" };
    let line = format!("candidate:{foundation} 1 udp {priority} {ip} {port} typ {kind}{related}");
    Ok(Some(Candidate { address: SocketAddr::new(ip, port), line }))
}

fn is_one_host(ip: IpAddr) -> bool {
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast
}

/// The usable ones of `values`, without repetitions, at most [`MAX_USED`].
///
/// # Errors
/// `Refused` for more than [`MAX_LINES`], or for a line that is no candidate.
pub fn read_all<'a>(values: impl Iterator<Item = &'a str>) -> Result<Vec<Candidate>, RtcError> {
    let mut used: Vec<Candidate> = Vec::new();
    for (ix, value) in values.enumerate() {
        if ix >= MAX_LINES {
            return Err(RtcError::Refused(format!("expected at most {MAX_LINES} candidates, got more")));
        }
        let Some(candidate) = read(value)? else { continue };
        if used.len() < MAX_USED && used.iter().all(|other| other.address != candidate.address) {
            used.push(candidate);
        }
    }
    Ok(used)
}

/// Our description without candidates for an RTCP of its own, as it always shares the port, and with candidates
/// for the addresses that a NAT maps to this machine, beside each host
/// candidate that is not loopback: the crate has a setting for this and does not look at it.
pub fn rewrite(description: &str, public: &[IpAddr]) -> String {
    let mut out = String::with_capacity(description.len() + 256);
    let is_for_rtcp = |line: &&str| line.starts_with("a=candidate:") && line.split(' ').nth(1) == Some("2");
    for line in description.lines().filter(|line| !is_for_rtcp(line)) {
        out.push_str(line);
        out.push_str("\r\n");
        let Some(value) = line.strip_prefix("a=candidate:") else { continue };
        let fields: Vec<&str> = value.split(' ').collect();
        let [foundation, component, transport, _, address, port, "typ", "host", ..] = fields[..] else {
            continue;
        };
        let Ok(own) = address.parse::<IpAddr>() else { continue };
        let fitting = public.iter().filter(|ip| ip.is_ipv4() == own.is_ipv4() && !own.is_loopback());
        for (ix, ip) in fitting.enumerate() {
            // Type preference of a server reflexive candidate (RFC 8445), below our own addresses.
            let priority = (100_u32 << 24) + ((65_535 - ix as u32) << 8) + 255;
            out.push_str(&format!(
                "a=candidate:{foundation}{ix} {component} {transport} {priority} {ip} {port} typ srflx raddr {own} rport {port}\r\n"
            ));
        }
    }
    out
}

/// Addresses in the candidate lines of a description, to be named in an error.
pub fn addresses(description: &str) -> String {
    let lines = description.lines().filter_map(|line| line.strip_prefix("a=candidate:"));
    let mut found: Vec<String> = Vec::new();
    for value in lines {
        let fields: Vec<&str> = value.split(' ').collect();
        if let [_, "1", transport, _, address, port, ..] = fields[..] {
            let one = format!("{transport} {address}:{port}");
            if !found.contains(&one) {
                found.push(one);
            }
        }
    }
    if found.is_empty() { "nothing".to_owned() } else { found.join(", ") }
}
