//! The files of a model: a folder on disk or bytes inside the program.

use std::fs::File;
use std::io::ErrorKind;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use memmap2::Mmap;

use crate::error::EngineError;

/// Where the files of a model are. Names are relative with `/`, such as `unet/config.json`.
#[derive(Debug, Clone)]
pub enum ModelFiles {
    /// A folder in diffusers' layout; files are memory-mapped.
    Folder(PathBuf),
    /// Files compiled into the program, as `(name, bytes)`.
    Embedded(&'static [(&'static str, &'static [u8])]),
}

/// The contents of one file.
#[derive(Debug, Clone)]
pub enum Bytes {
    /// A mapped file.
    Mapped(Arc<Mmap>),
    /// Bytes of the program.
    Static(&'static [u8]),
    /// Bytes in memory.
    Owned(Arc<[u8]>),
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Static(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl ModelFiles {
    /// The file called `name`, or none when it does not exist.
    ///
    /// # Errors
    /// [`EngineError::Io`] when it exists and cannot be read.
    pub fn open(&self, name: &str) -> Result<Option<Bytes>, EngineError> {
        let name = name.strip_prefix("./").unwrap_or(name);
        match self {
            Self::Folder(folder) => map(folder.join(name)),
            Self::Embedded(files) => {
                Ok(files.iter().find(|(file, _)| *file == name).map(|(_, bytes)| Bytes::Static(bytes)))
            }
        }
    }
    /// The file called `name`.
    ///
    /// # Errors
    /// [`EngineError::Checkpoint`] when it does not exist, [`EngineError::Io`] when it cannot be read.
    pub fn require(&self, name: &str) -> Result<Bytes, EngineError> {
        self.open(name)?.ok_or_else(|| EngineError::Checkpoint {
            path: self.path(name),
            message: "the model has no such file".into(),
        })
    }
    /// How `name` is shown in messages: with its folder where there is one.
    pub fn path(&self, name: &str) -> String {
        match self {
            Self::Folder(folder) => folder.join(name).display().to_string(),
            Self::Embedded(_) => name.to_string(),
        }
    }
}

/// The file at `path`, or none when it does not exist.
pub(super) fn map(path: PathBuf) -> Result<Option<Bytes>, EngineError> {
    let io = |source| EngineError::Io { path: path.clone(), source };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(io(error)),
    };
    let meta = file.metadata().map_err(io)?;
    if meta.is_dir() {
        return Err(io(ErrorKind::IsADirectory.into()));
    }
    if meta.len() == 0 {
        // An empty file cannot be mapped on every system.
        return Ok(Some(Bytes::Static(&[])));
    }
    // SAFETY: the map is read-only; a model file that is rewritten while the engine reads it gives
    // wrong weights or a signal, as with every program that maps its checkpoint.
    let map = unsafe { Mmap::map(&file) }.map_err(io)?;
    Ok(Some(Bytes::Mapped(Arc::new(map))))
}
