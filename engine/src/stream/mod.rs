//! The stream's state: numbers and noise, without a device, a clock or a thread.

pub mod noise;
