//! Writes tables of the files that the program has inside: `models/demo` for `src/model.rs`, and the
//! pages of `src/web/static` for `src/web/pages.rs`.
//!
//! A checkout without the model still builds; the program then says that it has no model of its own.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Files that the program never reads.
const NOT_EMBEDDED: [&str; 2] = ["md", "py"];

fn main() -> io::Result<()> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    write_table(&root.join("../models/demo"), "embedded.rs")?;
    write_table(&root.join("src/web/static"), "static.rs")
}

/// Writes the table of the files below `root` as the source of a slice, `name` in the build's folder.
fn write_table(root: &Path, name: &str) -> io::Result<()> {
    println!("cargo::rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    if root.is_dir() {
        collect(root, "", &mut files)?;
    }
    files.sort();
    let mut table = String::from("&[\n");
    for (name, path) in &files {
        println!("cargo::rerun-if-changed={}", path.display());
        // Writing to a string cannot fail.
        let _ = writeln!(table, "    ({name:?}, include_bytes!({:?})),", path.display().to_string());
    }
    table.push_str("]\n");
    let out = env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    fs::write(out.join(name), table)
}

/// Every file below `folder` as (name relative to the root, absolute path).
fn collect(folder: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let path = entry.path();
        if path.is_dir() {
            println!("cargo::rerun-if-changed={}", path.display());
            collect(&path, &format!("{name}/"), files)?;
        } else if !path.extension().is_some_and(|e| NOT_EMBEDDED.iter().any(|n| e == *n)) {
            files.push((name, fs::canonicalize(path)?));
        }
    }
    Ok(())
}
