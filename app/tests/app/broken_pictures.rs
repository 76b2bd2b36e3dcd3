//! Pictures, prompts and settings that cannot be used: exit code 2 and what would do.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::program::{PHOTO, WHOLE, dreamglass, failed, image, image_of, model};

/// A PNG that claims a size and has next to no pixels.
fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    bytes.extend(width.to_be_bytes());
    bytes.extend(height.to_be_bytes());
    bytes.extend([8, 2, 0, 0, 0]);
    bytes.extend(crc(&bytes[12..]).to_be_bytes());
    for chunk in [*b"IDAT", *b"IEND"] {
        bytes.extend([0; 4]);
        bytes.extend(chunk);
        bytes.extend(crc(&chunk).to_be_bytes());
    }
    bytes
}

/// PNG's checksum, bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| if c & 1 == 1 { 0xEDB8_8320 ^ (c >> 1) } else { c >> 1 })
    })
}

#[test]
fn pictures_that_are_none() {
    let folder = model(WHOLE);
    let files = TempDir::new().unwrap();
    let whole = files.path().join("whole.png");
    image::open(PHOTO).unwrap().save(&whole).unwrap();
    let mut cut = fs::read(whole).unwrap();
    cut.truncate(cut.len() / 2);
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("text.png", b"not a picture".to_vec(), "not a picture"),
        ("empty.jpg", Vec::new(), "not a picture"),
        ("cut.png", cut, "damaged"),
        ("zero.png", png(0, 5), "zero.png"),
        ("wide.png", png(30_000, 2), "30000x2"),
        ("huge.png", png(30_000, 30_000), "30000x30000"),
    ];
    for (name, bytes, word) in cases {
        let path = files.path().join(name);
        fs::write(&path, bytes).unwrap();
        failed(&image_of(&path, folder.path(), &[]), 2, &[name, word]);
    }
    failed(&image_of(&files.path().join("gone.png"), folder.path(), &[]), 2, &["gone.png"]);
    failed(&image_of(files.path(), folder.path(), &[]), 2, &[]);
}

#[test]
fn sizes_and_numbers() {
    let folder = model(WHOLE);
    let case = |more: &[&str], words: &[&str]| failed(&image(folder.path(), more), 2, words);
    case(&["--size", "100x96"], &["100x96", "multiples of 8"]);
    case(&["--size", "0x64"], &["0x64"]);
    case(&["--size", "64"], &["WIDTHxHEIGHT"]);
    case(&["--size", "4294967295x64"], &["8192"]);
    case(&["--steps", "0"], &["steps"]);
    case(&["--strength", "NaN"], &["strength"]);
    case(&["--strength", "-0.5"], &["strength", "-0.5"]);
    case(&["--strength", "1.5"], &["strength", "1.5"]);
    case(&["--guidance", "1e9"], &["guidance"]);
    case(&["--look", "neon", "--prompt", "x"], &["--look", "--prompt"]);
}

#[test]
fn prompts() {
    let folder = model(WHOLE);
    let case = |prompt: &str, words: &[&str]| failed(&image(folder.path(), &["--prompt", prompt]), 2, words);
    case("", &["prompt is empty"]);
    case(" \n", &["prompt is empty"]);
    let files = TempDir::new().unwrap();
    let at = |name: &str, bytes: &[u8]| {
        let path = files.path().join(name);
        fs::write(&path, bytes).unwrap();
        format!("@{}", path.display())
    };
    case(&at("long.txt", &vec![b'a'; 10 << 20]), &["long.txt", "65536"]);
    case(&at("bytes.txt", &[0xff, 0xfe]), &["bytes.txt", "UTF-8"]);
    case("@/nonexistent", &["/nonexistent"]);
    // The longest argument that Linux passes on, twice what is read.
    case(&"word ".repeat(25_000), &["prompt", "125000"]);
    assert!(image(folder.path(), &["--prompt", &at("good.txt", b"an oil painting")]).status.success());
}

#[test]
fn outputs_are_checked_first_and_never_lost() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let run = |out: &Path| dreamglass().args(["image", PHOTO, "-o"]).arg(out).output().unwrap();
    failed(&run(&at("out.xyz")), 2, &["out.xyz", "png"]);
    failed(&run(&at("out")), 2, &["extension"]);
    failed(&run(&at("gone/out.png")), 2, &["gone"]);
    fs::write(at("kept.png"), "as it was").unwrap();
    let output =
        dreamglass().args(["image", PHOTO, "--model", "/nonexistent", "-o"]).arg(at("kept.png")).output();
    failed(&output.unwrap(), 2, &["/nonexistent"]);
    assert_eq!(fs::read(at("kept.png")).unwrap(), b"as it was");
}
