//! Packets to access units: loss, disorder, repetition, wrapping, and rubbish.

use std::time::{Duration, Instant};

use super::*;
use crate::rtc::assemble::{Assembled, Assembler};
use crate::rtc::depacketise::MAX_UNIT;
use crate::rtc::packets;
use crate::rtc::reorder::Packet;

/// The packets of `units`, numbered from `first`.
fn packets_of(units: &[AccessUnit], first: u16) -> Vec<Packet> {
    let mut out: Vec<Packet> = Vec::new();
    for unit in units {
        for payload in packets::payloads(&unit.data) {
            let sequence = first.wrapping_add(out.len() as u16);
            out.push(Packet { sequence, time: unit.rtp_time, marker: false, payload });
        }
        out.last_mut().unwrap().marker = true;
    }
    out
}

fn stream(count: u32) -> Vec<AccessUnit> {
    (0..count).map(|n| unit(n, [2000, 30, 5000, 1][n as usize % 4], n % 10 == 0)).collect()
}

fn run(assembler: &mut Assembler, now: Instant, packets: impl IntoIterator<Item = Packet>) -> Vec<Assembled> {
    let mut out = Vec::new();
    for packet in packets {
        assembler.push(now, packet);
        out.extend(std::iter::from_fn(|| assembler.next(now)));
    }
    out
}

fn units_of(results: Vec<Assembled>) -> Vec<AccessUnit> {
    let unit = |result| match result {
        Assembled::Unit(unit) => unit,
        Assembled::Lost => panic!("nothing was lost"),
    };
    results.into_iter().map(unit).collect()
}

#[test]
fn order_and_repetition_do_not_matter_and_numbers_wrap() {
    let units = stream(40);
    let mut packets = packets_of(&units, 65_500);
    let twice: Vec<Packet> = packets.iter().step_by(3).cloned().collect();
    for ix in (1..packets.len() - 6).step_by(7) {
        packets.swap(ix, ix + 5);
    }
    for (ix, packet) in twice.into_iter().enumerate() {
        packets.insert((ix * 4 + 5).min(packets.len()), packet);
    }
    let results = run(&mut Assembler::default(), Instant::now(), packets);
    assert_eq!(units_of(results), units);
}

#[test]
fn after_a_loss_the_next_unit_is_a_key_frame() {
    let units = stream(40);
    let start = Instant::now();
    for lost in 1..packets_of(&units, 0).len() {
        let mut packets = packets_of(&units, 7);
        let time = packets.remove(lost.min(packets.len() - 1)).time;
        let mut assembler = Assembler::default();
        let mut results = run(&mut assembler, start, packets);
        let late = start + Duration::from_millis(61);
        results.extend(std::iter::from_fn(|| assembler.next(late)));
        let told = results.iter().filter(|result| **result == Assembled::Lost).count();
        let got: Vec<&AccessUnit> = results
            .iter()
            .filter_map(|r| if let Assembled::Unit(unit) = r { Some(unit) } else { None })
            .collect();
        let hit = units.iter().position(|unit| unit.rtp_time == time).unwrap();
        let next_key = if hit % 10 == 0 && hit > 0 { hit + 10 } else { hit.next_multiple_of(10).max(10) };
        let is_end = hit == 39 && told == 0;
        let expected: Vec<&AccessUnit> =
            units[..hit].iter().chain(units.get(next_key..).unwrap_or(&[])).collect();
        assert!(is_end || told == 1, "packet {lost}: loss told {told} times");
        assert_eq!(got.len(), expected.len(), "packet {lost} of unit {hit}");
        assert!(got == expected, "packet {lost}");
        assert_eq!(assembler.is_key_wanted(), next_key >= 40 && !is_end, "packet {lost}");
    }
}

#[test]
fn a_gap_is_waited_for_and_no_longer_than_the_window() {
    let units = stream(2);
    let mut packets = packets_of(&units, 0);
    let missing = packets.remove(3);
    let start = Instant::now();
    let mut assembler = Assembler::default();
    assert!(run(&mut assembler, start, packets.clone()).is_empty());
    let deadline = assembler.deadline().unwrap();
    assert_eq!(deadline - start, Duration::from_millis(60));
    assert_eq!(units_of(run(&mut assembler, start + Duration::from_millis(59), [missing.clone()])), units);
    let mut assembler = Assembler::default();
    run(&mut assembler, start, packets);
    assert_eq!(assembler.next(deadline), Some(Assembled::Lost));
    assert!(run(&mut assembler, deadline, [missing]).is_empty(), "what comes too late falls out");
}

#[test]
fn a_stray_number_is_left_out_and_a_new_beginning_taken_up() {
    let units = stream(20);
    let mut packets = packets_of(&units, 0);
    packets.insert(9, Packet { sequence: 30_000, ..packets[9].clone() });
    let mut assembler = Assembler::default();
    assert_eq!(units_of(run(&mut assembler, Instant::now(), packets)), units);
    let again = run(&mut assembler, Instant::now(), packets_of(&units, 40_000));
    assert_eq!(again[0], Assembled::Lost);
    assert_eq!(again.len(), 1 + 10, "the first packet is not believed, so the next key frame is the start");
}

fn single(payload: &[u8]) -> Option<Assembled> {
    let mut assembler = Assembler::default();
    let key = Packet { sequence: 0, time: 1, marker: true, payload: Bytes::from_static(&[0x65, 1]) };
    run(&mut assembler, Instant::now(), [key]);
    let packet = Packet { sequence: 1, time: 2, marker: true, payload: Bytes::copy_from_slice(payload) };
    run(&mut assembler, Instant::now(), [packet]).pop()
}

#[test]
fn rubbish_is_a_loss() {
    let rubbish: [&[u8]; 14] = [
        &[0x78, 0x00, 0x01, 0xaa, 0x00],
        &[0x78],
        &[0x78, 0],
        &[0x78, 0, 0],
        &[0x78, 0xff, 0xff, 0x65],
        &[0x78, 0, 2, 0x7c, 0x85],
        &[0x7c],
        &[0x7c, 0x85, 1],
        &[0x7c, 0x05, 1],
        &[0x7c, 0x45, 1],
        &[0x7c, 0xc5, 1],
        &[0x7d, 0x85, 1],
        &[0x60],
        &[0xe5, 1],
    ];
    for payload in rubbish {
        assert_eq!(single(payload), Some(Assembled::Lost), "{payload:02x?}");
    }
    let Some(Assembled::Unit(unit)) = single(&[0x78, 0, 2, 0x67, 9, 0, 1, 0x68]) else {
        panic!("an aggregate")
    };
    assert_eq!(unit.data[..], [0, 0, 0, 1, 0x67, 9, 0, 0, 0, 1, 0x68]);
    assert_eq!(single(&[]), None, "padding is no picture");
}

#[test]
fn a_fragment_without_end_is_cut_off() {
    let mut assembler = Assembler::default();
    let now = Instant::now();
    let mut told = Vec::new();
    for ix in 0..6000_u16 {
        let mut payload = vec![0x7c, if ix == 0 { 0x85 } else { 0x05 }];
        payload.resize(1400, 3);
        let packet = Packet { sequence: ix, time: 5, marker: false, payload: payload.into() };
        told.extend(run(&mut assembler, now, [packet]));
        assert!(assembler.bytes() <= 2 * MAX_UNIT, "{} bytes", assembler.bytes());
    }
    let end = Packet { sequence: 6000, time: 5, marker: true, payload: Bytes::from_static(&[0x7c, 0x45, 1]) };
    told.extend(run(&mut assembler, now, [end]));
    assert_eq!(told, [Assembled::Lost]);
}

#[test]
fn random_packets_do_no_harm() {
    let mut chance = Chance(0x5eed);
    let mut assembler = Assembler::default();
    let (mut now, mut sequence, mut time) = (Instant::now(), 0_u16, 0_u32);
    let headers = [0x65, 0x67, 0x41, 0x78, 0x7c, 0x7c, 0x7c, 0x18, 0x1c, 0x00, 0xff];
    for _ in 0..200_000 {
        sequence = match chance.below(40) {
            0 => chance.next() as u16,
            1 => sequence.wrapping_sub(chance.below(80) as u16),
            2 => sequence.wrapping_add(chance.below(80) as u16),
            _ => sequence.wrapping_add(1),
        };
        time = time.wrapping_add(if chance.happens(30) { 3000 } else { 0 });
        let mut payload: Vec<u8> = (0..chance.below(60)).map(|_| chance.next() as u8).collect();
        if let Some(first) = payload.first_mut() {
            *first = headers[chance.below(headers.len())];
        }
        if chance.happens(1) {
            payload.resize(60_000, 1);
        }
        now += Duration::from_micros(chance.next() % 3000);
        assembler.push(now, Packet { sequence, time, marker: chance.happens(20), payload: payload.into() });
        while let Some(result) = assembler.next(now) {
            if let Assembled::Unit(unit) = result {
                assert!(unit.data.len() <= MAX_UNIT);
            }
        }
        assert!(assembler.bytes() < 24 << 20, "{} bytes", assembler.bytes());
    }
}
