//! An image-to-image engine: checkpoints, networks, schedules and prompts on top of the kernels.
//!
//! Weights keep their checkpoint names ([`weights`]), each network is recorded by one file
//! ([`model`]), the sampler's numbers are tables ([`schedule`]), prompts become tokens ([`text`]).

pub mod error;
pub mod model;
pub mod weights;

pub use error::EngineError;
