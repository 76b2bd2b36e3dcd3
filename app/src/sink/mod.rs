//! Where pictures go.

pub mod picture;
pub mod video;

mod unfinished;
