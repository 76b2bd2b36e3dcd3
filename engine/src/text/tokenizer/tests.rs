//! The tokenizer on a small vocabulary in CLIP's layout.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;

const VOCAB: &[u8] = br#"{"!":0,"a":1,"b":2,"a</w>":3,"b</w>":4,"ab</w>":5,",</w>":6,"c":7,"c</w>":8,
"\u00c3":9,"\u00a9</w>":10,"'s</w>":11,"'":12,"s</w>":13,"1</w>":14,
"<|startoftext|>":15,"<|endoftext|>":16}"#;
const MERGES: &[u8] = b"#version: 0.2\na b</w>\n' s</w>\n";

const FILES: &[(&str, &[u8])] = &[("tokenizer/vocab.json", VOCAB), ("tokenizer/merges.txt", MERGES)];

fn tokenizer() -> Tokenizer {
    Tokenizer::open(&ModelFiles::Embedded(FILES), 8, 17).unwrap()
}

fn ids(prompt: &str) -> Vec<u32> {
    tokenizer().encode(prompt).unwrap().ids
}

#[test]
fn words_are_marked_merged_and_padded() {
    assert_eq!(ids("ab"), [15, 5, 16, 16, 16, 16, 16, 16]);
    assert_eq!(ids("  AB\n\t b, "), [15, 5, 4, 6, 16, 16, 16, 16]);
    assert_eq!(ids("ab's 11"), [15, 5, 11, 14, 14, 16, 16, 16]);
    assert_eq!(ids("c\u{e9}"), [15, 7, 9, 10, 16, 16, 16, 16]);
    assert_eq!(ids("e\u{301}"), [15, 9, 10, 16, 16, 16, 16, 16], "é is composed first");
}

#[test]
fn an_empty_prompt_is_only_marks() {
    assert_eq!(ids(""), [15, 16, 16, 16, 16, 16, 16, 16]);
    assert_eq!(ids("   "), ids(""));
}

#[test]
fn what_does_not_fit_is_counted() {
    let tokens = tokenizer().encode("a a a a a a a a").unwrap();
    assert_eq!(tokens.ids, [15, 3, 3, 3, 3, 3, 3, 16]);
    assert_eq!(tokens.cut, 2);
}

#[test]
fn a_prompt_of_ten_megabytes_is_refused_at_once() {
    let started = std::time::Instant::now();
    let error = tokenizer().encode(&"a".repeat(10 << 20)).unwrap_err().to_string();
    assert!(error.contains("10485760 bytes"), "{error}");
    assert!(started.elapsed().as_secs() < 5);
}

#[test]
fn the_longest_prompt_is_read_in_reasonable_time() {
    let started = std::time::Instant::now();
    let tokens = tokenizer().encode(&"ab".repeat(MAX_PROMPT_BYTES / 2)).unwrap();
    assert_eq!(tokens.ids.len(), 8);
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
}

#[test]
fn the_padding_token_comes_from_the_settings() {
    const MAP: (&str, &[u8]) = ("tokenizer/special_tokens_map.json", br#"{"pad_token": {"content": "!"}}"#);
    const OLD: (&str, &[u8]) =
        ("tokenizer/tokenizer_config.json", br#"{"pad_token": "<|endoftext|>", "model_max_length": 4}"#);
    const NEW: (&str, &[u8]) = (
        "tokenizer/tokenizer_config.json",
        br#"{"pad_token": "<|endoftext|>", "added_tokens_decoder": {}, "model_max_length": 1e30}"#,
    );
    static WITH_OLD: [(&str, &[u8]); 4] = [FILES[0], FILES[1], MAP, OLD];
    static WITH_NEW: [(&str, &[u8]); 4] = [FILES[0], FILES[1], MAP, NEW];
    let open = |files: &'static [(&'static str, &'static [u8])]| {
        Tokenizer::open(&ModelFiles::Embedded(files), 5, 17).unwrap().encode("a").unwrap().ids
    };
    assert_eq!(open(&WITH_OLD), [15, 3, 16, 0]);
    assert_eq!(open(&WITH_NEW), [15, 3, 16, 16, 16]);
}

#[test]
fn broken_files_are_named() {
    let error = |files: &'static [(&'static str, &'static [u8])]| {
        Tokenizer::open(&ModelFiles::Embedded(files), 8, 17).unwrap_err().to_string()
    };
    assert!(error(&[]).contains("tokenizer/vocab.json"));
    assert!(error(&[("tokenizer/tokenizer.json", b"{}")]).contains("tokenizer/tokenizer.json"));
    assert!(
        error(&[("tokenizer/vocab.json", b"[]"), ("tokenizer/merges.txt", MERGES)])
            .contains("not a JSON object")
    );
    assert!(
        error(&[("tokenizer/vocab.json", br#"{"a":0}"#), ("tokenizer/merges.txt", b"")]).contains("text|>")
    );
    let merges = |merges: &'static [u8]| {
        let files: &'static [(&str, &[u8])] = vec![FILES[0], ("tokenizer/merges.txt", merges)].leak();
        error(files)
    };
    assert!(merges(b"a b</w> c\n").contains("`a b</w> c`"));
    assert!(merges(b"ab\n").contains("`ab`"));
    assert!(merges(b"a c\n").contains("not a tokenizer"));
    assert!(merges(b"<|startoftext|> a\n").contains("`<|startoftext|>` and `a`"));
    for merge in [r#""abcd a""#, r#"["abcd","a"]"#] {
        let whole = format!(
            r#"{{"version":"1.0","added_tokens":[],"normalizer":null,"pre_tokenizer":null,"post_processor":null,
                "decoder":null,"model":{{"type":"BPE","vocab":{{"abcd":0,"a":1}},"merges":[{merge}]}}}}"#
        );
        let files: &'static [(&str, &[u8])] =
            vec![("tokenizer/tokenizer.json", &*whole.into_bytes().leak())].leak();
        assert!(error(files).contains("`abcd` and `a`"), "{}", error(files));
    }
    let small = Tokenizer::open(&ModelFiles::Embedded(FILES), 8, 16).unwrap_err().to_string();
    assert!(small.contains("id 16"), "{small}");
}
