//! Checkpoints: where model files come from and how their tensors are read.

mod files;
mod safetensors;

pub use files::{Bytes, ModelFiles};
pub use safetensors::Checkpoint;
