//! `dreamglass models fit`: what a model takes on an adapter, and how fast it will be, before it is loaded.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use dreamglass_engine::estimate::{Configs, Estimate};
use dreamglass_engine::kernels::ceiling::Ceilings;
use dreamglass_engine::kernels::gpu::AdapterChoice;
use dreamglass_engine::kernels::{DType, KernelError};
use dreamglass_engine::model::{AutoencoderConfig, SchedulerConfig, TextConfig, UnetConfig};
use dreamglass_engine::{EngineError, Family, Gpu, LoraFile, ModelFiles};
use indicatif::BinaryBytes;
use serde::Serialize;

use super::forecast::{Forecast, forecast};
use crate::cli::{self, Precision, StyleArgs, Weights};
use crate::commands::print;
use crate::config::{self, Style};
use crate::model;

pub const HELP: &str = "\
Examples:
  dreamglass models fit sd-turbo
  dreamglass models fit lcm-dreamshaper --vae taesd --size 768x512 --steps 4 --batching throughput
  dreamglass models fit ~/models/sd15 --lora lcm-lora-sd15 --adapter 0 --dtype f32 --json

Reads the configs, plans a frame of a stream and measures for a second or two what the adapter can
do at best; no weights are loaded. Memory is that of the plans. Times are a forecast: every kernel
is given the share of the adapter's best that kernels of its kind reached on Mesa's CPU driver, and
on a GPU a cautious guess, where half and twice as much are likely, too. `dreamglass bench` measures.

Exit codes: 0 it fits, 1 it does not or the device failed, 2 bad arguments or files.";

#[derive(Debug, Args)]
pub struct FitArgs {
    /// Model folder or file, name of one that was pulled, or `demo` for the one inside the program
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// Another autoencoder than the model's, as a folder or file or by the name of one that was pulled
    #[arg(long, value_name = "PATH|NAME", value_parser = cli::autoencoder)]
    pub vae: Option<PathBuf>,
    /// LoRA that the model is used with: it changes what suits the model, not what it takes
    #[arg(long = "lora", value_name = "FILE|NAME[=WEIGHT]", value_parser = cli::lora)]
    pub loras: Vec<LoraFile>,
    /// Adapter by index or part of its name, see `dreamglass devices` [default: auto]
    #[arg(long, value_name = "INDEX|NAME", env = "DREAMGLASS_ADAPTER", value_parser = cli::adapter)]
    pub adapter: Option<AdapterChoice>,
    /// Storage type of weights and activations
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    pub dtype: Precision,
    /// Storage of the weights of convolutions and linear layers
    #[arg(long, value_name = "TYPE", default_value = "same")]
    pub weights: Weights,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub style: StyleArgs<true>,
}

/// The configs of a model.
struct Parsed {
    unet: UnetConfig,
    vae: AutoencoderConfig,
    text: TextConfig,
    scheduler: SchedulerConfig,
    family: Family,
}

/// What is said.
#[derive(Debug, Serialize)]
struct Report {
    adapter: String,
    family: &'static str,
    dtype: String,
    size: [u32; 2],
    steps: u32,
    /// Whether a stream takes so many steps; pictures and videos do.
    is_live: bool,
    weight_bytes: u64,
    activation_bytes: u64,
    total_bytes: u64,
    /// What the adapter has, where its driver says, or what is free where it is a CPU.
    memory_bytes: Option<u64>,
    largest_binding_bytes: u64,
    max_binding_bytes: u64,
    fits: bool,
    gflop: f64,
    dispatches: usize,
    forecast: Forecast,
    ceiling_gflop_per_s: f64,
    ceiling_gbytes_per_s: f64,
}

/// Whether the model fits the adapter.
pub fn run(arguments: &FitArgs) -> Result<ExitCode> {
    let files = model::files(&arguments.model)?;
    let Style { params, .. } = Style::for_measuring(&arguments.style, &files)?;
    let parsed = Parsed::new(files, arguments);
    let parsed = parsed.with_context(|| format!("model {}", arguments.model.display()))?;
    let gpu = config::open_gpu(&arguments.adapter.clone().unwrap_or_default())?;
    let dtype = config::dtype(arguments.dtype);
    let weights = config::weights(arguments.weights);
    let estimate = match Estimate::new(&parsed.configs(), gpu.target(), &params, dtype, weights) {
        Err(EngineError::Kernel(error @ KernelError::Limit { .. })) => {
            return Err(error).with_context(|| format!("it does not fit {}", gpu.summary().name));
        }
        estimate => estimate?,
    };
    let ceilings = Ceilings::measure(&gpu).context("measuring the adapter")?;
    let report = Report::new(&parsed, &gpu, dtype, &estimate, &ceilings);
    match arguments.json {
        true => print(&format!("{:#}\n", serde_json::to_value(&report)?))?,
        false => print(&report.in_text())?,
    }
    Ok(if report.fits { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Parsed {
    fn new(files: ModelFiles, arguments: &FitArgs) -> Result<Self> {
        let of =
            |files: &ModelFiles, name: &str| Ok::<_, EngineError>((files.path(name), files.require(name)?));
        let (path, bytes) = of(&files, "unet/config.json")?;
        let unet = UnetConfig::parse(&path, &bytes)?;
        let (path, bytes) = of(&files, "scheduler/scheduler_config.json")?;
        let scheduler = SchedulerConfig::parse(&path, &bytes)?;
        let (path, bytes) = of(&files, "text_encoder/config.json")?;
        let text = TextConfig::parse(&path, &bytes)?;
        let other = arguments.vae.as_deref().map(ModelFiles::at).transpose()?;
        let files = other.unwrap_or(files);
        let is_nested = files.open("vae/config.json")?.is_some();
        let (path, bytes) = of(&files, if is_nested { "vae/config.json" } else { "config.json" })?;
        let vae = AutoencoderConfig::parse(&path, &bytes)?;
        let family = Family::of(&unet, &scheduler, &arguments.loras);
        Ok(Self { unet, vae, text, scheduler, family })
    }
    fn configs(&self) -> Configs<'_> {
        let Self { unet, vae, text, scheduler, family } = self;
        Configs { unet, vae, text, scheduler, family: *family }
    }
}

/// Bytes that the adapter has; a CPU's are those that are free, as its driver names a limit of its own and keeps to none.
fn memory(gpu: &Gpu) -> Option<u64> {
    let free = gpu.summary().is_software.then(free_memory).flatten();
    free.or_else(|| gpu.memory_bytes())
}

/// Linux says it in `/proc`.
fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

impl Report {
    fn new(parsed: &Parsed, gpu: &Gpu, dtype: DType, estimate: &Estimate, ceilings: &Ceilings) -> Self {
        let (summary, memory) = (gpu.summary(), memory(gpu));
        Self {
            adapter: format!("{} ({})", summary.name, summary.backend),
            family: parsed.family.label(),
            dtype: dtype.to_string(),
            size: [estimate.size.width, estimate.size.height],
            steps: estimate.steps,
            is_live: estimate.is_live,
            weight_bytes: estimate.weight_bytes,
            activation_bytes: estimate.slot_bytes + estimate.tensor_bytes,
            total_bytes: estimate.bytes(),
            memory_bytes: memory,
            largest_binding_bytes: estimate.largest_binding,
            max_binding_bytes: gpu.target().max_binding_bytes,
            fits: memory.is_none_or(|memory| estimate.bytes() <= memory),
            gflop: estimate.flops() as f64 / 1e9,
            dispatches: estimate.tasks.iter().map(|task| task.times as usize).sum(),
            forecast: forecast(estimate, ceilings, gpu.target().tier),
            ceiling_gflop_per_s: ceilings.fma_flops_per_s / 1e9,
            ceiling_gbytes_per_s: ceilings.copy_bytes_per_s / 1e9,
        }
    }

    fn in_text(&self) -> String {
        let mut out = String::new();
        let mut line = |text: String| {
            let _ = writeln!(out, "{text}");
        };
        let [width, height] = self.size;
        let steps = if self.steps == 1 { "step" } else { "steps" };
        line(format!("{} at {width}x{height}, {} {steps}, {}", self.family, self.steps, self.dtype));
        line(self.adapter.clone());
        let [weights, rest, total, binding] =
            [self.weight_bytes, self.activation_bytes, self.total_bytes, self.largest_binding_bytes]
                .map(BinaryBytes);
        line(format!("memory     {total}: weights {weights}, everything else {rest}"));
        let verdict = match (self.fits, self.memory_bytes) {
            (_, None) => "the driver does not say how much the adapter has".to_owned(),
            (true, Some(memory)) => format!("fits: the adapter has {}", BinaryBytes(memory)),
            (false, Some(memory)) => format!(
                "does not fit: the adapter has {}; take a smaller --size, --dtype f16, --weights int8 or a smaller model",
                BinaryBytes(memory)
            ),
        };
        line(format!("           {verdict}"));
        line(format!("           largest binding {binding} of {}", BinaryBytes(self.max_binding_bytes)));
        line(format!("work       {:.1} Gflop in {} dispatches", self.gflop, self.dispatches));
        line(format!(
            "ceilings   {:.0} Gflop/s, {:.1} GB/s, measured now",
            self.ceiling_gflop_per_s, self.ceiling_gbytes_per_s
        ));
        let Forecast { frame_ms, frames_per_s, basis } = &self.forecast;
        let frame = match *frame_ms >= 1e4 {
            true => format!("{:.1} s", frame_ms / 1e3),
            false => format!("{frame_ms:.1} ms, {frames_per_s:.1} frames/s"),
        };
        line(format!("frame      about {frame} ({basis})"));
        if !self.is_live {
            line(format!(
                "           a stream takes at most {} steps",
                dreamglass_engine::live::MAX_LIVE_STEPS
            ));
        }
        out
    }
}
