//! CLIP's byte-pair tokenizer, from `tokenizer.json` or `vocab.json` and `merges.txt`.

use serde_json::{Value, json};

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

fn parse(files: &ModelFiles, name: &str, bytes: &[u8]) -> Result<tokenizers::Tokenizer, EngineError> {
    tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| EngineError::Checkpoint {
        path: files.path(name),
        message: format!("is not a tokenizer: {e}"),
    })
}

/// Builds CLIP's fast tokenizer from the slow one's files, as transformers converts them.
fn from_vocab(files: &ModelFiles) -> Result<tokenizers::Tokenizer, EngineError> {
    let vocab_name = "tokenizer/vocab.json";
    let vocab = json_object(files, vocab_name, &files.require(vocab_name)?)?;
    let bytes = files.require("tokenizer/merges.txt")?;
    let merges = std::str::from_utf8(&bytes).map_err(|e| EngineError::Checkpoint {
        path: files.path("tokenizer/merges.txt"),
        message: format!("is not text: {e}"),
    })?;
    let merges: Vec<&str> =
        merges.lines().filter(|l| !l.starts_with("#version") && !l.trim().is_empty()).collect();
    let special = |content: &str| {
        json!({"id": vocab[content], "content": content, "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": false, "special": true})
    };
    let marks: Vec<Value> = [BOS, EOS].iter().filter(|m| !vocab[**m].is_null()).map(|m| special(m)).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": marks,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "},
            {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]},
        "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": EOS, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "</w>", "fuse_unk": false, "byte_fallback": false,
                  "vocab": vocab, "merges": merges},
    });
    parse(files, vocab_name, tokenizer.to_string().as_bytes())
}

/// `tokenizer_config.json`, completed by `special_tokens_map.json`. Where the config is in the older
/// layout, without `added_tokens_decoder`, the map wins, as in transformers.
fn special_tokens(files: &ModelFiles) -> Result<Value, EngineError> {
    let read = |name: &str| -> Result<Value, EngineError> {
        files.open(name)?.map_or(Ok(json!({})), |bytes| json_object(files, name, &bytes))
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

fn json_object(files: &ModelFiles, name: &str, bytes: &[u8]) -> Result<Value, EngineError> {
    let error = |message| EngineError::Checkpoint { path: files.path(name), message };
    match serde_json::from_slice(bytes) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(error("is not a JSON object".into())),
        Err(e) => Err(error(format!("is not JSON: {e}"))),
    }
}

/// A token given as text or as `{"content": …}`.
fn token_name(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value["content"].as_str()).map(Into::into)
}

#[cfg(test)]
mod tests;
