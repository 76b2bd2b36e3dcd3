//! Models of the Hugging Face hub: their names, the hub's own cache on disk, and how they get there.
//!
//! Nothing is fetched unless [`pull`] is called, which only `dreamglass models pull` does. The cache is the one that
//! huggingface_hub keeps (`models--owner--name/{blobs,refs,snapshots}`), so that Python programs find what is pulled
//! here and the other way round.

mod blob;
mod cache;
mod catalogue;
mod checksum;
mod client;
mod environment;
mod listing;
mod lock;
mod name;
mod pull;
mod removal;
mod selection;

use std::path::PathBuf;

use anyhow::Result;

pub use self::cache::{Cache, Snapshot, licence_in};
pub use self::catalogue::{SHORT_NAMES, ShortName, Terms};
pub use self::client::{Interrupted, Stop};
pub use self::environment::Environment;
pub use self::name::Name;
pub use self::pull::{Pull, Reporter, Wanted};
pub use self::removal::Removal;
pub use self::selection::Variant;
use crate::failure::bad_input;

/// What `text` is called in the cache, on disk: a folder, or a file where it names one or the repository holds one
/// alone. None where `text` is no name of a repository.
///
/// # Errors
/// Where it is one and is not in the cache, with the command that gets it; where it leaves open which file is meant.
pub fn locate(text: &str) -> Result<Option<PathBuf>> {
    let Ok(name) = text.parse::<Name>() else { return Ok(None) };
    let cache = Cache::new(Environment::read()?.cache);
    match cache.snapshot(&name)? {
        Some(snapshot) => snapshot.path(&name).map(Some),
        None => Err(bad_input(format!(
            "there is no file or folder {text}, and no model of that name in the cache ({}): `dreamglass models pull {text}` \
             downloads it",
            cache.folder().display()
        ))),
    }
}
