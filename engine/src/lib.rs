//! An image-to-image engine: checkpoints, networks, schedules and prompts on top of the kernels.
//!
//! Weights keep their checkpoint names ([`weights`]), each network is recorded by one file
//! ([`model`]), the sampler's numbers are tables ([`schedule`]), prompts become tokens ([`text`]).
//! [`Engine`] puts them together: it loads a model in diffusers' layout and turns pictures into
//! pictures, keeping plans, weights and conditioning between them. [`Live`] does the same for a
//! stream of frames under parameters ([`params`]) that change while it runs; what happens to which
//! frame is decided by a state machine without device, thread or clock ([`stream`]).

pub mod engine;
pub mod error;
pub mod estimate;
pub mod family;
pub mod frame;
pub mod live;
pub mod model;
pub mod networks;
pub mod params;
pub mod parts;
pub mod planes;
mod plans;
pub mod prompt_memory;
pub mod schedule;
pub mod settings;
pub mod stream;
pub mod text;
pub mod weights;

pub use dreamglass_kernels as kernels;
pub use dreamglass_kernels::exec::GpuTensor;
pub use dreamglass_kernels::gpu::{AdapterChoice, AdapterSummary, Gpu};
pub use engine::{Engine, EngineOptions};
pub use error::EngineError;
pub use estimate::Estimate;
pub use family::{Defaults, Family};
pub use frame::{Fit, Picture, Size};
pub use live::Live;
pub use networks::{Network, WeightStorage};
pub use params::Params;
pub use parts::{Trace, UnetInputs};
pub use planes::Planes;
pub use prompt_memory::PromptStore;
pub use schedule::{Sampler, StrengthRule};
pub use settings::Settings;
pub use weights::{LoraFile, ModelFiles, SingleFile};
