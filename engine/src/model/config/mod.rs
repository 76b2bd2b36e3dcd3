//! Configs in diffusers' and transformers' layout, reduced to what the graph needs.
//!
//! A field that changes the graph is either supported or an error that names it and its value;
//! sizes are bounded, so that a damaged config cannot ask for an absurd model.

mod autoencoder;
mod fields;
mod scheduler;
mod text;
mod unet;

pub use autoencoder::{AutoencoderConfig, AutoencoderLayers, KlLayers, TinyLayers};
pub(crate) use fields::Fields;
pub use scheduler::{Prediction, SchedulerConfig};
pub use text::TextConfig;
pub use unet::UnetConfig;
