//! Nowhere.

use std::time::Instant;

use anyhow::Result;
use dreamglass_engine::Picture;

use super::Sink;

/// Counts pictures and forgets them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Null {
    count: u64,
}

impl Sink for Null {
    fn write(&mut self, _: &Picture, _: Instant) -> Result<()> {
        self.count += 1;
        Ok(())
    }
    fn finish(self: Box<Self>) -> Result<String> {
        Ok(format!("{} pictures, kept nowhere", self.count))
    }
}
