//! How long a model's files take to read: no start can be faster.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use dreamglass_engine::ModelFiles;

/// Bytes that are read at a time.
const CHUNK: usize = 4 << 20;

/// Reads every file of weights of a model from end to end. Returns their bytes; what cannot be read is left to the
/// loader to name.
pub fn weights(files: &ModelFiles) -> u64 {
    paths(files).iter().map(|path| read(path)).sum()
}

/// Has the system drop what it holds of these files in memory.
///
/// # Errors
/// Where the system cannot do that.
pub fn forget(files: &ModelFiles) -> Result<()> {
    #[cfg(target_os = "linux")]
    for path in paths(files) {
        use rustix::fs::{Advice, fadvise};
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        // What was just written is dropped only when it is on the disk.
        file.sync_all().with_context(|| format!("cannot flush {}", path.display()))?;
        fadvise(&file, 0, None, Advice::DontNeed)
            .with_context(|| format!("cannot drop what is in memory of {}", path.display()))?;
    }
    #[cfg(not(target_os = "linux"))]
    if !paths(files).is_empty() {
        return Err(crate::failure::bad_input(
            "--cold-files: expected Linux, which alone can drop files from memory",
        ));
    }
    Ok(())
}

/// The files of weights of a model.
fn paths(files: &ModelFiles) -> Vec<PathBuf> {
    let folder = match files {
        ModelFiles::Folder(folder) => folder,
        ModelFiles::Single(file) => return vec![file.path().into()],
        ModelFiles::Embedded(_) => return Vec::new(),
    };
    let folders = ["unet", "vae", "text_encoder"].map(|name| folder.join(name));
    let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect()
}

fn read(path: &Path) -> u64 {
    let Ok(mut file) = File::open(path) else { return 0 };
    let mut chunk = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        match file.read(&mut chunk) {
            Ok(0) | Err(_) => return bytes,
            Ok(count) => bytes += count as u64,
        }
    }
}
