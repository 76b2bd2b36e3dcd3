//! What `dreamglass bench` is asked to do.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use dreamglass_engine::kernels::Tier;

use crate::cli::{EngineArgs, StyleArgs};

pub const HELP: &str = "\
Examples:
  dreamglass bench --size 512x512 --steps 1
  dreamglass bench --source photo.jpg --frames 200 --report report.html --trace trace.json
  dreamglass bench --json before.json
  dreamglass bench --compare before.json --threshold 1.05
  dreamglass bench --source still --similarity-filter

Runs the engine that the window uses, without window or camera, in three parts:
  1. cold start: open the device, load, compile, read the prompt, make the first picture
  2. one frame at a time (as many as --frames), device times by turns of whole stages and of every
     dispatch: these give the tables of parts and kernels
  3. a stream (as many frames again) with a fresh frame whenever the engine takes one and up to
     two in flight: these give frames/s, latency and jitter, as they are without measuring
Percentiles lie between neighbours on a straight line. GB are 10^9 bytes; traffic is what every
dispatch has to read and write at least. --trace is opened by ui.perfetto.dev or chrome://tracing.

Exit codes: 0 done, 1 the run failed or a comparison is past the threshold, 2 bad arguments or
files, 130 ended by Ctrl-C, with the figures so far.";

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What the stream sees: `synthetic` (moves), `still` (does not), or a picture file
    #[arg(long, value_name = "NAME|PATH", default_value = "synthetic")]
    pub source: PathBuf,
    /// Frames that are measured, one at a time and as a stream
    #[arg(long, value_name = "N", default_value_t = 60)]
    #[arg(value_parser = clap::value_parser!(u32).range(2..=100_000))]
    pub frames: u32,
    /// Frames before them that are not measured
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub warmup: u32,
    /// Write all figures as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a report with graphs, one HTML file that needs nothing else
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Write a few frames' spans on device and CPU as Chrome trace JSON
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Compare with the JSON of an earlier run
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
    /// How many times as long a frame or a large part of one may take before --compare fails
    #[arg(long, value_name = "X", default_value = "1.10", requires = "compare", value_parser = threshold)]
    pub threshold: f64,
    /// Start with the model's files on the disk alone, as after a reboot: what the system has of them in memory is
    /// dropped first (Linux)
    #[arg(long)]
    pub cold_files: bool,
    /// Kernels of another family than the adapter's own [default: tile on GPUs, lane on CPU adapters]
    #[arg(long, value_name = "NAME")]
    pub kernels: Option<Family>,
    /// Do not measure what the device can do at best
    #[arg(long)]
    pub no_ceilings: bool,
    #[command(flatten)]
    pub engine: EngineArgs,
    #[command(flatten)]
    pub style: StyleArgs<true>,
}

/// Families of kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Family {
    /// Tiles in workgroup memory, or on matrix units: every GPU
    Tile,
    /// Registers and subgroups alone: CPU adapters
    Lane,
}

impl From<Family> for Tier {
    fn from(family: Family) -> Self {
        match family {
            Family::Tile => Self::Tile,
            Family::Lane => Self::Lane,
        }
    }
}

fn threshold(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("expected a number above 0, such as 1.10".into()),
    }
}
