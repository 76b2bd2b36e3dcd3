//! Names of models on the hub: `OWNER/NAME[/FILE.safetensors][@REVISION]`, or a short name.

use std::fmt;
use std::str::FromStr;

use super::catalogue::{self, SHORT_NAMES, ShortName};

/// Longest part of a repository's name that the hub accepts.
const MAX_PART: usize = 96;
/// Longest revision and path that are accepted.
const MAX_TEXT: usize = 512;
/// The branch that is meant where none is said.
pub const MAIN: &str = "main";

/// A repository, and where said a revision and one file of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// `OWNER/NAME`.
    pub repository: String,
    /// A branch, a tag or a commit.
    pub revision: Option<String>,
    /// One file, relative with `/`.
    pub file: Option<String>,
    /// The short name that it was called by.
    pub short: Option<&'static ShortName>,
}

impl Name {
    /// The revision that is meant.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(MAIN)
    }
    /// What is known of it beside what the hub says.
    pub fn known(&self) -> Option<&'static ShortName> {
        self.short.or_else(|| SHORT_NAMES.iter().find(|short| short.repository == self.repository))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        self.file.iter().try_for_each(|file| write!(f, "/{file}"))?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))
    }
}

impl FromStr for Name {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (path, revision) = match text.split_once('@') {
            Some((path, revision)) => (path, Some(revision)),
            None => (text, None),
        };
        if let Some(revision) = revision {
            check_revision(revision)?;
        }
        let revision = revision.map(String::from);
        if let Some(short) = catalogue::short(path) {
            return Ok(Self { revision, short: Some(short), ..short.name() });
        }
        let parts: Vec<&str> = path.splitn(3, '/').collect();
        let [owner, name, file @ ..] = &parts[..] else {
            let names: Vec<&str> = SHORT_NAMES.iter().map(|short| short.short).collect();
            return Err(format!(
                "`{text}`: expected OWNER/NAME, OWNER/NAME/FILE.safetensors or one of {}",
                names.join(", ")
            ));
        };
        [owner, name].into_iter().try_for_each(|part| check_part(part))?;
        let file = file.first().map(|file| file.to_string());
        if let Some(file) = &file {
            check_path(file)?;
            if !file.ends_with(".safetensors") {
                return Err(format!("file `{file}`: expected a .safetensors file"));
            }
        }
        Ok(Self { repository: format!("{owner}/{name}"), revision, file, short: None })
    }
}

/// Refuses what the hub would: the name is part of a folder's.
fn check_part(part: &str) -> Result<(), String> {
    let is_known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_fine = (1..=MAX_PART).contains(&part.len())
        && part.chars().all(is_known)
        && !part.starts_with(['.', '-'])
        && !part.ends_with(['.', '-'])
        && !part.contains("--")
        && !part.contains("..");
    match is_fine {
        true => Ok(()),
        false => Err(format!(
            "`{part}`: expected a part of a repository's name: letters, digits, `.`, `_` and `-`, none of the last three \
             at an end or twice"
        )),
    }
}

/// Refuses revisions that are no names of branches, tags or commits.
pub fn check_revision(revision: &str) -> Result<(), String> {
    let is_known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(is_known);
    let is_fine = revision.len() <= MAX_TEXT && revision.split('/').all(is_part) && !revision.contains("..");
    match is_fine {
        true => Ok(()),
        false => Err(format!("revision `{revision}`: expected a branch, a tag or a commit")),
    }
}

/// Refuses paths that lead out of their folder or that some system reads in another way.
pub fn check_path(path: &str) -> Result<(), String> {
    let is_odd = |c: char| c.is_control() || matches!(c, '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|');
    let is_part = |part: &str| {
        !part.is_empty() && part.len() < 256 && !part.ends_with([' ', '.']) && !part.starts_with([' ', '~'])
    };
    let is_fine = path.len() <= MAX_TEXT && path.split('/').all(is_part) && !path.contains(is_odd);
    match is_fine {
        true => Ok(()),
        false => {
            Err(format!("path {path:?}: expected the relative path of a file, with `/` and without `..`"))
        }
    }
}

/// Whether `text` is `length` lower-case hexadecimal digits: a commit has 40, a SHA-256 64.
pub fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn names_are_read() {
        let name: Name = "stabilityai/sd-turbo@refs/pr/3".parse().unwrap();
        assert_eq!((name.repository.as_str(), name.revision()), ("stabilityai/sd-turbo", "refs/pr/3"));
        let name: Name = "a/b/some folder/x.safetensors@v1.0".parse().unwrap();
        assert_eq!(name.file.as_deref(), Some("some folder/x.safetensors"));
        assert_eq!(name.to_string(), "a/b/some folder/x.safetensors@v1.0");
        let name: Name = "SD-Turbo".parse().unwrap();
        assert_eq!((name.repository.as_str(), name.revision()), ("stabilityai/sd-turbo", MAIN));
        assert!(name.known().is_some() && "a/b".parse::<Name>().unwrap().known().is_none());
        let direct: Name = "stabilityai/sd-turbo".parse().unwrap();
        assert_eq!(direct.known().map(|known| known.short), Some("sd-turbo"));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for text in [
            "",
            "a",
            "/a/b",
            "a/",
            "../b",
            "a/..",
            "a/b/../../c.safetensors",
            "a/b//c.safetensors",
            "a/b/c.ckpt",
            "a/b--c",
            "-a/b",
            "a/b.",
            "a\\b/c",
            "a/b@",
            "a/b@../x",
            "a/b@x//y",
            "a/b@.git",
            "a/b@x y",
            "~/b",
            "a/b/C:\\x.safetensors",
            "a/b/x\n.safetensors",
            "a/b/~x.safetensors",
            "https://huggingface.co/a/b",
        ] {
            assert!(text.parse::<Name>().is_err(), "{text:?}");
        }
        assert!("a".repeat(97).parse::<Name>().is_err());
        assert!(is_hex(&"0a".repeat(20), 40) && !is_hex(&"0A".repeat(20), 40) && !is_hex("0", 40));
    }
}
