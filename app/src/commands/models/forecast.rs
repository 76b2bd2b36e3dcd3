//! How long a frame will take: work over the share of an adapter's best that kernels of its kind reach.

use dreamglass_engine::Estimate;
use dreamglass_engine::estimate::Task;
use dreamglass_engine::kernels::Tier;
use dreamglass_engine::kernels::ceiling::Ceilings;
use serde::Serialize;

/// What kernels of one kind reach.
struct Reach {
    /// What the names of the kernels start with.
    kind: &'static str,
    /// Share of the rate of multiply-adds in registers.
    flops: f64,
    /// Share of the rate of a copy beyond the caches; what stays within them is faster than that.
    bytes: f64,
}

/// A kernel of any kind.
const ANY: &str = "";

/// `dreamglass bench` of `models/demo` at 256x256 in f32 on Mesa's CPU driver (llvmpipe, 256 bits, two cores): each kernel's
/// rate over the ceilings of the same run, 33 Gflop/s and 3.9 GB/s.
const ON_CPUS: [Reach; 7] = [
    Reach { kind: "conv2d_narrow", flops: 0.25, bytes: 1.0 },
    Reach { kind: "conv2d", flops: 0.5, bytes: 1.0 },
    Reach { kind: "gemm", flops: 0.42, bytes: 1.0 },
    Reach { kind: "attention", flops: 0.27, bytes: 1.0 },
    Reach { kind: "group_norm", flops: 1.0, bytes: 0.5 },
    Reach { kind: "picture_in", flops: 0.045, bytes: 1.0 },
    Reach { kind: ANY, flops: 0.1, bytes: 0.42 },
];
/// Cautious: portable tiles in f32 units; matrix units, where there are some, do better.
const ON_GPUS: [Reach; 3] = [
    Reach { kind: "attention", flops: 0.2, bytes: 0.5 },
    Reach { kind: "group_norm", flops: 0.1, bytes: 0.5 },
    Reach { kind: ANY, flops: 0.35, bytes: 0.6 },
];
/// What starting a dispatch and waiting for the one before takes.
const DISPATCH_S: [f64; 2] = [20e-6, 5e-6];

/// A frame's time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Forecast {
    /// On the device.
    pub frame_ms: f64,
    /// One frame after the other.
    pub frames_per_s: f64,
    /// How much it can be relied on.
    pub basis: &'static str,
}

/// The time of a frame that takes `estimate` on an adapter with such ceilings.
pub fn forecast(estimate: &Estimate, ceilings: &Ceilings, tier: Tier) -> Forecast {
    let (reach, dispatch_s, basis): (&[Reach], f64, _) = match tier {
        Tier::Lane => (&ON_CPUS, DISPATCH_S[0], "calibrated on Mesa's CPU driver"),
        Tier::Tile => (&ON_GPUS, DISPATCH_S[1], "a guess for GPUs: half or twice as much is likely, too"),
    };
    let seconds = |task: &Task| {
        let reach = reach.iter().find(|reach| task.kernel.starts_with(reach.kind));
        let (flops, bytes) = reach.map_or((1.0, 1.0), |reach| (reach.flops, reach.bytes));
        let counting = task.flops as f64 / (ceilings.fma_flops_per_s * flops);
        let moving = task.bytes as f64 / (ceilings.copy_bytes_per_s * bytes);
        f64::from(task.times) * (counting.max(moving) + dispatch_s)
    };
    let frame_s: f64 = estimate.tasks.iter().map(seconds).sum();
    Forecast { frame_ms: frame_s * 1e3, frames_per_s: 1.0 / frame_s.max(f64::MIN_POSITIVE), basis }
}
