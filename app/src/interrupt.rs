//! Ctrl-C: the first ends the work cleanly, the second ends the program.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use crate::failure::INTERRUPTED;

/// A flag that the first Ctrl-C (or termination signal) raises.
pub fn watch() -> Result<Arc<AtomicBool>> {
    let raised = Arc::new(AtomicBool::new(false));
    let handler = Arc::clone(&raised);
    ctrlc::set_handler(move || {
        if handler.swap(true, Ordering::SeqCst) {
            process::exit(INTERRUPTED.into());
        }
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(raised)
}
