//! Checkpoints: where model files come from and how their tensors are read.

mod files;
mod lora;
mod safetensors;
mod single;

pub use files::{Bytes, ModelFiles, Stamp};
pub use lora::LoraFile;
pub(crate) use lora::{Target, fuse};
pub use safetensors::{Checkpoint, Stored};
pub use single::SingleFile;
