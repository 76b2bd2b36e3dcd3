//! What can go wrong below the engine, each with the thing named, what was expected and what was got.

/// An error from recording, compiling or running a plan.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A tensor handed to an op has the wrong shape.
    #[error("{op}: expected {expected}, got {got}")]
    Shape {
        /// Op or tensor concerned.
        op: String,
        /// What the op needs.
        expected: String,
        /// What it was given.
        got: String,
    },
    /// A tensor has a storage type that the op does not take.
    #[error("{op}: expected storage type {expected}, got {got}")]
    DType {
        /// Op or tensor concerned.
        op: String,
        /// What the op takes.
        expected: String,
        /// What it was given.
        got: String,
    },
    /// The op exists, but not for these arguments on this tier.
    #[error("{op} is not supported here: {what}")]
    Unsupported {
        /// Op concerned.
        op: String,
        /// The argument that is not supported.
        what: String,
    },
    /// Something is larger than the adapter allows.
    #[error("{what} needs {needed}, but the adapter's limit is {limit}")]
    Limit {
        /// The thing that is too large.
        what: String,
        /// What it needs.
        needed: u64,
        /// What the adapter allows.
        limit: u64,
    },
    /// A weight could not be had from its source.
    #[error("weight `{name}`: {message}")]
    Weight {
        /// The weight's checkpoint name.
        name: String,
        /// What went wrong.
        message: String,
    },
    /// A kernel variant did not compile: our bug or the driver's.
    #[error("kernel variant {variant} did not compile: {message}")]
    Compile {
        /// The variant's key.
        variant: String,
        /// The compiler's message.
        message: String,
    },
    /// No adapter fits the choice.
    #[error("{message}")]
    NoAdapter {
        /// What was looked for and what there is.
        message: String,
    },
    /// The device could not allocate.
    #[error("the device is out of memory while allocating {bytes} bytes for {what}")]
    OutOfMemory {
        /// What was being allocated.
        what: String,
        /// How much was asked for.
        bytes: u64,
    },
    /// The device is gone (driver reset, unplugged, removed).
    #[error("the device was lost: {reason}")]
    DeviceLost {
        /// The driver's reason.
        reason: String,
    },
    /// The driver reported an error that fits nowhere else.
    #[error("the device reported an error: {message}")]
    Device {
        /// The driver's message.
        message: String,
    },
}

/// Shorthand for a [`KernelError::Shape`].
pub(crate) fn shape_error(
    op: &str,
    expected: impl std::fmt::Display,
    got: impl std::fmt::Display,
) -> KernelError {
    KernelError::Shape { op: op.into(), expected: expected.to_string(), got: got.to_string() }
}
