//! Tests of the transport: real sockets on 127.0.0.1, each wait bounded.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod assembling;
mod descriptions;
mod hostile;
mod loss;
mod ports;
mod rounds;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::Bytes;

use super::{AccessUnit, PeerEvent, PeerEvents, Rtc, RtcConfig};

/// Offers of Chromium 156.
const VIEWER: &str = include_str!("offers/viewer.txt");
const VIEWER_AUDIO: &str = include_str!("offers/viewer_audio.txt");
const PUBLISHER: &str = include_str!("offers/publisher.txt");
const SIMULCAST: &str = include_str!("offers/simulcast.txt");
const VP8_ONLY: &str = include_str!("offers/vp8_only.txt");
const AUDIO_ONLY: &str = include_str!("offers/audio_only.txt");
const DATA_ONLY: &str = include_str!("offers/data_only.txt");

/// A machine with other work on its two cores takes this long at worst.
const PATIENCE: Duration = Duration::from_secs(20);

fn local() -> RtcConfig {
    RtcConfig { addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)], ..RtcConfig::default() }
}

fn rtc() -> Rtc {
    Rtc::new(local()).unwrap()
}

/// Waits for an event that `wanted` takes.
async fn until<T>(events: &mut PeerEvents, mut wanted: impl FnMut(PeerEvent) -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = wanted(events.recv().await.expect("the events ended")) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("the event did not come")
}

async fn connected(events: &mut PeerEvents) {
    until(events, |event| (event == PeerEvent::Connected).then_some(())).await;
}

/// Random numbers from a seed (xorshift).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn happens(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

/// An access unit of one NAL unit of `size` bytes, behind parameter sets when it is a key frame.
fn unit(number: u32, size: usize, is_key: bool) -> AccessUnit {
    let mut data = Vec::with_capacity(size + 64);
    let mut add = |header: u8, len: usize| {
        data.extend_from_slice(&[0, 0, 0, 1, header]);
        // No zeros, as these would make start codes.
        data.extend((1..len).map(|ix| ((number as usize + ix * 7) % 255 + 1) as u8));
    };
    if is_key {
        add(0x67, 12);
        add(0x68, 5);
    }
    add(if is_key { 0x65 } else { 0x41 }, size);
    AccessUnit { data: Bytes::from(data), rtp_time: number.wrapping_mul(3000).wrapping_sub(90_000), is_key }
}
