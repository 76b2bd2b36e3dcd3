//! The built program: pictures, video and verification on small seeded models, and hostile input.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test stops at the first surprise")]

mod broken_models;
mod broken_pictures;
mod devices;
mod hub;
mod live;
mod loras;
mod models;
mod pictures;
mod program;
mod pulls;
mod serve;
mod single;
mod verify;
mod videos;
#[path = "../../../tests/goldens/weights.rs"]
#[allow(dead_code, reason = "the generator's tests use all of it")]
mod weights;
mod window;
