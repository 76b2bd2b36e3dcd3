//! Prompts to tokens.

mod tokenizer;

pub use tokenizer::{Tokens, Tokenizer};
