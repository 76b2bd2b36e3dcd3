//! Where pictures come from.

pub mod picture;
pub mod video;
