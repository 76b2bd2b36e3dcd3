//! One op of burn's on its wgpu backend, timed: `dreamglass-burn-peer conv 64 320 320`.
//!
//! Prints one line of JSON: seconds of the first call (compilation and tuning), the median of the
//! calls behind it in milliseconds, GFLOP/s, and the relative L2 error against plain loops, since a
//! kernel that fails can do so silently. Exit code 1 and a message when it fails, 2 for bad arguments.

mod shape;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use burn::tensor::{Device, DeviceKind, Tensor};

use shape::Shape;

/// How long the calls behind the first are repeated.
const MEASURED: Duration = Duration::from_secs(3);
/// How long one sample takes at least: calls are repeated within it, so that waiting costs nothing.
const SAMPLE: Duration = Duration::from_millis(20);
/// Fewest samples.
const SAMPLES: usize = 5;
/// Largest relative L2 error of a result that counts: far above that of f32 or reduced products,
/// far below that of a kernel that did not run.
const TOLERANCE: f64 = 1e-2;

/// What came out.
struct Figures {
    first_s: f64,
    median_ms: f64,
    samples: usize,
    error: f64,
}

#[cfg(feature = "vulkan")]
fn device() -> Device {
    Device::vulkan(DeviceKind::DefaultDevice)
}

#[cfg(not(feature = "vulkan"))]
fn device() -> Device {
    Device::wgpu(DeviceKind::DefaultDevice)
}

/// Runs `op` so many times and waits for it; the result is that of the last call.
fn run(op: &dyn Fn() -> Tensor<4>, times: usize, device: &Device) -> Result<(Tensor<4>, Duration), String> {
    let begun = Instant::now();
    let mut result = op();
    for _ in 1..times {
        result = op();
    }
    device.sync().map_err(|e| format!("the device failed: {e:?}"))?;
    Ok((result, begun.elapsed()))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

fn measure(shape: Shape) -> Result<Figures, String> {
    let device = device();
    let inputs = shape.inputs();
    let op = shape.op(&inputs, &device);
    let (_, first) = run(&op, 1, &device)?;
    let (_, once) = run(&op, 1, &device)?;
    let times = (SAMPLE.as_secs_f64() / once.as_secs_f64()).ceil().clamp(1.0, 1000.0) as usize;
    let (begun, mut samples) = (Instant::now(), Vec::new());
    let result = loop {
        let (result, took) = run(&op, times, &device)?;
        samples.push(took.as_secs_f64() * 1e3 / times as f64);
        if samples.len() >= SAMPLES && begun.elapsed() >= MEASURED {
            break result;
        }
    };
    let data = result.try_into_data().map_err(|e| format!("the result cannot be read: {e:?}"))?;
    let values = data.to_vec::<f32>().map_err(|e| format!("the result is not f32: {e:?}"))?;
    let error = shape.error(&inputs, &values)?;
    // Also when it is no number.
    if error.is_nan() || error > TOLERANCE {
        return Err(format!("the result is wrong: relative error {error:.3e}, at most {TOLERANCE} expected"));
    }
    Ok(Figures { first_s: first.as_secs_f64(), samples: samples.len(), median_ms: median(samples), error })
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let shape = match Shape::parse(&words) {
        Ok(shape) => shape,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    match measure(shape) {
        Ok(Figures { first_s, median_ms, samples, error }) => {
            let gflop_per_s = shape.flops() / median_ms / 1e6;
            println!(
                "{{\"first_s\": {first_s:.3}, \"median_ms\": {median_ms:.6}, \"samples\": {samples}, \
                 \"gflop_per_s\": {gflop_per_s:.3}, \"relative_error\": {error:.3e}}}"
            );
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
