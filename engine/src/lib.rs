//! The engine: placeholder while the first model graph is built.
