//! Reads what libFuzzer makes up, with the reader that the target is called after.

#![no_main]

#[path = "../readers.rs"]
mod readers;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let reader = readers::READERS.iter().find(|(name, _)| *name == env!("CARGO_BIN_NAME"));
    reader.expect("a target for each reader").1(bytes);
});
