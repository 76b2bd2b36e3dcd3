//! The program's clock, for layers that have none.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Time since the first call.
pub fn now() -> Duration {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    BEGUN.get_or_init(Instant::now).elapsed()
}
