//! CLIP's byte-pair tokenizer, from `tokenizer.json` or `vocab.json` and `merges.txt`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Display;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper};

use crate::error::EngineError;
use crate::weights::ModelFiles;

/// Longest prompt that is tokenized, in bytes: far past 77 tokens, and bounded work.
pub const MAX_PROMPT_BYTES: usize = 64 << 10;

/// CLIP's rule for splitting a prompt into words (openai/CLIP `simple_tokenizer.py`).
const SPLIT: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

const BOS: &str = "<|startoftext|>";
const EOS: &str = "<|endoftext|>";

/// A tokenized prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Ids, begin and end marks included, padded to the model's length.
    pub ids: Vec<u32>,
    /// Tokens of the prompt that did not fit and were cut off.
    pub cut: usize,
}

/// Turns prompts into token ids.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    bos: u32,
    eos: u32,
    pad: u32,
    length: usize,
}

impl Tokenizer {
    /// Opens `tokenizer/` of a model. Prompts are padded to `max_tokens`, or to the tokenizer's
    /// own `model_max_length` when that is shorter. `vocab_size` bounds the ids.
    ///
    /// # Errors
    /// [`EngineError::Checkpoint`] when files are missing or damaged, [`EngineError::Config`],
    /// [`EngineError::Io`].
    pub fn open(files: &ModelFiles, max_tokens: u32, vocab_size: u32) -> Result<Self, EngineError> {
        let mut inner = match files.open("tokenizer/tokenizer.json")? {
            Some(bytes) => parse(files, "tokenizer/tokenizer.json", &bytes)?,
            None => from_vocab(files)?,
        };
        let error = |message: String| EngineError::Checkpoint { path: files.path("tokenizer"), message };
        inner.with_truncation(None).map_err(|e| error(e.to_string()))?;
        inner.with_padding(None);
        let settings = special_tokens(files)?;
        let id = |token: &str| {
            inner.token_to_id(token).ok_or_else(|| error(format!("the vocabulary has no token `{token}`")))
        };
        let name = |field: &str, default: &str| token_name(&settings[field]).unwrap_or(default.to_string());
        let eos_name = name("eos_token", EOS);
        let (bos, eos) = (id(&name("bos_token", BOS))?, id(&eos_name)?);
        let pad = id(&name("pad_token", &eos_name))?;
        let largest = inner.get_vocab(true).into_values().max().unwrap_or(0);
        if largest >= vocab_size {
            let message = format!("has the id {largest}, but the text encoder knows {vocab_size} tokens");
            return Err(error(message));
        }
        // Tokenizers without a limit say 1e30.
        let own = settings["model_max_length"].as_u64().filter(|&n| n >= 3).unwrap_or(u64::MAX);
        let length = own.min(u64::from(max_tokens)) as usize;
        Ok(Self { inner, bos, eos, pad, length })
    }
    /// Tokens in every tokenized prompt.
    pub fn length(&self) -> usize {
        self.length
    }
    /// Tokenizes `prompt`: begin mark, tokens, end mark, padding. An empty prompt is fine; tokens
    /// past the model's length are cut off and counted.
    ///
    /// # Errors
    /// [`EngineError::Prompt`] when it is longer than 64 KiB or cannot be tokenized.
    pub fn encode(&self, prompt: &str) -> Result<Tokens, EngineError> {
        if prompt.len() > MAX_PROMPT_BYTES {
            let message = format!("has {} bytes, at most {MAX_PROMPT_BYTES} are read", prompt.len());
            return Err(EngineError::Prompt { message });
        }
        let encoding = self
            .inner
            .encode_fast(prompt, false)
            .map_err(|e| EngineError::Prompt { message: format!("cannot be tokenized: {e}") })?;
        let words = encoding.get_ids();
        let kept = words.len().min(self.length - 2);
        let mut ids = vec![self.bos];
        ids.extend(&words[..kept]);
        ids.push(self.eos);
        ids.resize(self.length, self.pad);
        Ok(Tokens { ids, cut: words.len() - kept })
    }
}

/// A whole tokenizer in the layout of `tokenizers`.
fn parse(files: &ModelFiles, name: &str, bytes: &[u8]) -> Result<tokenizers::Tokenizer, EngineError> {
    let error = |e: &dyn Display| not_a_tokenizer(files, name, e);
    // What does not look like this has no merges, or is refused below.
    if let Ok(Whole { model: Model { vocab, merges } }) = serde_json::from_slice(bytes) {
        let merges = merges.iter().map(|merge| match merge {
            Merge::Pair(a, b) => (&**a, &**b),
            Merge::Line(line) => line.split_once(' ').unwrap_or((line, "")),
        });
        check_merges(vocab.keys().map(|token| token.len()), merges).map_err(|e| error(&e))?;
    }
    tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| error(&e))
}

/// What of a tokenizer is looked at before `tokenizers` does.
#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(borrow)]
    model: Model<'a>,
}

#[derive(Deserialize)]
struct Model<'a> {
    #[serde(borrow, default)]
    vocab: HashMap<Cow<'a, str>, IgnoredAny>,
    #[serde(borrow, default)]
    merges: Vec<Merge<'a>>,
}

/// Two tokens that are merged, in the older and the newer layout.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge<'a> {
    Line(#[serde(borrow)] Cow<'a, str>),
    Pair(#[serde(borrow)] Cow<'a, str>, #[serde(borrow)] Cow<'a, str>),
}

/// Refuses merges to something longer than any token, on which `tokenizers` would panic.
fn check_merges<'a>(
    lengths: impl Iterator<Item = usize>,
    mut merges: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<(), String> {
    let longest = lengths.max().unwrap_or(0);
    match merges.find(|(a, b)| a.len() + b.len() > longest) {
        Some((a, b)) => Err(format!("`{a}` and `{b}` are merged to what is no token")),
        None => Ok(()),
    }
}

fn not_a_tokenizer(files: &ModelFiles, name: &str, error: &dyn Display) -> EngineError {
    EngineError::Checkpoint { path: files.path(name), message: format!("is not a tokenizer: {error}") }
}

/// Builds CLIP's fast tokenizer from the slow one's files, as transformers converts them.
fn from_vocab(files: &ModelFiles) -> Result<tokenizers::Tokenizer, EngineError> {
    let name = "tokenizer/vocab.json";
    let error = |e: &dyn Display| not_a_tokenizer(files, name, e);
    let vocab: HashMap<String, u32> = object(files, name, &files.require(name)?)?;
    let merges = merges(files, &vocab)?;
    let marks: Vec<AddedToken> = [BOS, EOS]
        .into_iter()
        .filter(|mark| vocab.contains_key(*mark))
        .map(|mark| AddedToken::from(mark, true).normalized(false))
        .collect();
    let model = BPE::builder()
        .vocab_and_merges(vocab.into_iter().collect::<Vocab>(), merges)
        .unk_token(EOS.into())
        .continuing_subword_prefix(String::new())
        .end_of_word_suffix("</w>".into())
        .build()
        .map_err(|e| error(&e))?;
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    let normalizer: NormalizerWrapper = serde_json::from_value(json!({"type": "Sequence", "normalizers": [
        {"type": "NFC"},
        {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "},
        {"type": "Lowercase"}]}))
    .map_err(|e| error(&e))?;
    let words: PreTokenizerWrapper = serde_json::from_value(json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Removed", "invert": true},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]}))
    .map_err(|e| error(&e))?;
    tokenizer.with_normalizer(Some(normalizer)).map_err(|e| error(&e))?;
    tokenizer.with_pre_tokenizer(Some(words));
    tokenizer.add_special_tokens(marks).map_err(|e| error(&e))?;
    Ok(tokenizer)
}

/// The pairs of `merges.txt`, in order.
fn merges(files: &ModelFiles, vocab: &HashMap<String, u32>) -> Result<Vec<(String, String)>, EngineError> {
    let name = "tokenizer/merges.txt";
    let error = |message| EngineError::Checkpoint { path: files.path(name), message };
    let bytes = files.require(name)?;
    let text = std::str::from_utf8(&bytes).map_err(|e| error(format!("is not text: {e}")))?;
    let lines = text.lines().filter(|l| !l.starts_with("#version") && !l.trim().is_empty());
    let pairs: Vec<(&str, &str)> = lines
        .map(|line| {
            let pair = line.split_once(' ').filter(|(_, b)| !b.contains(' '));
            pair.ok_or_else(|| error(format!("has the line `{line}`: expected two tokens")))
        })
        .collect::<Result<_, _>>()?;
    check_merges(vocab.keys().map(String::len), pairs.iter().copied()).map_err(error)?;
    Ok(pairs.into_iter().map(|(a, b)| (a.into(), b.into())).collect())
}

/// `tokenizer_config.json`, completed by `special_tokens_map.json`. Where the config is in the older
/// layout, without `added_tokens_decoder`, the map wins, as in transformers.
fn special_tokens(files: &ModelFiles) -> Result<Value, EngineError> {
    let read = |name: &str| -> Result<Value, EngineError> {
        files.open(name)?.map_or(Ok(json!({})), |bytes| object(files, name, &bytes))
    };
    let mut config = read("tokenizer/tokenizer_config.json")?;
    let map = read("tokenizer/special_tokens_map.json")?;
    let older = config["added_tokens_decoder"].is_null();
    for field in ["bos_token", "eos_token", "pad_token"] {
        if !map[field].is_null() && (older || config[field].is_null()) {
            config[field] = map[field].clone();
        }
    }
    Ok(config)
}

/// A JSON object of values of one kind.
fn object<T: DeserializeOwned>(files: &ModelFiles, name: &str, bytes: &[u8]) -> Result<T, EngineError> {
    let error = |message| EngineError::Checkpoint { path: files.path(name), message };
    if bytes.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return Err(error("is not a JSON object".into()));
    }
    serde_json::from_slice(bytes).map_err(|e| error(format!("is not JSON of the expected kind: {e}")))
}

/// A token given as text or as `{"content": …}`.
fn token_name(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value["content"].as_str()).map(Into::into)
}

#[cfg(test)]
mod tests;
