//! Where sockets are bound: addresses of this machine, and a port for each peer.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use super::RtcError;

/// More sockets for one peer than this help nobody: each is an address to be checked by ICE.
const MAX_ADDRESSES: usize = 16;

/// The addresses to bind, with `0.0.0.0` and `::` replaced by those of every interface and loopback: a socket
/// bound to a wildcard has no address to tell a peer.
pub fn expand(configured: &[IpAddr]) -> Vec<IpAddr> {
    let mut out = Vec::new();
    for address in configured {
        if !address.is_unspecified() {
            push(&mut out, *address);
            continue;
        }
        let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
            tracing::debug!(%error, "the interfaces cannot be listed; only loopback is used");
            Vec::new()
        });
        let same_family =
            interfaces.iter().map(if_addrs::Interface::ip).filter(|ip| ip.is_ipv4() == address.is_ipv4());
        let found = same_family.filter(is_usable).chain([loopback(address)]);
        // A wildcard means what there is: without IPv6 `::` stands for nothing.
        found.filter(|ip| UdpSocket::bind((*ip, 0)).is_ok()).for_each(|ip| push(&mut out, ip));
    }
    out.truncate(MAX_ADDRESSES);
    out
}

fn push(out: &mut Vec<IpAddr>, ip: IpAddr) {
    if !out.contains(&ip) {
        out.push(ip);
    }
}

fn loopback(like: &IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

/// Link-local addresses mean nothing without the interface they belong to, which a candidate cannot say.
fn is_usable(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local() && !ip.is_unspecified(),
    }
}

/// The ports that peers may use.
#[derive(Debug, Clone)]
pub struct Ports(Option<Arc<Range>>);

#[derive(Debug)]
struct Range {
    ports: RangeInclusive<u16>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: BTreeSet<u16>,
    /// Where the search begins, so that a port rests before it is used again: packets of the peer before
    /// would reach the next one.
    next: u16,
}

/// A port that belongs to one peer until this is dropped. Port 0 means any.
#[derive(Debug)]
pub struct Lease {
    pub port: u16,
    range: Option<Arc<Range>>,
}

impl Ports {
    /// `None` means any port.
    pub fn new(ports: Option<RangeInclusive<u16>>) -> Self {
        let range = |ports: RangeInclusive<u16>| {
            let state = State { next: *ports.start(), ..State::default() };
            Arc::new(Range { ports, state: Mutex::new(state) })
        };
        Self(ports.map(range))
    }

    /// A port that is free on every one of `addresses`.
    ///
    /// # Errors
    /// `Busy` when none is left, `Failed` when an address is not of this machine.
    pub fn take(&self, addresses: &[IpAddr]) -> Result<Lease, RtcError> {
        let Some(range) = &self.0 else { return Ok(Lease { port: 0, range: None }) };
        let (first, last) = (*range.ports.start(), *range.ports.end());
        let mut state = range.state.lock().unwrap_or_else(PoisonError::into_inner);
        let from = state.next.clamp(first, last);
        for port in (from..=last).chain(first..from) {
            if !state.taken.contains(&port) && is_free(addresses, port)? {
                state.taken.insert(port);
                state.next = if port == last { first } else { port + 1 };
                return Ok(Lease { port, range: Some(Arc::clone(range)) });
            }
        }
        let peers = state.taken.len();
        Err(RtcError::Busy(format!("no UDP port is left of {first}-{last}: {peers} peers are connected")))
    }
}

/// Asked of the system, as other programs use ports too. The socket goes at once and the crate binds its own.
fn is_free(addresses: &[IpAddr], port: u16) -> Result<bool, RtcError> {
    for address in addresses {
        match UdpSocket::bind(SocketAddr::new(*address, port)) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => return Ok(false),
            Err(error) => {
                return Err(RtcError::Failed(format!("cannot bind UDP port {port} of {address}: {error}")));
            }
        }
    }
    Ok(true)
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(range) = &self.range {
            range.state.lock().unwrap_or_else(PoisonError::into_inner).taken.remove(&self.port);
        }
    }
}
