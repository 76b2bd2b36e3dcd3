//! RTP payloads back to NAL units (RFC 6184, packetization-mode 1), with every length checked: the payload
//! comes from a stranger.

use bytes::BytesMut;

/// An access unit larger than this is no picture.
pub const MAX_UNIT: usize = 4 << 20;

const START_CODE: [u8; 4] = [0, 0, 0, 1];
const IDR: u8 = 5;
const SPS: u8 = 7;
const DELIMITER: u8 = 9;
const AGGREGATE: u8 = 24;
const FU_A: u8 = 28;

/// A payload that no sender of ours would make, or a part that does not follow the one before.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// The NAL units of one access unit as they come in.
#[derive(Debug, Default)]
pub struct Units {
    pub data: BytesMut,
    pub has_idr: bool,
    /// A fragmented unit has begun and not ended.
    is_open: bool,
}

impl Units {
    /// Adds a payload.
    ///
    /// # Errors
    /// When it is malformed, out of its place, or the whole grows beyond [`MAX_UNIT`].
    pub fn add(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let [indicator, rest @ ..] = payload else { return Err(Malformed) };
        if indicator & 0x80 != 0 {
            return Err(Malformed);
        }
        match indicator & 0x1f {
            FU_A => self.add_fragment(*indicator, rest),
            _ if self.is_open => Err(Malformed),
            1..AGGREGATE => self.add_unit(payload),
            AGGREGATE => self.add_many(rest),
            _ => Err(Malformed),
        }
    }

    /// Whether nothing is missing at the end.
    pub fn is_whole(&self) -> bool {
        !self.is_open
    }

    fn add_unit(&mut self, unit: &[u8]) -> Result<(), Malformed> {
        self.has_idr |= unit[0] & 0x1f == IDR;
        self.append(&START_CODE)?;
        self.append(unit)
    }

    fn add_many(&mut self, mut rest: &[u8]) -> Result<(), Malformed> {
        if rest.is_empty() {
            return Err(Malformed);
        }
        while let [high, low, after @ ..] = rest {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            let unit = after.get(..len).ok_or(Malformed)?;
            let header = unit.first().ok_or(Malformed)?;
            if header & 0x80 != 0 || !(1..AGGREGATE).contains(&(header & 0x1f)) {
                return Err(Malformed);
            }
            self.add_unit(unit)?;
            rest = &after[len..];
        }
        if rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    fn add_fragment(&mut self, indicator: u8, rest: &[u8]) -> Result<(), Malformed> {
        let [header, part @ ..] = rest else { return Err(Malformed) };
        let (starts, ends, kind) = (header & 0x80 != 0, header & 0x40 != 0, header & 0x1f);
        if starts == self.is_open || starts && ends || !(1..AGGREGATE).contains(&kind) {
            return Err(Malformed);
        }
        if starts {
            self.has_idr |= kind == IDR;
            self.append(&START_CODE)?;
            self.append(&[indicator & 0xe0 | kind])?;
        }
        self.is_open = !ends;
        self.append(part)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if self.data.len() + bytes.len() > MAX_UNIT {
            return Err(Malformed);
        }
        self.data.extend_from_slice(bytes);
        Ok(())
    }
}

/// Whether an access unit surely begins with this payload: with parameter sets or a delimiter.
pub fn begins_unit(payload: &[u8]) -> bool {
    let kind = match payload {
        [header, _, _, first, ..] if header & 0x1f == AGGREGATE => first & 0x1f,
        [header, ..] => header & 0x1f,
        [] => return false,
    };
    matches!(kind, SPS | DELIMITER)
}
