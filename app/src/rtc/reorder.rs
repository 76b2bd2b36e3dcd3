//! RTP packets back in their order: a short wait for what is late or sent again, then the gap is told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// How long a missing packet is waited for: three rounds of asking again on a good line.
pub const WINDOW: Duration = Duration::from_millis(60);
/// Packets that wait for a missing one.
const MAX_PACKETS: usize = 2048;
/// Bytes that wait for a missing packet.
const MAX_BYTES: usize = 8 << 20;
/// A sequence number this far off belongs to another stream, or to nobody.
const MAX_JUMP: i64 = 3000;

/// What of an RTP packet matters here.
#[derive(Debug, Clone)]
pub struct Packet {
    pub sequence: u16,
    /// Ticks of 90 kHz.
    pub time: u32,
    pub marker: bool,
    pub payload: Bytes,
}

/// The next thing in order.
#[derive(Debug)]
pub enum Next {
    Packet(Packet),
    /// One or more packets are missing here.
    Gap,
}

/// The packets of one stream.
#[derive(Debug, Default)]
pub struct Reorder {
    waiting: BTreeMap<i64, (Instant, Packet)>,
    bytes: usize,
    /// The sequence number that is due, without wrapping; `None` before the first packet.
    due: Option<i64>,
    /// When the packet that waits longest came, while one is missing before it.
    blocked_since: Option<Instant>,
    /// The number behind one that was far off: if it comes, the sender has begun anew.
    expected_after_jump: Option<u16>,
    /// The stream begins anew at this place and the reader is to be told of a gap.
    has_jumped: bool,
}

impl Reorder {
    /// Takes a packet in. Duplicates and what comes too late fall out.
    pub fn push(&mut self, now: Instant, packet: Packet) {
        let due = *self.due.get_or_insert(i64::from(packet.sequence));
        // The difference modulo 2^16, in -32768..=32767.
        let ahead = i64::from(packet.sequence.wrapping_sub(due as u16) as i16);
        if ahead.abs() > MAX_JUMP {
            return self.jump(now, packet);
        }
        self.expected_after_jump = None;
        if ahead >= 0 {
            self.insert(now, due + ahead, packet);
        }
    }

    fn insert(&mut self, now: Instant, key: i64, packet: Packet) {
        let bytes = packet.payload.len();
        if let std::collections::btree_map::Entry::Vacant(place) = self.waiting.entry(key) {
            place.insert((now, packet));
            self.bytes += bytes;
            self.blocked_since.get_or_insert(now);
        }
    }

    /// One stray packet must not throw the stream away; two that follow each other are a new beginning.
    fn jump(&mut self, now: Instant, packet: Packet) {
        if self.expected_after_jump != Some(packet.sequence) {
            self.expected_after_jump = Some(packet.sequence.wrapping_add(1));
            return;
        }
        let key = i64::from(packet.sequence);
        *self = Self { due: Some(key), has_jumped: true, ..Self::default() };
        self.insert(now, key, packet);
    }

    /// What is next at `now`, if anything.
    pub fn pop(&mut self, now: Instant) -> Option<Next> {
        if std::mem::take(&mut self.has_jumped) {
            return Some(Next::Gap);
        }
        let (&first, _) = self.waiting.first_key_value()?;
        let due = self.due?;
        if first == due {
            let (_, (_, packet)) = self.waiting.pop_first()?;
            self.bytes -= packet.payload.len();
            self.due = Some(due + 1);
            self.blocked_since = self.waiting.values().map(|(came, _)| *came).min();
            return Some(Next::Packet(packet));
        }
        let has_waited = self.deadline().is_some_and(|at| at <= now);
        let is_full = self.waiting.len() > MAX_PACKETS || self.bytes > MAX_BYTES;
        (has_waited || is_full).then(|| {
            self.due = Some(first);
            Next::Gap
        })
    }

    /// When [`pop`](Self::pop) has something to say though nothing comes in.
    pub fn deadline(&self) -> Option<Instant> {
        self.blocked_since.map(|since| since + WINDOW)
    }

    /// Bytes that wait.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
