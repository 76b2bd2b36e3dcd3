//! Fragments of `application/trickle-ice-sdpfrag` (RFC 8840): candidates that come later, and ICE restarts.

use super::RtcError;
use super::candidates::{self, Candidate};
use super::sdp::{Credentials, check_text};

/// What a fragment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// Of the generation that the candidates belong to.
    pub credentials: Credentials,
    pub candidates: Vec<Candidate>,
}

/// Reads a fragment.
///
/// # Errors
/// `Refused` when it is too long, or without credentials, or a candidate is none.
pub fn read(text: &str) -> Result<Fragment, RtcError> {
    let lines = check_text(text)?;
    let value = |key: &str| lines.iter().find_map(|line| line.strip_prefix(key));
    let credentials = Credentials::read(value("a=ice-ufrag:"), value("a=ice-pwd:"))?;
    let values = lines.iter().filter_map(|line| line.strip_prefix("a=candidate:"));
    Ok(Fragment { credentials, candidates: candidates::read_all(values)? })
}

/// The fragment that tells the ICE credentials and candidates of a description.
pub fn write(description: &str) -> String {
    let mut out = String::new();
    let keys = ["a=ice-ufrag:", "a=ice-pwd:", "m=video", "a=mid:", "a=candidate:", "a=end-of-candidates"];
    let media = description.find("m=video").unwrap_or(0);
    for key in keys {
        for line in description[media..].lines().filter(|line| line.starts_with(key)) {
            out.push_str(line);
            out.push_str("\r\n");
        }
    }
    out
}
