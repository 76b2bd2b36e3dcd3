//! Access units as RTP payloads (RFC 6184, packetization-mode 1): a NAL unit in one packet, or in fragments.

use bytes::{BufMut, Bytes, BytesMut};

/// Payload bytes of a packet: with RTP header, extension, SRTP tag, UDP and IPv6 or a TURN channel it stays
/// under 1280 bytes, which every IPv6 link carries.
pub const MAX_PAYLOAD: usize = 1180;

const FU_A: u8 = 28;
const FU_START: u8 = 0x80;
const FU_END: u8 = 0x40;

/// The NAL units of an Annex B stream, without start codes and the zeros behind them.
pub fn nal_units(annex_b: &Bytes) -> Vec<Bytes> {
    let mut units = Vec::new();
    let mut start = None;
    let mut ix = 0;
    while ix + 3 <= annex_b.len() {
        if annex_b[ix + 2] > 1 {
            ix += 3;
        } else if annex_b[ix..ix + 3] == [0, 0, 1] {
            units.extend(start.and_then(|start| trimmed(annex_b, start, ix)));
            start = Some(ix + 3);
            ix += 3;
        } else {
            ix += 1;
        }
    }
    units.extend(start.and_then(|start| trimmed(annex_b, start, annex_b.len())));
    units
}

/// A NAL unit never ends in a zero byte: what does belongs to the next start code.
fn trimmed(annex_b: &Bytes, start: usize, end: usize) -> Option<Bytes> {
    let last = annex_b[start..end].iter().rposition(|byte| *byte != 0)?;
    Some(annex_b.slice(start..=start + last))
}

/// The payloads of an access unit, in order; the last one is to carry the marker.
pub fn payloads(annex_b: &Bytes) -> Vec<Bytes> {
    let mut out = Vec::with_capacity(annex_b.len() / MAX_PAYLOAD + 4);
    for unit in nal_units(annex_b) {
        if unit.len() <= MAX_PAYLOAD {
            out.push(unit);
        } else {
            fragments(&unit, &mut out);
        }
    }
    out
}

fn fragments(unit: &Bytes, out: &mut Vec<Bytes>) {
    let (indicator, kind) = (unit[0] & 0xe0 | FU_A, unit[0] & 0x1f);
    let body = &unit[1..];
    let count = body.len().div_ceil(MAX_PAYLOAD - 2);
    // Of even size: a last packet of a few bytes is as easily lost as a full one.
    let size = body.len().div_ceil(count);
    for (ix, part) in body.chunks(size).enumerate() {
        let start = if ix == 0 { FU_START } else { 0 };
        let end = if (ix + 1) * size >= body.len() { FU_END } else { 0 };
        let mut packet = BytesMut::with_capacity(part.len() + 2);
        packet.put_u8(indicator);
        packet.put_u8(start | end | kind);
        packet.put_slice(part);
        out.push(packet.freeze());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_codes_of_both_lengths_part_units() {
        let stream = Bytes::from_static(&[0, 0, 0, 1, 0x67, 1, 2, 0, 0, 1, 0x68, 0, 0, 0, 1, 0x65, 9, 0, 0]);
        let units = nal_units(&stream);
        assert_eq!(units, [&[0x67, 1, 2][..], &[0x68], &[0x65, 9]]);
        assert!(nal_units(&Bytes::from_static(&[0, 0, 1])).is_empty());
        assert!(nal_units(&Bytes::from_static(&[1, 2, 3, 4])).is_empty());
        assert!(nal_units(&Bytes::new()).is_empty());
    }

    #[test]
    fn fragments_fit_and_have_one_start_and_one_end() {
        for len in [MAX_PAYLOAD, MAX_PAYLOAD + 1, 2 * MAX_PAYLOAD, 10_000] {
            let mut stream = vec![0, 0, 0, 1, 0x65];
            stream.resize(4 + len, 7);
            let payloads = payloads(&stream.into());
            assert!(payloads.iter().all(|payload| payload.len() <= MAX_PAYLOAD));
            if payloads.len() > 1 {
                let flags = |mask| payloads.iter().filter(|payload| payload[1] & mask != 0).count();
                assert_eq!((flags(FU_START), flags(FU_END)), (1, 1), "{len}");
            }
        }
    }
}
