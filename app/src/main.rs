//! The `dreamglass` command.
fn main() {}
