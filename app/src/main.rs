//! The `dreamglass` command: pictures and video through an image-to-image model on any GPU.

mod cli;
mod clock;
mod codec;
mod commands;
mod config;
mod disk_cache;
mod failure;
mod ffmpeg;
mod hub;
mod interrupt;
mod live;
mod model;
mod parameters;
mod peers;
mod pipeline;
mod preset;
mod repository;
mod rtc;
mod sink;
mod source;
mod tuning_file;
mod web;
mod workers;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let arguments = cli::Cli::parse();
    let said = std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".into());
    let filter = EnvFilter::try_new(format!("{},{said}", rtc::QUIET_LOG));
    let filter = filter.unwrap_or_else(|_| EnvFilter::new(format!("warn,{}", rtc::QUIET_LOG)));
    let has_colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(has_colours)
        .with_writer(std::io::stderr)
        .init();
    commands::run(arguments.command).unwrap_or_else(|error| {
        eprintln!("error: {error:#}{}", failure::advice(&error));
        failure::exit_code(&error)
    })
}
