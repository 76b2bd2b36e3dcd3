//! The probes do what they count, and measure what a machine can do.

use dreamglass_kernels::ceiling::Ceilings;
use dreamglass_kernels::gpu::{Gpu, GpuOptions};
use dreamglass_kernels::ops::{CopySweep, FmaChain};
use dreamglass_kernels::reference::ceiling::fma_chain;
use dreamglass_kernels::{DType, KernelError, Shape};

use crate::harness::{Random, on_tiers};

#[test]
fn a_sweep_copies_everything_however_often() {
    for quads in [16, 4096, 3 << 20] {
        let x = Random::new(1).halves(quads as usize * 4);
        for sweeps in [1, 2] {
            on_tiers(
                &[("x", &x)],
                &[],
                |plan| {
                    let x = plan.input("x", Shape::tokens(1, quads, 4), DType::F32);
                    let probe = CopySweep { x, steps: 1 };
                    let probe = CopySweep { steps: sweeps * probe.sweep(), ..probe };
                    assert_eq!(probe.traffic_bytes(), u64::from(sweeps * quads) * 32);
                    probe.record(plan)
                },
                |tier, got| assert!(got == x, "{quads} quads, {tier:?}"),
            );
        }
    }
}

#[test]
fn chains_match_f64() {
    for (threads, steps) in [(1, 1), (100, 7), (1000, 40)] {
        // Each multiply-add rounds once, and the chain forgets a thousandth of its error each time.
        let (want, bound) = (fma_chain(steps), 4.0 * 1000.0 / f64::from(1 << 24));
        on_tiers(
            &[],
            &[],
            |plan| FmaChain { threads, steps }.record(plan),
            |tier, got| {
                assert_eq!(got.len(), 4 * threads as usize);
                let is_near = |v: &f32| (f64::from(*v) - want).abs() <= bound;
                assert!(got.iter().all(is_near), "{tier:?}: {want}, got {:?}", &got[..4]);
            },
        );
    }
}

#[test]
fn ceilings_are_those_of_a_machine() -> Result<(), KernelError> {
    let gpu = Gpu::open(&GpuOptions::default())?;
    let ceilings = match Ceilings::measure(&gpu) {
        Err(KernelError::Unsupported { .. }) => return Ok(()),
        ceilings => ceilings?,
    };
    // From a busy core of a CPU adapter to more than any device of today.
    assert!((1e8..1e14).contains(&ceilings.copy_bytes_per_s), "{ceilings:?}");
    assert!((1e9..1e15).contains(&ceilings.fma_flops_per_s), "{ceilings:?}");
    assert_eq!(gpu.counters().allocated_bytes, 0, "probes leave nothing behind");
    Ok(())
}
