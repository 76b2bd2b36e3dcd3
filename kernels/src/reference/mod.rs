//! The ops as plain loops in f64: what kernels are tested against. Never used to run a model.

pub mod activation;
pub mod attention;
pub mod ceiling;
pub mod conv2d;
pub mod embedding;
pub mod geglu;
pub mod gemm;
pub mod group_norm;
pub mod i420;
pub mod layer_norm;
pub mod linear_combination;
pub mod picture;
pub mod quantisation;
pub mod similarity;
pub mod timestep_embedding;
