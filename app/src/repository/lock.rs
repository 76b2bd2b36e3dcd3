//! Locks between programs: one pull at a time writes a file.

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::client::{Interrupted, Stop};

/// How often a lock is tried that another has.
const PAUSE: Duration = Duration::from_millis(100);

/// A lock on a file; it ends with its program, however that ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock at `path`, where `wait` is told once that another has it. It is huggingface_hub's kind of lock
    /// (`flock`), so that both keep out of each other's way.
    ///
    /// # Errors
    /// [`Interrupted`] by Ctrl-C; where the file cannot be made.
    pub fn take(path: &Path, stop: &Stop, wait: impl FnOnce()) -> Result<Self> {
        let place = || path.display().to_string();
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(place)?;
        }
        let file = File::options().create(true).truncate(false).write(true).open(path).with_context(place)?;
        let mut wait = Some(wait);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::Error(error)) => return Err(error).with_context(place),
                Err(TryLockError::WouldBlock) => {}
            }
            if let Some(wait) = wait.take() {
                wait();
            }
            if stop.is_raised() {
                return Err(Interrupted.into());
            }
            thread::sleep(PAUSE);
        }
    }
}
