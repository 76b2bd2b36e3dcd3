//! `dreamglass bench` and `dreamglass tune`. What they measure means something on a device without other work only:
//! these tests run one after the other, in a binary of their own, as cargo runs no two binaries at once.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test stops at the first surprise")]

mod bench;
#[path = "../app/program.rs"]
#[allow(dead_code, reason = "the other tests of the program use all of it")]
mod program;
mod tune;
#[path = "../../../tests/goldens/weights.rs"]
#[allow(dead_code, reason = "the generator's tests use all of it")]
mod weights;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The device for the calling test alone, until the guard is dropped.
fn alone() -> MutexGuard<'static, ()> {
    static DEVICE: Mutex<()> = Mutex::new(());
    // A test that failed leaves nothing behind that would spoil the next one.
    DEVICE.lock().unwrap_or_else(PoisonError::into_inner)
}
