//! Chrome's trace format: spans of a few frames on device and CPU.

use dreamglass_engine::kernels::profile::Span;
use serde_json::{Value, json};

use super::parts::part;
use super::session::ms;
use super::single::Traced;

const CPU: u32 = 1;
const STAGES: u32 = 2;
const KERNELS: u32 = 3;

/// A track for each part of a frame, each kernel, and the CPU.
///
/// Device and CPU have clocks of their own: the device's is moved so that no frame begins before it
/// was submitted, and one begins right then.
pub fn json(frames: &[Traced]) -> Value {
    let mut events = Vec::new();
    for (process, name) in [(CPU, "CPU"), (STAGES, "GPU by part"), (KERNELS, "GPU by kernel")] {
        events.push(json!({"ph": "M", "name": "process_name", "pid": process, "args": {"name": name}}));
    }
    events.push(thread(CPU, 0, "push and drive"));
    let mut tracks = [(STAGES, Vec::new()), (KERNELS, Vec::new())];
    let offset_ms = offset_ms(frames);
    for (ix, frame) in frames.iter().enumerate() {
        cpu(frame, ix, &mut events);
        for span in &frame.spans {
            let names = [part(span), span.kernel.clone()];
            for ((process, known), name) in tracks.iter_mut().zip(names) {
                let track = known.iter().position(|k| *k == name).unwrap_or_else(|| {
                    events.push(thread(*process, known.len(), &name));
                    known.push(name);
                    known.len() - 1
                });
                events.push(gpu(span, [*process, track as u32], offset_ms));
            }
        }
    }
    json!({"displayTimeUnit": "ms", "traceEvents": events})
}

fn thread(process: u32, track: usize, name: &str) -> Value {
    json!({"ph": "M", "name": "thread_name", "pid": process, "tid": track, "args": {"name": name}})
}

fn cpu(frame: &Traced, ix: usize, events: &mut Vec<Value>) {
    let turn = &frame.turn;
    let spans = [
        ("push", [turn.captured_at, turn.push]),
        ("upload and submit", turn.submit),
        ("read-back", turn.finish),
    ];
    for (name, [begun, took]) in spans {
        events.push(json!({
            "ph": "X", "name": name, "cat": "cpu", "pid": CPU, "tid": 0,
            "ts": 1e3 * ms(begun), "dur": 1e3 * ms(took), "args": {"frame": ix},
        }));
    }
}

fn gpu(span: &Span, [process, track]: [u32; 2], offset_ms: f64) -> Value {
    json!({
        "ph": "X", "name": span.label, "cat": span.stage, "pid": process, "tid": track,
        "ts": 1e3 * (span.start_ns / 1e6 + offset_ms), "dur": span.duration_ns() / 1e3,
        "args": {"kernel": span.kernel, "flops": span.flops, "bytes": span.bytes},
    })
}

/// What turns the device's clock into the session's.
fn offset_ms(frames: &[Traced]) -> f64 {
    let offset = |frame: &Traced| {
        let [begun, took] = frame.turn.submit;
        frame.spans.first().map(|first| ms(begun + took) - first.start_ns / 1e6)
    };
    frames.iter().filter_map(offset).reduce(f64::max).unwrap_or(0.0)
}
