//! What is measured of a stream, as the web tells it.

use std::sync::atomic::Ordering;

use dreamglass_engine::stream::Counters;
use serde::Serialize;
use utoipa::ToSchema;

use crate::codec::video_in::Counts;
use crate::codec::video_out::Figures;
use crate::live;

/// Where a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The model is being loaded.
    Loading,
    /// No frame has come yet.
    Waiting,
    /// Kernels are being compiled for the first picture.
    Compiling,
    /// Pictures come.
    Live,
    /// The source ended: the last picture stays.
    Ended,
}

impl From<live::Phase> for Phase {
    fn from(phase: live::Phase) -> Self {
        match phase {
            live::Phase::Loading => Self::Loading,
            live::Phase::Waiting => Self::Waiting,
            live::Phase::Compiling => Self::Compiling,
            live::Phase::Live => Self::Live,
            live::Phase::Ended => Self::Ended,
        }
    }
}

/// What became of frames since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Frames {
    /// Frames that the source counted.
    pub received: u64,
    /// Replaced by newer ones before their turn came.
    pub dropped: u64,
    /// Left out as too similar to the last one.
    pub skipped: u64,
    /// Entered the engine.
    pub processed: u64,
    /// Came out as pictures.
    pub shown: u64,
    /// Were lost to an error on the device.
    pub failed: u64,
}

impl From<Counters> for Frames {
    fn from(counters: Counters) -> Self {
        let Counters { received, dropped, skipped, processed, shown, failed, .. } = counters;
        Self { received, dropped, skipped, processed, shown, failed }
    }
}

/// What is coded for the viewers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, ToSchema)]
pub struct VideoReport {
    /// Pictures per second.
    pub encoded_fps: f32,
    /// Bits per second.
    pub bitrate_bps: f64,
    /// Bits per second that are aimed at.
    pub target_bps: u32,
    /// Pictures since the start.
    pub frames: u64,
    /// Key frames since the start.
    pub key_frames: u64,
    /// Bytes since the start.
    pub bytes: u64,
    /// Milliseconds that the last picture took.
    pub encode_ms: f64,
    /// Pictures that wait for the encoder.
    pub queue: u32,
}

impl From<Figures> for VideoReport {
    fn from(figures: Figures) -> Self {
        Self {
            encoded_fps: figures.fps,
            bitrate_bps: figures.bits_per_s,
            target_bps: figures.target,
            frames: figures.frames,
            key_frames: figures.key_frames,
            bytes: figures.bytes,
            encode_ms: figures.encode_s * 1e3,
            queue: figures.queue,
        }
    }
}

/// What comes from the publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct PublisherReport {
    /// Pictures decoded.
    pub decoded: u64,
    /// Coded pictures left out because the decoder was behind.
    pub dropped: u64,
    /// Coded pictures that could not be read.
    pub broken: u64,
}

impl From<&Counts> for PublisherReport {
    fn from(counts: &Counts) -> Self {
        let [decoded, dropped, broken] =
            [&counts.decoded, &counts.dropped, &counts.broken].map(|c| c.load(Ordering::Relaxed));
        Self { decoded, dropped, broken }
    }
}

/// Everything that is measured of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Report {
    /// Name of the stream.
    pub stream: String,
    /// Where it is.
    pub phase: Phase,
    /// What its source calls itself.
    pub source: String,
    /// Size of the last picture, such as `512x512`; none before the first.
    pub size: Option<String>,
    /// Pictures per second that the engine makes.
    pub fps: f32,
    /// Median milliseconds from capture to result; none before the first.
    pub latency_ms: Option<f32>,
    /// Frames by which pictures lag because steps are spread over frames.
    pub lag_frames: usize,
    /// What became of frames.
    pub frames: Frames,
    /// Whether other kernels are being made while pictures come.
    pub is_preparing: bool,
    /// What is coded.
    pub video: VideoReport,
    /// Viewers.
    pub viewers: u64,
    /// What comes from the publisher, where there is one.
    pub publisher: Option<PublisherReport>,
    /// Name of the device.
    pub device: String,
}

impl Report {
    /// Of a stream that is over.
    pub fn over(stream: &str) -> Self {
        Self {
            stream: stream.into(),
            phase: Phase::Ended,
            source: String::new(),
            size: None,
            fps: 0.0,
            latency_ms: None,
            lag_frames: 0,
            frames: Frames::default(),
            is_preparing: false,
            video: VideoReport::default(),
            viewers: 0,
            publisher: None,
            device: String::new(),
        }
    }
}
