//! Which failure ends with which exit code.

use std::fmt;
use std::process::ExitCode;

use dreamglass_engine::EngineError;
use dreamglass_engine::kernels::KernelError;

/// The run failed: the device, ffmpeg, the disk.
const RUN: u8 = 1;
/// What the user handed in cannot be used.
const USAGE: u8 = 2;
/// Ended by Ctrl-C, as shells say it: 128 + SIGINT.
pub const INTERRUPTED: u8 = 130;

/// An error in what the user handed in.
#[derive(Debug)]
struct BadInput(String);

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadInput {}

/// An error that ends the program with exit code 2.
pub fn bad_input(message: impl Into<String>) -> anyhow::Error {
    BadInput(message.into()).into()
}

/// What helps where a picture is too large for the device.
pub fn advice(error: &anyhow::Error) -> &'static str {
    let is_limit = error.chain().any(|cause| {
        let kernel = match cause.downcast_ref::<EngineError>() {
            Some(EngineError::Kernel(kernel)) => Some(kernel),
            _ => cause.downcast_ref::<KernelError>(),
        };
        matches!(kernel, Some(KernelError::Limit { .. } | KernelError::OutOfMemory { .. }))
    });
    if is_limit { ": a smaller --size, --dtype f16 or a tiny autoencoder (--vae) takes less" } else { "" }
}

/// 2 for what the user can mend in arguments and files, 1 for all that fails while running.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    let is_input = error.chain().any(|cause| {
        cause.is::<BadInput>()
            || cause.downcast_ref::<EngineError>().is_some_and(|e| match e {
                EngineError::Kernel(kernel) => matches!(kernel, KernelError::Weight { .. }),
                EngineError::Io { .. } => false,
                _ => true,
            })
    });
    ExitCode::from(if is_input { USAGE } else { RUN })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_too_large_comes_with_advice() {
        let too_large = KernelError::Limit { what: "decoder".into(), needed: 2, limit: 1 };
        let wrapped = anyhow::Error::from(EngineError::Kernel(too_large.clone())).context("model");
        for error in [wrapped, too_large.into()] {
            let advice = advice(&error);
            assert!(
                ["--size", "--dtype f16", "--vae"].iter().all(|option| advice.contains(option)),
                "{error:#}"
            );
        }
        assert_eq!(advice(&bad_input("steps is 0")), "");
    }
}
