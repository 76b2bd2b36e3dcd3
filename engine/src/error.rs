//! What can go wrong in the engine, each with the thing named, what was expected and what was got.

use std::path::PathBuf;

use dreamglass_kernels::KernelError;

/// An error from loading a model or making a picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The checkpoint lacks a tensor that the model needs.
    #[error("the checkpoint has no weight `{name}`")]
    MissingWeight {
        /// Its checkpoint name.
        name: String,
    },
    /// A tensor of the checkpoint has another shape than the config asks for.
    #[error("weight `{name}`: the config asks for shape {expected:?}, the checkpoint has {got:?}")]
    WeightShape {
        /// Its checkpoint name.
        name: String,
        /// Shape that follows from the config.
        expected: Vec<u32>,
        /// Shape in the checkpoint.
        got: Vec<usize>,
    },
    /// A tensor of the checkpoint holds NaN or an infinity.
    #[error("weight `{name}`: value {index} is {value}, not a finite number")]
    WeightValue {
        /// Its checkpoint name.
        name: String,
        /// Row-major index of the first such value.
        index: usize,
        /// The value.
        value: f32,
    },
    /// A config asks for something that is not supported, or makes no sense.
    #[error("{file}: field `{field}` is {value}, expected {expected}")]
    Config {
        /// The config file.
        file: String,
        /// The field.
        field: String,
        /// Its value, as JSON.
        value: String,
        /// What is supported.
        expected: String,
    },
    /// A file of the model is not what it should be.
    #[error("{path}: {message}")]
    Checkpoint {
        /// The file, relative to the model.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// A prompt cannot be used.
    #[error("prompt: {message}")]
    Prompt {
        /// What is wrong with it.
        message: String,
    },
    /// A picture, or the size asked for, cannot be used.
    #[error("picture: {message}")]
    Frame {
        /// What is wrong with it.
        message: String,
    },
    /// Steps, strength or guidance cannot be used.
    #[error("schedule: {message}")]
    Schedule {
        /// What is wrong with them.
        message: String,
    },
    /// A parameter does not exist or does not take a value.
    #[error("parameter `{name}`: expected {expected}, got `{got}`")]
    Parameter {
        /// Its name.
        name: String,
        /// What it takes.
        expected: String,
        /// The value.
        got: String,
    },
    /// Recording, compiling or running failed below.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}
