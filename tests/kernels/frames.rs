//! What a frame is made of: submissions, their tickets, read-backs, and the counters that show a
//! frame allocating, compiling or blocking.

use dreamglass_kernels::exec::{Executable, GpuTensor};
use dreamglass_kernels::gpu::Gpu;
use dreamglass_kernels::ops::{Activation, Coefficients, LinearCombination, Term};
use dreamglass_kernels::readback::ReadbackRing;
use dreamglass_kernels::submit::Submission;
use dreamglass_kernels::{DType, KernelError, Shape};

use crate::harness::{own_device, prepared};

type Checked = Result<(), KernelError>;

const SHAPE: Shape = Shape::new(1, 33, 20, 3);

/// `result = factor·x + offset`.
fn affine(gpu: &Gpu, externals: &[(&str, GpuTensor)], factor: f32, offset: f32) -> Executable {
    prepared(gpu, externals, |plan| {
        let terms = vec![plan.input("x", SHAPE, DType::F32)];
        let coefficients = Coefficients::Constant(vec![factor]);
        let (activation, out_dtype) = (Activation::None, DType::F32);
        let terms = terms.into_iter().map(Term::from).collect();
        LinearCombination { terms, coefficients, offset, activation, out_dtype }.record(plan)
    })
}

fn ring(gpu: &Gpu, depth: usize) -> Result<ReadbackRing, KernelError> {
    ReadbackRing::new(gpu, SHAPE.bytes(DType::F32), depth)
}

fn filled(gpu: &Gpu, value: f32) -> Result<GpuTensor, KernelError> {
    let tensor = GpuTensor::new(gpu, SHAPE, DType::F32)?;
    tensor.write_f32(&vec![value; SHAPE.elements() as usize])?;
    Ok(tensor)
}

/// The one value of every channel that is not padding.
fn value(bytes: &[u8]) -> f32 {
    let values: Vec<f32> = bytemuck::pod_collect_to_vec(bytes);
    assert_eq!(values.len() as u64 * 4, SHAPE.bytes(DType::F32));
    assert!(values.chunks_exact(4).all(|v| *v == [values[0], values[0], values[0], 0.0]), "{values:?}");
    values[0]
}

#[test]
fn read_backs_come_in_order_and_a_full_ring_refuses() -> Checked {
    let gpu = own_device();
    let tensors = [1.0, 2.0, 3.0].map(|v| filled(&gpu, v));
    let mut ring = ring(&gpu, 2)?;
    let mut bytes = Vec::new();
    assert_eq!(ring.wait_into(&mut bytes)?, None);
    for round in 0..5u64 {
        let [a, b, c] = tensors.each_ref().map(|t| t.as_ref().unwrap_or_else(|e| panic!("{e}")));
        assert!(ring.begin(a, round)? && ring.begin(b, 100 + round)?);
        assert!(!ring.begin(c, 7)?, "a third read-back in a ring of two");
        assert_eq!(ring.in_flight(), 2);
        assert_eq!((ring.wait_into(&mut bytes)?, value(&bytes)), (Some(round), 1.0));
        assert!(ring.begin(c, 200 + round)?);
        assert_eq!((ring.wait_into(&mut bytes)?, value(&bytes)), (Some(100 + round), 2.0));
        assert_eq!((ring.wait_into(&mut bytes)?, value(&bytes)), (Some(200 + round), 3.0));
        assert_eq!(ring.poll_into(&mut bytes)?, None);
    }
    Ok(())
}

#[test]
fn a_ring_refuses_what_does_not_fit_and_takes_what_is_smaller() -> Checked {
    let gpu = own_device();
    let mut small = ReadbackRing::new(&gpu, 16, 1)?;
    let refused = small.begin(&filled(&gpu, 1.0)?, 0);
    assert!(matches!(refused, Err(KernelError::Shape { .. })), "{refused:?}");
    let one = GpuTensor::new(&gpu, Shape::vector(1, 2), DType::U32)?;
    one.write_u32(&[5, 6])?;
    assert!(small.begin(&one, 9)?);
    let mut bytes = Vec::new();
    assert_eq!(small.wait_into(&mut bytes)?, Some(9));
    assert_eq!(bytes, [5, 0, 0, 0, 6, 0, 0, 0]);
    Ok(())
}

#[test]
fn a_dropped_submission_gives_its_slot_back() -> Checked {
    let gpu = own_device();
    let tensor = filled(&gpu, 4.0)?;
    let mut ring = ring(&gpu, 1)?;
    let mut bytes = Vec::new();
    let mut dropped = Submission::new(&gpu);
    assert!(dropped.copy(&tensor, &mut ring, 1)?);
    let early = ring.wait_into(&mut bytes);
    assert!(matches!(early, Err(KernelError::Device { .. })), "nothing was submitted: {early:?}");
    drop(dropped);
    assert_eq!(ring.poll_into(&mut bytes)?, None);
    assert!(ring.begin(&tensor, 2)?);
    assert_eq!((ring.wait_into(&mut bytes)?, value(&bytes)), (Some(2), 4.0));
    Ok(())
}

#[test]
fn plans_of_one_submission_run_in_order() -> Checked {
    let gpu = own_device();
    let first = affine(&gpu, &[], 2.0, 1.0);
    let second = affine(&gpu, &[("x", first.tensor("result")?)], 10.0, 0.5);
    first.tensor("x")?.write_f32(&vec![3.0; SHAPE.elements() as usize])?;
    let mut ring = ring(&gpu, 2)?;
    let mut frame = Submission::new(&gpu);
    frame.run(&first)?;
    assert!(frame.copy(&first.tensor("result")?, &mut ring, 1)?);
    frame.run(&second)?;
    assert!(frame.copy(&second.tensor("result")?, &mut ring, 2)?);
    let ticket = frame.submit()?;
    while !ticket.is_done()? {
        std::thread::yield_now();
    }
    // Read-backs of a submission that is done are there without waiting.
    let mut bytes = Vec::new();
    assert_eq!((ring.poll_into(&mut bytes)?, value(&bytes)), (Some(1), 7.0));
    assert_eq!((ring.poll_into(&mut bytes)?, value(&bytes)), (Some(2), 70.5));
    let again = Submission::new(&gpu).submit()?;
    again.wait()?;
    assert!(again.is_done()?);
    Ok(())
}

#[test]
fn a_frame_allocates_nothing_compiles_nothing_and_never_blocks() -> Checked {
    let gpu = own_device();
    let first = affine(&gpu, &[], 2.0, 1.0);
    let second = affine(&gpu, &[("x", first.tensor("result")?)], 10.0, 0.5);
    let (source, result) = (first.tensor("x")?, second.tensor("result")?);
    let mut ring = ring(&gpu, 2)?;
    let (mut bytes, mut seen) = (Vec::new(), 0);
    let before = gpu.counters();
    assert!(before.pipelines == 1 && before.allocated_bytes >= 5 * SHAPE.bytes(DType::F32), "{before:?}");
    for frame in 0..20u64 {
        source.write_f32(&vec![frame as f32; SHAPE.elements() as usize])?;
        let mut submission = Submission::new(&gpu);
        submission.run(&first)?;
        submission.run(&second)?;
        assert!(submission.copy(&result, &mut ring, frame)?);
        submission.submit()?;
        while ring.in_flight() == ring.depth() || (frame == 19 && ring.in_flight() > 0) {
            if let Some(tag) = ring.poll_into(&mut bytes)? {
                assert_eq!((tag, value(&bytes)), (seen, 10.0 * (2.0 * seen as f32 + 1.0) + 0.5));
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 20);
    let mut expected = before;
    expected.submissions += 20;
    let after = gpu.counters();
    // A piece for each frame in flight and one that is written, made by the first frames.
    expected.staging_bytes = after.staging_bytes.min(3 * (4 << 20));
    assert_eq!(after, expected);
    result.read_raw()?;
    let after = gpu.counters();
    assert_eq!((after.waits, after.allocations), (before.waits + 1, before.allocations + 1));
    assert_eq!(after.allocated_bytes, before.allocated_bytes, "the read's buffer is gone again");
    Ok(())
}

#[test]
fn dropped_plans_give_their_memory_back() -> Checked {
    let gpu = own_device();
    let plan = affine(&gpu, &[], 2.0, 1.0);
    assert!(gpu.counters().allocated_bytes >= 2 * SHAPE.bytes(DType::F32));
    let kept = plan.tensor("result")?;
    drop(plan);
    let bytes = gpu.counters().allocated_bytes;
    assert!(bytes >= SHAPE.bytes(DType::F32) && bytes < 2 * SHAPE.bytes(DType::F32), "{bytes}");
    drop(kept);
    assert_eq!(gpu.counters().allocated_bytes, 0);
    Ok(())
}

#[test]
fn a_device_knows_where_it_was_opened() {
    let gpu = own_device();
    let info = gpu.adapter().get_info();
    assert_eq!((&info.name, info.backend.to_string()), (&gpu.summary().name, gpu.summary().backend.clone()));
}
