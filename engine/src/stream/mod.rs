//! The stream: which frame is processed when, with which numbers, as a pure state machine.
//!
//! No device, thread, clock or chance of its own: [`Stream`] is told of frames, finished work and
//! the time, and says what to do next. [`crate::live`] does it on a device.

pub mod blend;
mod machine;
pub mod noise;
pub mod prompts;
pub mod similarity;
pub mod tables;

pub use machine::{Command, Counters, Frame, IN_FLIGHT, Job, Layout, Output, Setup, Shown, Stream};

#[cfg(test)]
mod tests;
