//! The vocabulary that all CLIP text encoders of Stable Diffusion were trained with: files of one piece have none.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// Merges of byte pairs, the most frequent first (`engine/assets/README.md`).
pub(super) const MERGES: &str = include_str!("../../../assets/clip_merges.txt");
/// Names of the files in diffusers' layout.
pub(super) const MERGES_FILE: &str = "tokenizer/merges.txt";
pub(super) const VOCABULARY_FILE: &str = "tokenizer/vocab.json";
/// The mark at a text's end, which fills it up in SD 1.x.
pub(super) const END: &str = "<|endoftext|>";
const BEGIN: &str = "<|startoftext|>";

/// The `vocab.json` that follows from the merges: bytes as characters, the same at a word's end, merged pairs in order,
/// and two marks.
pub(super) fn vocabulary() -> Value {
    let bytes = characters();
    let mut tokens: Vec<String> = bytes.iter().map(char::to_string).collect();
    tokens.extend(bytes.iter().map(|c| format!("{c}</w>")));
    let merges = MERGES.lines().skip(1).filter_map(|line| line.split_once(' '));
    tokens.extend(merges.map(|(first, second)| format!("{first}{second}")));
    tokens.extend([BEGIN, END].map(String::from));
    Value::Object(tokens.into_iter().zip((0u32..).map(Value::from)).collect::<Map<_, _>>())
}

/// A visible character for each byte, in the order of the vocabulary: those that are visible stand for themselves, the
/// others for those past U+00FF (GPT-2's `bytes_to_unicode`).
fn characters() -> Vec<char> {
    let visible: Vec<u32> = (0x21..=0x7e).chain(0xa1..=0xac).chain(0xae..=0xff).collect();
    let known: HashMap<u32, ()> = visible.iter().map(|&byte| (byte, ())).collect();
    let hidden = (0..0x100).filter(|byte| !known.contains_key(byte)).zip(0x100..).map(|(_, code)| code);
    visible.iter().copied().chain(hidden).filter_map(char::from_u32).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn ids_are_those_of_the_published_vocabulary() {
        let vocabulary = vocabulary();
        assert_eq!(vocabulary.as_object().unwrap().len(), 49_408);
        // From openai/clip-vit-large-patch14, vocab.json.
        for (token, id) in [
            ("!", 0),
            ("a</w>", 320),
            ("cat</w>", 2368),
            ("photo</w>", 1125),
            ("of</w>", 539),
            ("<|startoftext|>", 49_406),
            ("<|endoftext|>", 49_407),
        ] {
            assert_eq!(vocabulary[token], id, "{token}");
        }
    }
}
