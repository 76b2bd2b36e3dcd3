//! Removing from the cache: links first, then what nothing links to any more.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::cache::{Cache, Repository, check_inside};
use super::client::Stop;
use super::lock::Lock;

/// What would be removed of one repository.
#[derive(Debug)]
pub struct Removal {
    repository: Repository,
    cache: PathBuf,
    commits: Vec<String>,
    is_whole: bool,
    /// Bytes that become free.
    pub bytes: u64,
}

impl Removal {
    /// The snapshot of `commit`, or all of the repository without one; none where there is nothing.
    ///
    /// # Errors
    /// Where the cache cannot be read, or lies elsewhere by a link.
    pub fn plan(cache: &Cache, name: &str, commit: Option<&str>) -> Result<Option<Self>> {
        let repository = cache.repository(name);
        if fs::symlink_metadata(&repository.folder).is_err() {
            return Ok(None);
        }
        check_inside(cache.folder(), &repository.folder)?;
        let all: Vec<String> = repository.snapshots()?.into_iter().map(|snapshot| snapshot.commit).collect();
        let commits: Vec<String> = match commit {
            Some(commit) => all.iter().filter(|other| *other == commit).cloned().collect(),
            None => all.clone(),
        };
        let is_whole = commit.is_none() || commits.len() == all.len();
        if commits.is_empty() && !is_whole {
            return Ok(None);
        }
        let mut removal = Self { repository, cache: cache.folder().into(), commits, is_whole, bytes: 0 };
        removal.bytes = removal.free()?.iter().map(|blob| size(blob)).sum();
        Ok(Some(removal))
    }

    /// Whether nothing of the repository stays.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Blobs that only the snapshots to be removed link to; all where nothing stays.
    fn free(&self) -> Result<Vec<PathBuf>> {
        let folder = self.repository.folder.join("blobs");
        if self.is_whole {
            return Ok(super::cache::walk(&folder)?.into_iter().map(|name| folder.join(name)).collect());
        }
        let (mut kept, mut gone) = (BTreeSet::new(), BTreeSet::new());
        for snapshot in self.repository.snapshots()? {
            let is_gone = self.commits.contains(&snapshot.commit);
            let blobs = if is_gone { &mut gone } else { &mut kept };
            blobs.extend(snapshot.files()?.into_iter().map(|file| file.blob));
        }
        // A link may lead anywhere; what is not the cache's stays.
        let folder = fs::canonicalize(&folder).with_context(|| folder.display().to_string())?;
        Ok(gone.into_iter().filter(|blob| !kept.contains(blob) && blob.starts_with(&folder)).collect())
    }

    /// Removes it. Waits for a pull of the same repository.
    ///
    /// # Errors
    /// Ctrl-C; what the disk says.
    pub fn run(self, stop: &Stop, wait: impl FnOnce()) -> Result<()> {
        let lock = Lock::take(&self.repository.own_lock(), stop, wait)?;
        check_inside(&self.cache, &self.repository.folder)?;
        if self.is_whole {
            remove_folder(&self.repository.folder)?;
            drop(lock);
            return remove_folder(&self.repository.locks);
        }
        for (revision, _) in
            self.repository.refs()?.iter().filter(|(_, commit)| self.commits.contains(commit))
        {
            remove_file(&self.repository.folder.join("refs").join(revision))?;
        }
        let free = self.free()?;
        for commit in &self.commits {
            remove_folder(&self.repository.snapshot(commit).folder)?;
        }
        free.iter().try_for_each(|blob| remove_file(blob))
    }
}

fn size(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |meta| meta.len())
}

/// Links in it are removed, not what they lead to.
fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.with_context(|| folder.display().to_string()),
    }
}

fn remove_file(path: &Path) -> Result<()> {
    fs::remove_file(path).with_context(|| path.display().to_string())
}
