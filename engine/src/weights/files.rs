//! The files of a model: a folder on disk or bytes inside the program.

use std::fs::File;
use std::io::ErrorKind;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use memmap2::Mmap;

use crate::error::EngineError;
use crate::weights::SingleFile;

/// TAESD's own two files, in their folder.
const TAESD: [&str; 2] = ["taesd_encoder.safetensors", "taesd_decoder.safetensors"];

/// Where the files of a model are. Names are relative with `/`, such as `unet/config.json`.
#[derive(Debug, Clone)]
pub enum ModelFiles {
    /// A folder in diffusers' layout; files are memory-mapped.
    Folder(PathBuf),
    /// Files compiled into the program, as `(name, bytes)`.
    Embedded(&'static [(&'static str, &'static [u8])]),
    /// A file that stands for a folder.
    Single(Arc<SingleFile>),
}

/// The contents of one file.
#[derive(Debug, Clone)]
pub enum Bytes {
    /// A mapped file, and which one.
    Mapped(Arc<Mmap>, Arc<Stamp>),
    /// Bytes of the program.
    Static(&'static [u8]),
    /// Bytes in memory.
    Owned(Arc<[u8]>),
}

/// What tells a file from what was there before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Where it is.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// When it was last written to.
    pub modified: SystemTime,
}

impl Bytes {
    /// Of a mapped file.
    pub(crate) fn stamp(&self) -> Option<&Stamp> {
        if let Self::Mapped(_, stamp) = self { Some(stamp) } else { None }
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map, _) => map,
            Self::Static(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl ModelFiles {
    /// What is at `path`: a folder in diffusers' layout, one of TAESD's own files, or a file of a whole model or of an
    /// autoencoder.
    ///
    /// # Errors
    /// [`EngineError::Checkpoint`] for what is none of these, [`EngineError::Io`].
    pub fn at(path: &Path) -> Result<Self, EngineError> {
        if !path.is_dir() {
            return Ok(Self::Single(Arc::new(SingleFile::open(path)?)));
        }
        let folder = Self::Folder(path.into());
        if folder.open("config.json")?.is_none()
            && let (Some(encoder), Some(decoder)) = (folder.open(TAESD[0])?, folder.open(TAESD[1])?)
        {
            let [of_encoder, of_decoder] = TAESD.map(|name| folder.path(name));
            let file = SingleFile::taesd((&of_encoder, encoder), (&of_decoder, decoder))?;
            return Ok(Self::Single(Arc::new(file)));
        }
        Ok(folder)
    }
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
            Self::Single(file) => Ok(file.file(name)),
        }
    }
    /// The file called `name`.
    ///
    /// # Errors
    /// [`EngineError::Checkpoint`] when it does not exist, [`EngineError::Io`] when it cannot be read.
    pub fn require(&self, name: &str) -> Result<Bytes, EngineError> {
        self.open(name)?.ok_or_else(|| match self {
            Self::Single(file) => file.lacks(name.split('/').next().unwrap_or(name)),
            _ => EngineError::Checkpoint {
                path: self.path(name),
                message: "the model has no such file".into(),
            },
        })
    }
    /// How `name` is shown in messages: with its folder where there is one.
    pub fn path(&self, name: &str) -> String {
        match self {
            Self::Folder(folder) => folder.join(name).display().to_string(),
            Self::Embedded(_) => name.to_string(),
            Self::Single(file) => file.path_of(name),
        }
    }
    /// Tensors of a single file that no network has a place for.
    pub(crate) fn strays(&self) -> &[String] {
        if let Self::Single(file) = self { file.strays() } else { &[] }
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
    let modified = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let path = path.canonicalize().unwrap_or(path);
    let stamp = Stamp { path, bytes: meta.len(), modified };
    Ok(Some(Bytes::Mapped(Arc::new(map), Arc::new(stamp))))
}
