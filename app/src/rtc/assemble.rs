//! Access units out of RTP packets.
//!
//! What is handed up is whole and in order. After a loss nothing is handed up before the next key frame:
//! pictures that refer to a missing one only smear.

use std::time::Instant;

use super::AccessUnit;
use super::depacketise::{Units, begins_unit};
use super::reorder::{Next, Packet, Reorder};

/// What came of the packets.
#[derive(Debug, PartialEq, Eq)]
pub enum Assembled {
    Unit(AccessUnit),
    /// Something is missing here; the next unit is a key frame.
    Lost,
}

/// The access units of one stream.
#[derive(Debug, Default)]
pub struct Assembler {
    reorder: Reorder,
    current: Option<Current>,
    /// Set from the start and after every loss until a key frame is whole.
    is_synced: bool,
    /// Whether a loss was told since the last key frame, which is once enough.
    is_loss_told: bool,
    /// A packet is missing before the next one.
    has_gap: bool,
    /// Units thrown away.
    dropped: u64,
    is_key_wanted: bool,
}

/// The unit that packets are added to.
#[derive(Debug)]
struct Current {
    time: u32,
    units: Units,
    /// Something of it is missing or wrong, so the rest is thrown away.
    is_broken: bool,
}

impl Assembler {
    /// Takes a packet in; [`next`](Self::next) has the result.
    pub fn push(&mut self, now: Instant, packet: Packet) {
        self.reorder.push(now, packet);
    }

    /// When [`next`](Self::next) is to be asked though no packet comes.
    pub fn deadline(&self) -> Option<Instant> {
        self.reorder.deadline()
    }

    /// Units thrown away since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Whether pictures come that cannot be used before a key frame.
    pub fn is_key_wanted(&self) -> bool {
        self.is_key_wanted
    }

    /// The reader lost a unit: what refers to it is of no use.
    pub fn lose(&mut self) {
        (self.is_synced, self.is_key_wanted) = (false, true);
    }

    /// The next result at `now`.
    pub fn next(&mut self, now: Instant) -> Option<Assembled> {
        loop {
            let result = match self.reorder.pop(now)? {
                Next::Gap => self.gap(),
                Next::Packet(packet) => self.packet(packet),
            };
            if result.is_some() {
                return result;
            }
        }
    }

    fn gap(&mut self) -> Option<Assembled> {
        if let Some(current) = &mut self.current {
            current.is_broken = true;
        }
        self.has_gap = true;
        self.loss()
    }

    fn loss(&mut self) -> Option<Assembled> {
        self.lose();
        (!std::mem::replace(&mut self.is_loss_told, true)).then_some(Assembled::Lost)
    }

    fn packet(&mut self, packet: Packet) -> Option<Assembled> {
        // Padding that a sender probes the line with.
        if packet.payload.is_empty() {
            return None;
        }
        let before = match &self.current {
            Some(current) if current.time != packet.time => self.finish(),
            _ => None,
        };
        self.add(&packet);
        let after = if packet.marker { self.finish() } else { None };
        // Both at once would need a unit without marker right before a unit of one packet; the earlier one is
        // older and goes.
        match (before, after) {
            (Some(Assembled::Unit(_)), Some(after)) => {
                self.dropped += 1;
                let is_key = matches!(&after, Assembled::Unit(unit) if unit.is_key);
                if is_key { Some(after) } else { self.loss() }
            }
            (before, after) => after.or(before),
        }
    }

    fn add(&mut self, packet: &Packet) {
        let has_gap = std::mem::take(&mut self.has_gap);
        let current = self.current.get_or_insert_with(|| Current {
            time: packet.time,
            units: Units::default(),
            // Behind a gap this may be the middle of a unit.
            is_broken: has_gap && !begins_unit(&packet.payload),
        });
        if !current.is_broken && current.units.add(&packet.payload).is_err() {
            current.is_broken = true;
        }
        if current.is_broken {
            current.units = Units::default();
        }
    }

    fn finish(&mut self) -> Option<Assembled> {
        let Current { time, units, is_broken } = self.current.take()?;
        if is_broken || !units.is_whole() {
            self.dropped += 1;
            return self.loss();
        }
        if !self.is_synced && !units.has_idr {
            (self.is_key_wanted, self.dropped) = (true, self.dropped + 1);
            return None;
        }
        (self.is_synced, self.is_loss_told, self.is_key_wanted) = (true, false, false);
        Some(Assembled::Unit(AccessUnit { data: units.data.freeze(), rtp_time: time, is_key: units.has_idr }))
    }

    /// Bytes held.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.reorder.bytes() + self.current.as_ref().map_or(0, |current| current.units.data.capacity())
    }
}
