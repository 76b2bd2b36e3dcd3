//! What tells that a file is whole: the hub names a SHA-256 for large files, git's own for small ones.

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

use super::name::is_hex;

/// The checksum of a file, which is also its name in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checksum {
    /// SHA-256 of the bytes (files in LFS).
    Sha256(String),
    /// SHA-1 of `blob LENGTH\0` and the bytes (files in git itself).
    Git(String),
}

impl Checksum {
    /// The checksum that `etag` names, as the hub writes one: quoted or not, weak or not. None where it is of another
    /// kind.
    pub fn from_etag(etag: &str) -> Option<Self> {
        let text = etag.trim().trim_start_matches("W/").trim_matches('"');
        match text {
            _ if is_hex(text, 64) => Some(Self::Sha256(text.into())),
            _ if is_hex(text, 40) => Some(Self::Git(text.into())),
            _ => None,
        }
    }
    /// Its digits.
    pub fn digits(&self) -> &str {
        let (Self::Sha256(digits) | Self::Git(digits)) = self;
        digits
    }
    /// What it is called.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "SHA-256",
            Self::Git(_) => "git's SHA-1",
        }
    }
    /// Reads a file of `length` bytes.
    pub fn reader(&self, length: u64) -> Reader {
        let context = match self {
            Self::Sha256(_) => Context::new(&SHA256),
            Self::Git(_) => {
                let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
                context.update(format!("blob {length}\0").as_bytes());
                context
            }
        };
        Reader(context)
    }
}

/// Sums up what it is shown.
#[derive(Clone)]
pub struct Reader(Context);

impl Reader {
    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
    /// The digits of all bytes.
    pub fn finish(self) -> String {
        self.0.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_sha256sum_and_git() {
        let of = |checksum: &Checksum, bytes: &[u8]| {
            let mut reader = checksum.reader(bytes.len() as u64);
            bytes.chunks(2).for_each(|bytes| reader.update(bytes));
            reader.finish()
        };
        // `printf hello | sha256sum`, `printf hello | git hash-object --stdin`.
        let sha = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let git = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0";
        for (etag, digits) in [(format!("\"{sha}\""), sha), (format!("W/\"{git}\""), git)] {
            let checksum = Checksum::from_etag(&etag);
            assert_eq!(checksum.as_ref().map(|c| of(c, b"hello")).as_deref(), Some(digits));
        }
        assert_eq!(Checksum::from_etag("\"../../evil\""), None);
        assert_eq!(Checksum::from_etag(""), None);
    }
}
