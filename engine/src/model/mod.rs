//! The networks, recorded layer by layer with their checkpoint names.
//!
//! Each file is a diagram of one network in its paper's order. Recording needs no device; what a
//! network reads from outside the frame (prompt, timestep) enters through named inputs that the
//! plans in [`conditioning`] write.

pub mod autoencoder;
pub mod conditioning;
pub mod config;
mod layers;
mod resnet;
pub mod text_encoder;
mod transformer;
pub mod unet;

pub use config::{AutoencoderConfig, Prediction, SchedulerConfig, TextConfig, UnetConfig};
