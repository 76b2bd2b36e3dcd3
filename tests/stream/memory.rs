//! Memory of a long stream, in a process of its own: other tests would be measured, too.

use std::process::Command;

use dreamglass_engine::Size;

use crate::loras;
use crate::world::{self, World, moving};

/// Set in the process that measures.
const ALONE: &str = "DREAMGLASS_STREAM_ALONE";

const SIZE: Size = Size::new(16, 8);

/// Runs the test called `name` in a process of its own, where `run` is what it does.
fn alone(name: &str, run: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return run();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let name = format!("memory::{name}");
    let output = command.args(["--exact", &name, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let told = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{}", told.concat());
    assert!(told[0].contains("1 passed"), "{}", told[0]);
    eprintln!("{}", told[1]);
}

/// Pages that the process holds in memory; none where the system does not say.
fn resident() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    statm.split(' ').nth(1)?.parse().ok()
}

fn mean(readings: &[f64]) -> f64 {
    readings.iter().sum::<f64>() / readings.len() as f64
}

#[test]
fn two_thousand_frames_take_no_more_memory_than_some() {
    alone("two_thousand_frames_take_no_more_memory_than_some", frames);
}

#[test]
fn two_hundred_weights_of_loras_take_no_more_memory_than_some() {
    alone("two_hundred_weights_of_loras_take_no_more_memory_than_some", || {
        let (mut readings, mut warm) = (Vec::new(), None);
        loras::changes(|at, world| {
            let bytes = world.live.gpu().counters().allocated_bytes;
            assert_eq!(*warm.get_or_insert(bytes), bytes, "device memory after change {at}");
            if at >= 40 {
                readings.extend(resident());
            }
        });
        stays("resident", &readings);
    });
}

/// That the mean of the first readings is about that of the last.
fn stays(what: &str, readings: &[f64]) {
    if let [early, .., late] = readings.chunks_exact(20).map(mean).collect::<Vec<_>>()[..] {
        eprintln!("{what}: {early:.0} pages early, {late:.0} late");
        assert!(late < 1.02 * early, "{early} pages grew to {late}");
    }
}

fn frames() {
    let engine = world::engine(&world::own_gpu(), world::LCM);
    let mut world = World::new(&engine, world::params(SIZE));
    let mut readings = Vec::new();
    let mut warm = None;
    for at in 0..2000 {
        if at % 40 == 0 {
            // More prompts than are kept, so that old ones must go.
            world.set(|p| (p.prompt, p.seed) = (format!("prompt {at}"), at));
        }
        world.show(moving(SIZE, at));
        world.shown.clear();
        let bytes = world.live.gpu().counters().allocated_bytes;
        if at == 400 {
            warm = Some(bytes);
        }
        if at >= 400 {
            assert_eq!(warm, Some(bytes), "device memory at frame {at}");
        }
        if at >= 400 && at % 10 == 0 {
            readings.extend(resident());
        }
    }
    assert_eq!(world.live.status().counters.shown, 2000);
    stays("resident", &readings);
}
