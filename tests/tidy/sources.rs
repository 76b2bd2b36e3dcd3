//! The project's own sources, as text.

#![allow(dead_code, reason = "two tests share this and each uses a part")]

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold sources.
const ROOMS: [&str; 6] = ["wgsl", "kernels", "engine", "app", "tests", "benches"];

/// One file.
pub struct Source {
    /// From the root, with `/`.
    pub path: String,
    pub text: String,
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every `.rs` and `.wgsl` file.
pub fn all() -> Vec<Source> {
    let mut sources = Vec::new();
    for room in ROOMS {
        collect(&root().join(room), room, &mut sources);
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn collect(folder: &Path, name: &str, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = format!("{name}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            collect(&entry.path(), &path, sources);
        } else if path.ends_with(".rs") || path.ends_with(".wgsl") {
            sources.push(Source { path, text: fs::read_to_string(entry.path()).unwrap() });
        }
    }
}

impl Source {
    pub fn is_shader(&self) -> bool {
        self.path.ends_with(".wgsl")
    }
    /// Lines with their number, without comments. A `//` inside a string ends the line early, which
    /// hides a word at worst.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        lines.map(|(ix, line)| (ix + 1, line.split("//").next().unwrap_or_default()))
    }
}
