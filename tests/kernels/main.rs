//! Every op against its f64 reference, on the default adapter, on real and odd shapes.

mod attention;
mod ceilings;
mod checks;
mod elementwise;
mod embeddings;
mod frames;
mod fused;
mod harness;
mod int8;
mod matrices;
mod norms;
mod pictures;
mod pipelines;
mod products;
mod profiles;
mod refusals;
mod similarity;
mod tuning;
mod uploads;
