//! Streams on a device: their numbers against formulas written out in f64, and what they do while
//! frames flow and everything changes.
//!
//! Models have seeded weights, clocks are virtual, storage is f32 on the default adapter.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test stops at the first surprise")]

#[path = "../parity/case.rs"]
#[allow(dead_code, reason = "parity reads more of a golden")]
mod case;
mod changes;
mod failures;
mod filter;
mod formulas;
mod loras;
mod memory;
mod pictures;
mod prompts;
mod steady;
mod straight;
#[path = "../goldens/weights.rs"]
#[allow(dead_code, reason = "parity reads more of the weights")]
mod weights;
mod world;
