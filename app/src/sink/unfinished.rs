//! A file under a name of its own until it is complete.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, Result};

use crate::failure::bad_input;

/// A file being written beside its target. It takes the target's place when it is finished and
/// disappears when it is not, so that a failure never costs an existing file.
#[derive(Debug)]
pub struct Unfinished {
    path: PathBuf,
    target: PathBuf,
}

impl Unfinished {
    /// A name beside `target` with the same extension.
    pub fn new(target: &Path) -> Result<Self> {
        let shown = target.display();
        let folder = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        if !folder.is_dir() {
            return Err(bad_input(format!("{shown}: there is no folder {}", folder.display())));
        }
        let Some(name) = target.file_name().filter(|_| !target.is_dir()) else {
            return Err(bad_input(format!("{shown}: expected a file, this is a folder")));
        };
        let path = folder.join(format!(".unfinished-{}-{}", process::id(), name.to_string_lossy()));
        Ok(Self { path, target: target.into() })
    }
    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Puts the finished file in its target's place.
    pub fn finish(self) -> Result<()> {
        fs::rename(&self.path, &self.target)
            .with_context(|| format!("cannot write {}", self.target.display()))
    }
    /// Keeps an incomplete file, under another name where its target exists already. Where it is, if
    /// there is anything in it.
    pub fn salvage(self) -> Option<PathBuf> {
        fs::metadata(&self.path).ok().filter(|m| m.is_file() && m.len() > 0)?;
        let place = if self.target.exists() { self.incomplete_name() } else { self.target.clone() };
        fs::rename(&self.path, &place).ok().map(|()| place)
    }
    /// `out.mp4` as `out-incomplete.mp4`, or with a number.
    fn incomplete_name(&self) -> PathBuf {
        let part = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let (stem, extension) = (part(self.target.file_stem()), part(self.target.extension()));
        let named =
            |number: &str| self.target.with_file_name(format!("{stem}-incomplete{number}.{extension}"));
        let numbered = (2..).map(|n| named(&format!("-{n}")));
        std::iter::once(named("")).chain(numbered).find(|p| !p.exists()).unwrap_or_else(|| named(""))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After `finish` there is nothing left to remove.
        let _ = fs::remove_file(&self.path);
    }
}
