//! The figures of a run, as its JSON has them. `schema` changes when a reader has to.

use std::collections::BTreeMap;

use dreamglass_engine::params::Value;
use serde::{Deserialize, Serialize};

use super::parts::Row;
use super::stats::Spread;

/// Version of the JSON.
pub const SCHEMA: u32 = 2;

/// Everything that was measured. Times are in milliseconds, GFLOP and GB are 10⁹.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub schema: u32,
    pub version: String,
    /// False when the user ended the run.
    pub is_complete: bool,
    pub adapter: Adapter,
    pub setup: Setup,
    pub cold_start: ColdStart,
    /// Device time of a frame alone, from the first beginning to the last end. None where the
    /// adapter has no timestamps.
    pub frame_gpu_ms: Option<Spread>,
    pub single: Option<SingleFigures>,
    pub stream: Option<StreamFigures>,
    pub work: Option<Work>,
    pub ceilings: Option<CeilingFigures>,
    /// Stages of a frame and blocks of its UNet.
    pub stages: Vec<Row>,
    pub consistency: Option<Consistency>,
    /// By kernel.
    pub kernels: Vec<Row>,
    /// By dispatch, steps of the same label added up.
    pub dispatches: Vec<Row>,
    pub memory: MemoryFigures,
    pub filter: Option<FilterFigures>,
    pub warnings: Vec<String>,
    pub series: Series,
}

/// The adapter that ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adapter {
    pub name: String,
    pub backend: String,
    pub device_type: String,
    pub driver: String,
    pub is_software: bool,
    pub tier: String,
}

/// What ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    pub model: String,
    pub size: [u32; 2],
    pub steps: u32,
    pub batching: String,
    pub dtype: String,
    pub source: String,
    pub source_size: [u32; 2],
    pub frames: u32,
    pub warmup: u32,
    /// Parameters that are not at their default.
    pub parameters: BTreeMap<String, Value>,
}

/// From the program's start to the first picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ColdStart {
    /// Reading the files of weights from end to end and nothing else, from where the start reads them: no part of the
    /// start but what it is measured by. 0 where they are in the program.
    #[serde(default)]
    pub read_ms: f64,
    /// Whether that is the disk, as the system was made to drop them from memory; memory, where it was not.
    #[serde(default)]
    pub has_cold_files: bool,
    /// Bytes of those files.
    #[serde(default)]
    pub read_bytes: u64,
    pub open_ms: f64,
    /// Reading the model's configs, checking its files against them, and loading what reads prompts and times.
    pub load_ms: f64,
    /// Recording plans, compiling their kernels, uploading their weights.
    pub compile_ms: f64,
    /// Nothing is tuned while a stream starts: 0. What `dreamglass tune` found is read with the device.
    pub tune_ms: f64,
    /// Reading the first prompt: little where its embeddings are kept from an earlier run.
    pub prompt_ms: f64,
    /// Loading the text encoder behind the first picture; 0 where its prompt needed it.
    #[serde(default)]
    pub text_encoder_ms: f64,
    pub first_frame_ms: f64,
    /// All of it.
    pub total_ms: f64,
    /// What the start takes longer than reading the files: less than 0 where it does so while the disk is read.
    #[serde(default)]
    pub beyond_reading_ms: f64,
    /// Of loading, compiling and the prompt: reading, converting, packing and uploading weights.
    #[serde(default)]
    pub weights_ms: f64,
    /// Of the same, side by side with the weights: compiling kernels.
    #[serde(default)]
    pub kernels_ms: f64,
    /// Whether kernels that an earlier run compiled were found.
    #[serde(default)]
    pub is_warm: bool,
    /// Classes of dispatches that are tuned on this device.
    #[serde(default)]
    pub tuned_classes: usize,
}

/// Frames one at a time, those with timestamps around every dispatch left out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SingleFigures {
    /// From a frame's capture until its job is done: its latency, unless the batch holds it back.
    pub job_ms: Spread,
    /// Handing a frame over, by the clock.
    pub push_ms: Spread,
    /// Uploading it, encoding and submitting the job, by the clock.
    pub submit_ms: Spread,
    /// Taking the result, read back to the host, by the clock.
    pub read_back_ms: Spread,
}

/// The stream.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StreamFigures {
    pub outputs: usize,
    pub fps: f64,
    /// From the capture of a frame to its picture on the host.
    pub latency_ms: Spread,
    /// Between outputs.
    pub interval_ms: Spread,
    /// 95th percentile of the intervals less the 50th.
    pub jitter_ms: f64,
    /// Standard deviation of the intervals.
    pub jitter_stddev_ms: f64,
    /// What the thread that drives the engine spends on a core from one job to the next: upload, encoding, submitting
    /// and taking results. Where the system does not say, by the clock.
    pub cpu_ms: Spread,
    /// Of that, what encoding and submitting takes; earlier versions did not tell.
    #[serde(default)]
    pub encode_ms: Option<Spread>,
    /// Each call that submitted a job, by the clock.
    pub submit_ms: Spread,
    /// Share of the time that the device worked, from the device time of a frame alone.
    pub device_busy: Option<f64>,
}

/// What a frame has to do, and how fast it was done.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// None where dispatches could not be measured one by one.
    pub dispatches: Option<f64>,
    pub gflop: f64,
    /// Bytes that every dispatch has to read and write at least.
    pub gbytes: f64,
    pub gflop_per_s: f64,
    pub gbytes_per_s: f64,
}

/// What the adapter can do at best, and how much of it a frame reached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CeilingFigures {
    pub gflop_per_s: f64,
    pub gbytes_per_s: f64,
    pub flop_share: f64,
    pub byte_share: f64,
}

/// Whether the parts make up the whole.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Consistency {
    /// Sum of the parts' medians.
    pub parts_ms: f64,
    /// Median of the same frames from the first beginning to the last end.
    pub whole_ms: f64,
    pub parts_over_whole: f64,
    /// Median of the other frames, without timestamps between dispatches.
    pub plain_ms: f64,
    /// Above 1 by what timestamps between dispatches cost.
    pub parts_over_plain: f64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MemoryFigures {
    /// Buffers on the device.
    pub device_bytes: u64,
    /// Most that the process had in memory, where the system says so.
    pub peak_resident_bytes: Option<u64>,
}

/// What the similarity filter saved.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FilterFigures {
    pub processed: u64,
    pub skipped: u64,
    pub skipped_share: f64,
    /// Device time of comparing a frame with the last one.
    pub compare_gpu_ms: Option<f64>,
    /// Share of the device time that the same frames would have taken without the filter.
    pub saved_gpu_share: Option<f64>,
}

/// Frame by frame.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    pub gpu_ms: Vec<f64>,
    pub latency_ms: Vec<f64>,
    pub interval_ms: Vec<f64>,
}
