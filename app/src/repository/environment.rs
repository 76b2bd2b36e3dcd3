//! What the environment says about the hub, by the names that huggingface_hub has for it.

use std::env;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use etcetera::{BaseStrategy, choose_base_strategy};
use ureq::http::Uri;

use crate::failure::bad_input;

/// The hub where none is named.
const HUB: &str = "https://huggingface.co";
/// How long a connection may be silent. huggingface_hub waits 10 s, which slow links exceed.
const PATIENCE_S: u64 = 30;
/// Longest token that is read from a file.
const MAX_TOKEN: u64 = 4096;

/// Where the hub and the cache are.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The hub, without a slash at its end.
    pub endpoint: Uri,
    /// The folder of `models--owner--name`.
    pub cache: PathBuf,
    /// Who asks; is shown to the hub alone.
    pub token: Option<Token>,
    /// Whether nothing may be fetched.
    pub is_offline: bool,
    /// How long a connection may be silent.
    pub patience: Duration,
}

/// A secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The value of an `Authorization` header.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Environment {
    /// What the environment says, else the user's own folders and huggingface.co.
    ///
    /// # Errors
    /// Where a variable cannot be what it says.
    pub fn read() -> Result<Self> {
        let home = home()?;
        let cache = ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"].into_iter().find_map(said);
        let cache = cache.map_or_else(|| home.join("hub"), PathBuf::from);
        Ok(Self {
            endpoint: endpoint(said("HF_ENDPOINT").as_deref().unwrap_or(HUB))?,
            // Links in the cache are relative, but the program may be asked for paths.
            cache: std::path::absolute(&cache).with_context(|| cache.display().to_string())?,
            token: token(&home)?,
            is_offline: said("HF_HUB_OFFLINE").is_some_and(|word| is_yes(&word)),
            patience: patience()?,
        })
    }
}

/// A variable that is set and not empty.
fn said(name: &str) -> Option<String> {
    env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

fn is_yes(word: &str) -> bool {
    ["1", "on", "yes", "true"].contains(&word.to_lowercase().as_str())
}

fn home() -> Result<PathBuf> {
    if let Some(home) = said("HF_HOME") {
        return Ok(home.into());
    }
    // huggingface_hub's place is the same on all systems.
    let cache = match said("XDG_CACHE_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => {
            choose_base_strategy().context("there is no home folder: say HF_HOME")?.home_dir().join(".cache")
        }
    };
    Ok(cache.join("huggingface"))
}

fn endpoint(text: &str) -> Result<Uri> {
    let wrong = || bad_input(format!("HF_ENDPOINT is {text}, expected http(s)://HOST[:PORT] such as {HUB}"));
    let uri: Uri = text.trim_end_matches('/').parse().map_err(|_| wrong())?;
    let has_place = uri.host().is_some_and(|host| !host.is_empty()) && uri.query().is_none();
    match matches!(uri.scheme_str(), Some("http" | "https")) && has_place {
        true => Ok(uri),
        false => Err(wrong()),
    }
}

fn patience() -> Result<Duration> {
    let Some(text) = said("HF_HUB_DOWNLOAD_TIMEOUT") else { return Ok(Duration::from_secs(PATIENCE_S)) };
    let seconds = text.parse().ok().filter(|s| (1..=3600).contains(s));
    let wrong = || bad_input(format!("HF_HUB_DOWNLOAD_TIMEOUT is {text}, expected seconds from 1 to 3600"));
    Ok(Duration::from_secs(seconds.ok_or_else(wrong)?))
}

/// The token of the environment, or that of `huggingface-cli login`.
fn token(home: &std::path::Path) -> Result<Option<Token>> {
    let (source, text) = match ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].into_iter().find_map(said) {
        Some(token) => ("HF_TOKEN".to_owned(), token),
        None => {
            let path = said("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
            let is_small = fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_TOKEN);
            let text = fs::read_to_string(&path).ok().filter(|_| is_small).unwrap_or_default();
            (path.display().to_string(), text.trim().to_owned())
        }
    };
    let is_printable = text.bytes().all(|b| b.is_ascii_graphic());
    match is_printable {
        true => Ok(Some(Token(text)).filter(|token| !token.0.is_empty())),
        false => Err(bad_input(format!("{source}: expected a token such as hf_… on one line"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn endpoints_are_checked_and_tokens_are_not_shown() {
        assert_eq!(endpoint("http://127.0.0.1:80/").unwrap().authority().unwrap(), "127.0.0.1:80");
        for text in ["huggingface.co", "ftp://a", "http://", "a b", "https://a/?x=1"] {
            assert!(endpoint(text).is_err(), "{text}");
        }
        assert_eq!(format!("{:?}", Token("hf_secret".into())), "Token(…)");
        assert!(is_yes("TRUE") && is_yes("1") && !is_yes("0"));
    }
}
