//! 200 000 damaged files: no panic, and no more memory than the file and a fixed bound.
//!
//! `corpus/` holds a folder of seeds for each reader, in the form that cargo-fuzz takes; files that once broke something
//! belong there. Every seed is read as it is, and then with seeded damage. `found/` holds what libFuzzer found new ways
//! through the readers with (`fuzz/`): these are read as they are.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test stops at the first surprise")]

mod damage;
mod memory;
mod readers;

use std::fs;
use std::path::Path;

use dreamglass_tests::Random;
use readers::{READERS, Reader};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// Damaged files of all readers together.
const CASES: usize = 200_000;
/// Memory beyond the file's size: JSON takes up to some fifty bytes for each of its own, messages the rest.
const BOUND_BYTES: usize = 4 << 20;

/// The files for `reader` in `folder`.
fn files(folder: &str, reader: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("hostile").join(folder).join(reader);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Reads `bytes` under a watch on the memory.
fn read(name: &str, reader: Reader, bytes: &[u8]) -> bool {
    memory::begin();
    let is_sound = reader(bytes);
    let most = memory::most_bytes();
    if most > bytes.len() + BOUND_BYTES {
        let path = std::env::temp_dir().join("dreamglass-hostile");
        fs::write(&path, bytes).unwrap();
        panic!("{name}: {most} bytes of memory for a file of {}, kept as {}", bytes.len(), path.display());
    }
    is_sound
}

#[test]
fn what_libfuzzer_found_is_read_in_bounded_memory() {
    for (name, reader) in READERS {
        let found = files("found", name);
        let refused = found.iter().filter(|bytes| !read(name, reader, bytes)).count();
        assert!(refused > found.len() / 2 && refused > 50, "{name}: {refused} of {} refused", found.len());
    }
}

#[test]
fn damaged_files_are_refused_in_bounded_memory() {
    for (ix, (name, reader)) in READERS.into_iter().enumerate() {
        let seeds = files("corpus", name);
        let sound = seeds.iter().filter(|seed| read(name, reader, seed)).count();
        assert!(sound > 0, "no seed of {name} is sound: what is damaged was broken before");
        let mut random = Random::new(ix as u64);
        let (mut refused, cases) = (0, CASES / READERS.len());
        for case in 0..cases {
            let bytes = if ["safetensors", "single"].contains(&name) && case % 2 == 0 {
                damage::with_damaged_header(&seeds, &mut random)
            } else {
                damage::damaged(&seeds, &mut random)
            };
            refused += usize::from(!read(name, reader, &bytes));
        }
        eprintln!("{name}: {refused} of {cases} refused");
        assert!(refused > cases / 10, "{name}: hardly anything was damaged");
        assert!(refused < cases, "{name}: everything was broken beyond reading");
    }
}
