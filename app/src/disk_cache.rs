//! What the next start need not compute again, on disk: what the driver made of kernels, one file for each adapter,
//! driver and set of kernels, and embeddings of prompts, one file each.
//!
//! It is in the folder for caches or in `DREAMGLASS_KERNEL_CACHE`, which turns it off when it says `off`. Nothing here
//! fails a run: what cannot be read or written is a warning.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use dreamglass_engine::PromptStore;
use dreamglass_engine::kernels::PipelineStore;
use etcetera::{BaseStrategy, choose_base_strategy};

/// What a file begins with; behind it, a checksum of 8 bytes and the data.
const MAGIC: &[u8] = b"dreamglass cache 1\n";
/// Largest file that is read or written: drivers keep some kilobytes a kernel.
const MAX_BYTES: usize = 256 << 20;
/// Files of kernels and of tuning that stay, the newest: of other adapters, drivers and versions.
pub const MAX_FILES: usize = 8;
/// Prompts that stay, the newest: some hundred kilobytes each.
const MAX_PROMPTS: usize = 100;

/// A folder of what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskCache {
    folder: PathBuf,
    /// What it holds, for messages.
    what: &'static str,
    max_files: usize,
}

/// The user's folder for what is kept of kernels, unless the environment names another, or none.
pub fn folder() -> Option<PathBuf> {
    match env::var_os("DREAMGLASS_KERNEL_CACHE") {
        Some(word) if word.is_empty() || word == "off" => None,
        Some(folder) => Some(PathBuf::from(folder)),
        None => Some(choose_base_strategy().ok()?.cache_dir().join("dreamglass").join("kernels")),
    }
}

impl DiskCache {
    /// The user's compiled kernels, unless the environment names another folder, or none.
    pub fn kernels() -> Option<Arc<dyn PipelineStore>> {
        Some(Arc::new(Self { folder: folder()?, what: "compiled kernels", max_files: MAX_FILES }))
    }
    /// The prompts beside them.
    pub fn prompts() -> Option<Arc<dyn PromptStore>> {
        let folder = folder()?.join("prompts");
        Some(Arc::new(Self { folder, what: "embeddings of prompts", max_files: MAX_PROMPTS }))
    }
    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.bin"))
    }
    fn write(&self, key: &str, data: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        // Two programs that end at once each write a file of their own; the last one's stays.
        let mut file = tempfile::Builder::new().prefix(".new").tempfile_in(&self.folder)?;
        let bytes = [MAGIC, &checksum(data), data].concat();
        io::Write::write_all(&mut file, &bytes)?;
        file.persist(self.path(key)).map_err(|e| e.error)?;
        self.tidy()
    }
    /// Removes all but the newest files.
    fn tidy(&self) -> io::Result<()> {
        let is_ours = |path: &PathBuf| path.extension().is_some_and(|e| e == "bin");
        tidy(&self.folder, self.max_files, is_ours)
    }

    fn load(&self, key: &str) -> Option<Vec<u8>> {
        let path = self.path(key);
        match read(&path) {
            Ok(data) => {
                // What is used stays longer; where that cannot be noted, it goes by when it was written.
                let file = fs::File::options().append(true).open(&path);
                let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
                Some(data)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!("{}: {error}; {} are made anew", path.display(), self.what);
                None
            }
        }
    }
    fn save(&self, key: &str, data: &[u8]) {
        let is_new = || read(&self.path(key)).map_or(true, |old| old != data);
        if data.len() > MAX_BYTES || !is_new() {
            return;
        }
        if let Err(error) = self.write(key, data) {
            tracing::warn!("{}: {error}; {} are not kept", self.folder.display(), self.what);
        }
    }
}

/// Removes all but the newest of the files that are ours.
pub fn tidy(folder: &Path, max_files: usize, is_ours: impl Fn(&PathBuf) -> bool) -> io::Result<()> {
    let files = fs::read_dir(folder)?.flatten().map(|entry| entry.path()).filter(is_ours);
    let age = |path: &PathBuf| fs::metadata(path).and_then(|m| m.modified()).ok();
    let mut files: Vec<_> = files.map(|path| (age(&path), path)).collect();
    files.sort();
    let old = files.len().saturating_sub(max_files);
    files[..old].iter().try_for_each(|(_, path)| match fs::remove_file(path) {
        // Another program tidies up, too.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    })
}

impl PipelineStore for DiskCache {
    fn load(&self, key: &str) -> Option<Vec<u8>> {
        self.load(key)
    }
    fn save(&self, key: &str, data: &[u8]) {
        self.save(key, data);
    }
}

impl PromptStore for DiskCache {
    fn load(&self, key: &str) -> Option<Vec<u8>> {
        self.load(key)
    }
    fn save(&self, key: &str, data: &[u8]) {
        self.save(key, data);
    }
}

fn checksum(data: &[u8]) -> [u8; 8] {
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    hasher.finish().to_le_bytes()
}

/// What a file holds, if it is whole.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let wrong = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidData, what.to_owned()));
    let file = fs::File::open(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 64).read_to_end(&mut bytes)?;
    let Some(rest) = bytes.strip_prefix(MAGIC) else { return wrong("is no file of this cache") };
    match rest.split_at_checked(8) {
        Some((sum, data)) if sum == checksum(data) => Ok(data.to_vec()),
        _ => wrong("is damaged: its checksum is another"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    fn cache() -> (tempfile::TempDir, DiskCache) {
        let folder = tempfile::tempdir().unwrap();
        let folder_of_cache = folder.path().join("new");
        let cache = DiskCache { folder: folder_of_cache, what: "data", max_files: MAX_FILES };
        (folder, cache)
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let (_folder, cache) = cache();
        assert_eq!(cache.load("a"), None);
        for data in [&b"one"[..], b"", &[7; 100_000]] {
            cache.save("a", data);
            assert_eq!(cache.load("a").as_deref(), Some(data));
        }
        assert_eq!(cache.load("b"), None);
        let names: Vec<_> = fs::read_dir(&cache.folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["a.bin"]);
    }

    #[test]
    fn damaged_files_are_ignored_and_replaced() {
        let (_folder, cache) = cache();
        cache.save("a", b"compiled");
        let whole = fs::read(cache.path("a")).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() - 1] ^= 1;
        for bytes in [&whole[..whole.len() - 1], &whole[..MAGIC.len() + 3], &flipped, b"", b"rubbish"] {
            fs::write(cache.path("a"), bytes).unwrap();
            assert_eq!(cache.load("a"), None, "{bytes:?}");
            cache.save("a", b"again");
            assert_eq!(cache.load("a").as_deref(), Some(&b"again"[..]));
        }
    }

    #[test]
    fn old_files_go_and_a_folder_that_cannot_be_written_is_no_failure() {
        let (folder, cache) = cache();
        for number in 0..2 * MAX_FILES {
            cache.save(&format!("k{number}"), b"data");
        }
        assert_eq!(fs::read_dir(&cache.folder).unwrap().count(), MAX_FILES);
        // What was used last counts as new.
        let oldest = format!("k{MAX_FILES}");
        fs::File::open(cache.path(&oldest)).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert!(cache.load(&oldest).is_some());
        (0..MAX_FILES - 1).for_each(|number| cache.save(&format!("n{number}"), b"data"));
        assert!(cache.load(&oldest).is_some());
        (0..MAX_FILES).for_each(|number| cache.save(&format!("m{number}"), b"data"));
        assert!(cache.load(&oldest).is_none());
        let file = folder.path().join("file");
        fs::write(&file, b"not a folder").unwrap();
        let cache = DiskCache { folder: file, ..cache };
        cache.save("a", b"data");
        assert_eq!(cache.load("a"), None);
    }

    #[test]
    fn two_savers_leave_one_whole_file() {
        let (_folder, cache) = cache();
        std::thread::scope(|scope| {
            for byte in 0..4u8 {
                let cache = &cache;
                scope.spawn(move || (0..20).for_each(|_| cache.save("a", &[byte; 5000])));
            }
        });
        let data = cache.load("a").unwrap();
        assert!(data.len() == 5000 && data.iter().all(|byte| *byte == data[0]));
    }
}
