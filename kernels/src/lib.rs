//! Neural-network kernels in hand-written WGSL, recorded into plans and replayed on wgpu.
//!
//! ops ([`ops`]) record into a [`plan::PlanBuilder`]; the finished [`plan::Plan`] is data;
//! [`exec::Executable`] prepares it on a [`gpu::Gpu`] and replays it, alone or with others in a
//! [`submit::Submission`]; a [`readback::ReadbackRing`] brings results back, a
//! [`profile::Profiler`] says where the time went, [`tune`] which kernels suit a device, [`ceiling::Ceilings`] what would be best. [`reference`] holds the
//! same ops as plain f64 loops, the truth that tests compare with.

mod buffer;
pub mod ceiling;
pub mod choice;
mod counters;
pub mod error;
pub mod exec;
pub mod gpu;
mod host_buffer;
mod matrices;
pub mod memory;
pub mod ops;
mod pages;
mod pipelines;
pub mod plan;
pub mod profile;
mod quantise;
pub mod readback;
pub mod reference;
pub mod shader;
mod slots;
pub mod submit;
pub mod target;
pub mod tensor;
pub mod tune;
mod upload;
pub mod weight;
mod weight_cache;

pub use counters::{Clock, Clocks, Counters};
pub use error::KernelError;
pub use pipelines::PipelineStore;
pub use plan::{Plan, PlanBuilder};
pub use target::{Matrices, Target, Tier};
pub use tensor::{Columns, DType, Shape, Tensor};
pub use weight::{Param, WeightSource};
