//! Writes to the device: more than there is memory for at once, in order, from several threads, and used again.

use std::thread;

use dreamglass_kernels::exec::GpuTensor;
use dreamglass_kernels::gpu::Gpu;
use dreamglass_kernels::{DType, KernelError, Shape};

use crate::harness::own_device;

type Checked = Result<(), KernelError>;

fn words(gpu: &Gpu, count: u32) -> Result<GpuTensor, KernelError> {
    GpuTensor::new(gpu, Shape::new(1, count / 4, 1, 4), DType::U32)
}

/// Words that tell their places and `seed` apart.
fn pattern(count: u32, seed: u32) -> Vec<u32> {
    (0..count).map(|ix| ix.wrapping_mul(0x9E37_79B9) ^ seed).collect()
}

#[test]
fn more_than_all_staging_memory_arrives_whole() -> Checked {
    let gpu = own_device();
    // 84 MB, and not a whole number of pieces.
    let count = 21_000_004;
    let tensor = words(&gpu, count)?;
    for seed in [1, 2] {
        let written = pattern(count, seed);
        tensor.write_u32(&written)?;
        assert!(tensor.read_u32()? == written, "a word of write {seed} is not where it belongs");
    }
    Ok(())
}

#[test]
fn the_last_of_many_writes_to_one_place_stays() -> Checked {
    let gpu = own_device();
    let tensor = words(&gpu, 1000)?;
    for round in 0..3 {
        for seed in 0..500 {
            tensor.write_u32(&pattern(1000, round * 1000 + seed))?;
        }
        assert_eq!(tensor.read_u32()?, pattern(1000, round * 1000 + 499));
    }
    Ok(())
}

#[test]
fn threads_write_their_own_tensors_at_once() -> Checked {
    let gpu = own_device();
    let work = |seed: u32| -> Checked {
        for round in 0..10 {
            // About three pieces.
            let count = 3_000_000 + 4 * (seed * 17 + round);
            let (tensor, written) = (words(&gpu, count)?, pattern(count, seed));
            tensor.write_u32(&written)?;
            assert!(tensor.read_u32()? == written, "thread {seed} read what it did not write");
        }
        Ok(())
    };
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = (1..4).map(|seed| scope.spawn(move || work(seed))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|e| std::panic::resume_unwind(e)))
    })
}

#[test]
fn writes_of_frames_need_no_new_memory() -> Checked {
    let gpu = own_device();
    let tensor = words(&gpu, 64 * 64)?;
    tensor.write_u32(&pattern(64 * 64, 0))?;
    gpu.wait()?;
    let before = gpu.counters();
    for frame in 1..50 {
        tensor.write_u32(&pattern(64 * 64, frame))?;
        gpu.wait()?;
    }
    let after = gpu.counters();
    assert!(before.staging_bytes > 0, "{before:?}");
    assert_eq!(
        (after.staging_bytes, after.allocations, after.allocated_bytes),
        (before.staging_bytes, before.allocations, before.allocated_bytes)
    );
    assert_eq!(tensor.read_u32()?, pattern(64 * 64, 49));
    Ok(())
}
