//! Products on the models' own shapes: `cargo bench -p dreamglass-benches`. Elements are
//! floating-point operations, so criterion's Gelem/s reads as GFLOP/s.

use std::time::Duration;

use criterion::{Criterion, Throughput};
use dreamglass_benches::{CASES, prepare, run};
use dreamglass_kernels::DType;
use dreamglass_kernels::gpu::{Gpu, GpuOptions};

fn products(criterion: &mut Criterion, gpu: &Gpu) {
    for dtype in [DType::F32, DType::F16] {
        let mut group = criterion.benchmark_group(format!("products_{dtype}"));
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(2));
        for (name, case) in CASES {
            let (executable, flops) = prepare(gpu, *case, dtype).unwrap_or_else(|e| panic!("{name}: {e}"));
            group.throughput(Throughput::Elements(flops));
            group.bench_function(*name, |b| {
                b.iter(|| run(gpu, &executable).unwrap_or_else(|e| panic!("{name}: {e}")));
            });
        }
        group.finish();
    }
}

fn main() {
    let gpu = Gpu::open(&GpuOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    let mut criterion = Criterion::default().configure_from_args();
    products(&mut criterion, &gpu);
    criterion.final_summary();
}
