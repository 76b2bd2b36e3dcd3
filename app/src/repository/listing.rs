//! What the hub lists for a revision of a repository.

use anyhow::{Context as _, Result, anyhow};
use serde::Deserialize;
use serde_json::Value;

use super::checksum::Checksum;
use super::client::Client;
use super::name::{Name, check_path, is_hex};

/// Largest file that is believed: far past every model.
const MOST_BYTES: u64 = 1 << 42;

/// A revision of a repository.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The commit, 40 hexadecimal digits.
    pub commit: String,
    /// Its files.
    pub files: Vec<Entry>,
    /// The licence that its card names.
    pub licence: Option<String>,
    /// Where the licence's text is.
    pub licence_link: Option<String>,
}

/// A file of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative, with `/`; checked where the file is wanted.
    pub path: String,
    /// Its size, where the hub says.
    pub size: Option<u64>,
    /// Its checksum, where the hub says.
    pub checksum: Option<Checksum>,
}

/// The hub's own words, as far as they matter.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
    #[serde(default)]
    card_data: Value,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    #[serde(rename = "rfilename")]
    path: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Debug, Deserialize)]
struct Lfs {
    #[serde(alias = "oid")]
    sha256: String,
    size: Option<u64>,
}

impl Listing {
    /// Asks the hub for the files of `name`, with sizes and checksums.
    ///
    /// # Errors
    /// Where there is nothing, or what comes is no listing or leads out of its folder.
    pub fn fetch(name: &Name, client: &Client<'_>) -> Result<Self> {
        let revision = super::pull::escape(name.revision());
        let url = client.url(&format!("api/models/{}/revision/{revision}?blobs=true", name.repository))?;
        let what = format!("files of {}", name.repository);
        Self::parse(&client.read(&what, &url)?).with_context(|| format!("what the hub lists for {name}"))
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let info: Info = serde_json::from_slice(bytes).context("expected JSON with `sha` and `siblings`")?;
        if !is_hex(&info.sha, 40) {
            return Err(anyhow!("commit {:?}: expected 40 hexadecimal digits", info.sha));
        }
        let files = info.siblings.into_iter().map(Entry::new).collect::<Result<Vec<_>>>()?;
        let text = |field: &str| match &info.card_data[field] {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Array(list) => list.first().and_then(Value::as_str).map(String::from),
            _ => None,
        };
        // A licence of its own has a name and a link beside `other`.
        let own = text("license_name").filter(|_| text("license").as_deref() == Some("other"));
        let licence = own.or_else(|| text("license"));
        Ok(Self { commit: info.sha, files, licence, licence_link: text("license_link") })
    }

    /// The file at `path`.
    pub fn find(&self, path: &str) -> Option<&Entry> {
        self.files.iter().find(|entry| entry.path == path)
    }
}

impl Entry {
    fn new(sibling: Sibling) -> Result<Self> {
        let Sibling { path, size, blob_id, lfs } = sibling;
        // Odd names are common, and only matter where the file is wanted; these are not made by accident.
        let is_hostile =
            path.contains('\\') || path.starts_with('/') || path.split('/').any(|part| part == "..");
        if is_hostile {
            return Err(anyhow!("path {path:?} leads out of the repository: nothing of it is fetched"));
        }
        let (checksum, size) = match lfs {
            Some(lfs) if is_hex(&lfs.sha256, 64) => (Some(Checksum::Sha256(lfs.sha256)), lfs.size.or(size)),
            Some(lfs) => return Err(anyhow!("file {path:?}: checksum {:?}, expected a SHA-256", lfs.sha256)),
            None => match blob_id {
                Some(id) if is_hex(&id, 40) => (Some(Checksum::Git(id)), size),
                Some(id) => return Err(anyhow!("file {path:?}: checksum {id:?}, expected git's SHA-1")),
                None => (None, size),
            },
        };
        match size {
            Some(size) if size > MOST_BYTES => {
                Err(anyhow!("file {path:?}: {size} bytes, expected less than {MOST_BYTES}"))
            }
            _ => Ok(Self { path, size, checksum }),
        }
    }
    /// Refuses a path that some system would read in another way.
    ///
    /// # Errors
    /// Naming it.
    pub fn check(&self) -> Result<()> {
        check_path(&self.path).map_err(|why| anyhow!("{why}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn parse(siblings: &str, card: &str) -> Result<Listing> {
        Listing::parse(
            format!("{{\"sha\": \"{COMMIT}\", \"siblings\": {siblings}, \"cardData\": {card}}}").as_bytes(),
        )
    }

    #[test]
    fn listings_are_read() {
        let sha = "ab".repeat(32);
        let siblings = format!(
            r#"[{{"rfilename": "a.json", "size": 3, "blobId": "{COMMIT}"}}, {{"rfilename": "b/ä c.safetensors", "size": 130,
            "blobId": "{COMMIT}", "lfs": {{"sha256": "{sha}", "size": 7, "pointerSize": 130}}}}, {{"rfilename": "c"}}]"#
        );
        let card = r#"{"license": "other", "license_name": "sai", "license_link": "LICENSE"}"#;
        let listing = parse(&siblings, card).unwrap();
        assert_eq!(listing.files[0].checksum, Some(Checksum::Git(COMMIT.into())));
        assert_eq!(
            (listing.files[1].size, &listing.files[1].checksum),
            (Some(7), &Some(Checksum::Sha256(sha)))
        );
        assert_eq!((&listing.files[2].size, listing.files.len()), (&None, 3));
        assert_eq!(
            (listing.licence.as_deref(), listing.licence_link.as_deref()),
            (Some("sai"), Some("LICENSE"))
        );
        assert_eq!(parse("[]", r#"{"license": ["mit"]}"#).unwrap().licence.as_deref(), Some("mit"));
        assert_eq!(parse("[]", "null").unwrap().licence, None);
    }

    #[test]
    fn listings_that_lead_elsewhere_are_refused() {
        for path in ["../x", "a/../../x", "/etc/passwd", "a\\\\b", ".."] {
            let error = parse(&format!(r#"[{{"rfilename": "{path}"}}]"#), "null").unwrap_err().to_string();
            assert!(error.contains("leads out"), "{path}: {error}");
        }
        for sibling in [
            r#"{"rfilename": "x", "blobId": "../../x"}"#,
            r#"{"rfilename": "x", "lfs": {"sha256": "/etc/x", "size": 1}}"#,
            r#"{"rfilename": "x", "size": 99999999999999999}"#,
            r#"{"rfilename": 7}"#,
        ] {
            assert!(parse(&format!("[{sibling}]"), "null").is_err(), "{sibling}");
        }
        assert!(Listing::parse(br#"{"sha": "../../etc", "siblings": []}"#).is_err());
        assert!(Listing::parse(b"<html>").is_err());
        for odd in ["a/./b", "a:b", "a\nb", "CON?", "a//b", "b.", " b"] {
            let entry = Entry { path: odd.into(), size: None, checksum: None };
            assert!(entry.check().is_err(), "{odd:?}");
        }
    }
}
