//! The ops as plain loops in f64: what kernels are tested against. Never used to run a model.
