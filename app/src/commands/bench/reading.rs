//! How long a model's files take to read: no start can be faster.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use dreamglass_engine::ModelFiles;

/// Bytes that are read at a time.
const CHUNK: usize = 4 << 20;

/// Reads every file of weights of a model from end to end. Returns their bytes; what cannot be read is left to the
/// loader to name.
pub fn weights(files: &ModelFiles) -> u64 {
    let folder = match files {
        ModelFiles::Folder(folder) => folder,
        ModelFiles::Single(file) => return read(file.path().as_ref()),
        ModelFiles::Embedded(_) => return 0,
    };
    let folders = ["unet", "vae", "text_encoder"].map(|name| folder.join(name));
    let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).map(|path| read(&path)).sum()
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
