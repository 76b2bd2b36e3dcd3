//! Every kernel on the models' own shapes: `cargo bench -p dreamglass-benches -- NAME`. Criterion's
//! Gelem/s reads as GFLOP/s; ops that only move data are given in bytes of what they bind.

use std::cell::OnceCell;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use dreamglass_benches::{CASES, Op, Work, is_big, prepare, record, run, work};
use dreamglass_kernels::gpu::{Gpu, GpuOptions};
use dreamglass_kernels::{DType, KernelError};

fn or_stop<T>(id: &str, result: Result<T, KernelError>) -> T {
    result.unwrap_or_else(|e| panic!("{id}: {e}"))
}

/// Storage of tensors, and whether weights are bytes.
type Storage = (DType, bool);

fn bench(criterion: &mut Criterion, gpu: &Gpu, (name, op): (&str, Op), (dtype, is_int8): Storage) {
    let group = format!("{}_{dtype}{}", op.group(), if is_int8 { "_int8" } else { "" });
    let id = format!("{group}/{name}");
    let mut plan = or_stop(&id, record(gpu.target(), op, dtype));
    if is_int8 {
        plan = plan.with_int8_weights();
    }
    let is_asked_for = std::env::args().skip(1).any(|arg| !arg.starts_with('-') && id.contains(&arg));
    if gpu.summary().is_software && is_big(&plan) && !is_asked_for {
        return;
    }
    let mut group = criterion.benchmark_group(group);
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .throughput(match work(op, &plan) {
            Work::Flops(flops) => Throughput::Elements(flops),
            Work::Bytes(bytes) => Throughput::Bytes(bytes),
        });
    // Prepared within, so that a case that was not asked for costs no memory and no compilation.
    let executable = OnceCell::new();
    group.bench_function(name, |b| {
        let executable = executable.get_or_init(|| or_stop(&id, prepare(gpu, plan.clone())));
        b.iter(|| or_stop(&id, run(gpu, executable)));
    });
    group.finish();
}

fn main() {
    let gpu = Gpu::open(&GpuOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    let mut criterion = Criterion::default().configure_from_args();
    for (name, op) in CASES {
        for dtype in op.dtypes() {
            for is_int8 in [false, true].into_iter().filter(|is_int8| !is_int8 || op.is_product()) {
                bench(&mut criterion, &gpu, (name, *op), (*dtype, is_int8));
            }
        }
    }
    criterion.final_summary();
}
