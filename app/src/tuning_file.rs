//! What `dreamglass tune` found, on disk beside the compiled kernels: one file for each adapter, driver and set of
//! kernels. What cannot be read is a warning: first guesses do as well.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dreamglass_engine::Gpu;
use dreamglass_engine::kernels::choice::Tuning;
use serde::{Deserialize, Serialize};

use crate::disk_cache;

/// Version of the file.
const SCHEMA: u32 = 1;
/// Largest file that is read: a class takes some hundred bytes.
const MAX_BYTES: u64 = 4 << 20;
/// What the files' names end with.
const SUFFIX: &str = ".tuning.json";

/// A file's contents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TuningFile {
    schema: u32,
    /// The adapter that it was found on.
    pub adapter: String,
    /// Its driver.
    pub driver: String,
    /// What was found, by class.
    pub classes: BTreeMap<String, Class>,
}

/// What was found for a class of dispatches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Class {
    /// The candidate that is used.
    pub candidate: String,
    /// How every candidate did, in words.
    pub timings: BTreeMap<String, String>,
}

impl TuningFile {
    /// Nothing found yet on this device.
    pub fn new(gpu: &Gpu) -> Self {
        let summary = gpu.summary();
        let (adapter, driver) = (summary.name.clone(), summary.driver.clone());
        Self { schema: SCHEMA, adapter, driver, classes: BTreeMap::new() }
    }
    /// Where the device's file is, unless nothing is to be kept.
    pub fn path(gpu: &Gpu) -> Option<PathBuf> {
        Some(disk_cache::folder()?.join(gpu.tuning_key() + SUFFIX))
    }
    /// What an earlier run left for this device, if it is there and whole.
    pub fn load(gpu: &Gpu) -> Option<Self> {
        let path = Self::path(gpu)?;
        match read(&path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!("{}: {error}; kernels are chosen by rule", path.display());
                None
            }
        }
    }
    /// Writes the device's file in one go. Returns where it is, or nothing where nothing is to be kept.
    pub fn save(&self, gpu: &Gpu) -> Result<Option<PathBuf>> {
        let Some(path) = Self::path(gpu) else { return Ok(None) };
        self.write(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Some(path))
    }
    /// The candidates alone.
    pub fn tuning(&self) -> Tuning {
        let mut tuning = Tuning::default();
        for (class, found) in &self.classes {
            tuning.set(class, &*found.candidate);
        }
        tuning
    }
    fn write(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut file = tempfile::Builder::new().prefix(".tuning").tempfile_in(folder)?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.persist(path).map_err(|e| e.error)?;
        let is_ours = |path: &PathBuf| path.to_string_lossy().ends_with(SUFFIX);
        disk_cache::tidy(folder, disk_cache::MAX_FILES, is_ours)
    }
}

fn read(path: &Path) -> io::Result<TuningFile> {
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(wrong(format!("expected at most {MAX_BYTES} bytes")));
    }
    let file: TuningFile = serde_json::from_str(&text).map_err(|e| wrong(format!("is no tuning: {e}")))?;
    match file.schema {
        SCHEMA => Ok(file),
        other => Err(wrong(format!("has schema {other}, expected {SCHEMA}"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn what_is_written_is_read_and_rubbish_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("a.tuning.json");
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        let class = Class { candidate: "b".into(), timings: BTreeMap::from([("b".into(), "1 ms".into())]) };
        let mut file = TuningFile {
            schema: SCHEMA,
            adapter: "GPU".into(),
            driver: "1.2".into(),
            classes: BTreeMap::from([("a".into(), class)]),
        };
        file.write(&path).unwrap();
        assert_eq!(read(&path).unwrap(), file);
        assert_eq!(file.tuning().get("a"), Some("b"));

        file.schema = 9;
        file.write(&path).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("schema 9"));
        for rubbish in ["", "{}", "{\"schema\":1", "[]", "\u{0}"] {
            fs::write(&path, rubbish).unwrap();
            assert!(read(&path).unwrap_err().to_string().contains("no tuning"), "{rubbish}");
        }
        fs::write(&path, vec![b' '; MAX_BYTES as usize + 9]).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("at most"));
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(read(&path).is_err());
    }
}
