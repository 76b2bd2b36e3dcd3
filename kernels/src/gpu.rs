//! Adapters and the device: choice, capabilities, limits, loss.
