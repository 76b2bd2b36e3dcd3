//! Seeded damage to files.

use dreamglass_tests::Random;

/// What numbers and values are replaced by.
const VALUES: [&str; 22] = [
    "0",
    "-1",
    "1",
    "2",
    "3",
    "4",
    "65536",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "1e-308",
    "0.5",
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "[[[[[[[[",
    "\"F64\"",
];
/// Lengths of headers.
const LENGTHS: [u64; 9] = [0, 1, 7, 8, 100, 100_000_000, 1 << 32, i64::MAX as u64, u64::MAX];
/// Most changes to one file: most of them leave something to read.
const CHANGES: usize = 3;
/// Longest run that is removed or repeated.
const RUN: usize = 64;

/// One of `seeds` with one to three changes.
pub fn damaged(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = seeds[below(random, seeds.len())].clone();
    for _ in 0..=below(random, CHANGES) {
        change(&mut bytes, seeds, random);
    }
    bytes
}

/// One of `seeds`, which are safetensors files, with such changes within its header, whose length is right again: what
/// is behind it is read, too.
pub fn with_damaged_header(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let seed = &seeds[below(random, seeds.len())];
    let end = 8 + u64::from_le_bytes(seed[..8].try_into().unwrap()) as usize;
    let header = damaged(&[seed[8..end].to_vec()], random);
    [&(header.len() as u64).to_le_bytes()[..], &header, &seed[end..]].concat()
}

/// Uniform in 0..n; 0 where there is nothing.
fn below(random: &mut Random, n: usize) -> usize {
    (((random.uniform() + 1.0) / 2.0 * n as f32) as usize).min(n.saturating_sub(1))
}

fn run(random: &mut Random, length: usize) -> std::ops::Range<usize> {
    let start = below(random, length);
    start..(start + 1 + below(random, RUN)).min(length)
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = below(random, bytes.len());
    match below(random, 20) {
        0..=2 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << below(random, 8)),
        3 => bytes.insert(at, below(random, 256) as u8),
        4 => bytes.truncate(at),
        5 => drop(bytes.drain(run(random, bytes.len()))),
        6 => {
            let repeated = bytes[run(random, bytes.len())].to_vec();
            bytes.splice(at..at, repeated);
        }
        7 => {
            let other = &seeds[below(random, seeds.len())];
            let taken = other[run(random, other.len())].to_vec();
            bytes.splice(at..at, taken);
        }
        8 if bytes.len() >= 8 => {
            bytes[..8].copy_from_slice(&LENGTHS[below(random, LENGTHS.len())].to_le_bytes());
        }
        _ => replace_a_value(bytes, at, random),
    }
}

/// Replaces the next value behind `at`: what follows a colon, a comma in a list or its bracket.
fn replace_a_value(bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
    let mark = if below(random, 4) == 0 { &b",["[..] } else { b":" };
    let Some(before) = bytes[at..].iter().position(|byte| mark.contains(byte)) else { return };
    let start = at + before + 1;
    let is_end = |byte: &u8| b",]}".contains(byte);
    let end = bytes[start..].iter().position(is_end).map_or(bytes.len(), |len| start + len);
    bytes.splice(start..end, VALUES[below(random, VALUES.len())].bytes());
}
