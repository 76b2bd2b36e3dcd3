//! What `dreamglass tune` is asked to do.

use clap::Args;

use crate::cli::{EngineArgs, StyleArgs};

pub const HELP: &str = "\
Examples:
  dreamglass tune
  dreamglass tune --model ~/models/sd-turbo --size 512x512 --steps 1
  dreamglass tune --model ~/models/lcm-sd15 --size 768x512 --steps 4 --batching throughput
  dreamglass tune --forget

Most of a frame's work can be shared out among a GPU's cores in several ways, and which is fastest
differs from one GPU to the next. Without tuning, rules choose. This command
  1. times every way to do every kind of convolution, product and attention of the model at this
     size, on random values; one whose result is not that of the portable kernel never wins
  2. tries the runners-up of what takes longest in whole frames
  3. compares whole frames with those of the rules, and keeps what was found unless they are slower
From then on every command uses it, on this adapter with this driver; other sizes, steps and models
add to it when they are tuned. It lies beside the compiled kernels (DREAMGLASS_KERNEL_CACHE).

Nothing else should use the device meanwhile. It takes some minutes; Ctrl-C keeps what was found.

Exit codes: 0 done, 1 the run failed, 2 bad arguments or files, 130 ended by Ctrl-C.";

#[derive(Debug, Args)]
pub struct TuneArgs {
    /// Whole frames of each turn in which two choices are compared
    #[arg(long, value_name = "N", default_value_t = 9)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub frames: u32,
    /// Measure and report, but keep nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Remove what was found on this device, and go back to the rules
    #[arg(long, conflicts_with = "dry_run")]
    pub forget: bool,
    #[command(flatten)]
    pub engine: EngineArgs,
    #[command(flatten)]
    pub style: StyleArgs<true>,
}
