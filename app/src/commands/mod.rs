//! One file per command.

pub mod bench;
mod cameras;
mod capture;
mod devices;
mod image;
mod live;
mod looks;
pub mod models;
pub mod serve;
pub mod tune;
mod verify;
mod video;

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use anyhow::Result;

use crate::cli::Command;

/// Runs a command to its exit code.
pub fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Image(arguments) => image::run(&arguments),
        Command::Video(arguments) => video::run(&arguments),
        Command::Live(arguments) => live::run(*arguments),
        Command::Serve(arguments) => serve::run(*arguments),
        Command::Cameras => cameras::run(),
        Command::Looks(arguments) => looks::run(&arguments),
        Command::Models(command) => models::run(&command),
        Command::Devices(arguments) => devices::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Tune(arguments) => tune::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
    }
}

/// Prints results, which go to standard output; all else goes to standard error.
fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // The reader, such as `head`, has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}
