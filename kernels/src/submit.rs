//! Submissions: the dispatches of several plans in one compute pass, with the copies that read
//! their results back, handed to the device at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::KernelError;
use crate::exec::{Executable, GpuTensor};
use crate::gpu::Gpu;
use crate::readback::{Encoded, ReadbackRing};

/// Work that is being put together. Dropped without [`Self::submit`], it never happens.
pub struct Submission {
    gpu: Gpu,
    /// Open while dispatches are added; ended before anything else is encoded.
    pass: Option<wgpu::ComputePass<'static>>,
    encoder: wgpu::CommandEncoder,
    copies: Vec<Encoded>,
}

impl Submission {
    /// Nothing yet.
    pub fn new(gpu: &Gpu) -> Self {
        let encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        Self { gpu: gpu.clone(), pass: None, encoder, copies: Vec::new() }
    }
    /// Appends every dispatch of `executable`, in the compute pass of those before it.
    ///
    /// # Errors
    /// [`KernelError::DeviceLost`], [`KernelError::OutOfMemory`] or [`KernelError::Device`] when
    /// something went wrong since the last call.
    pub fn run(&mut self, executable: &Executable) -> Result<(), KernelError> {
        self.gpu.check()?;
        let encoder = &mut self.encoder;
        let pass = self
            .pass
            .get_or_insert_with(|| encoder.begin_compute_pass(&Default::default()).forget_lifetime());
        for step in executable.steps() {
            step.encode(pass);
        }
        Ok(())
    }
    /// Ends the pass and appends a copy of `tensor` that `ring` hands out with `tag` when it is
    /// there. False, and nothing done, when all of the ring's buffers are in use.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when the tensor is larger than the ring's buffers.
    pub fn copy(
        &mut self,
        tensor: &GpuTensor,
        ring: &mut ReadbackRing,
        tag: u64,
    ) -> Result<bool, KernelError> {
        let bytes = tensor.shape.bytes(tensor.dtype);
        let Some(reservation) = ring.reserve(bytes, tag)? else { return Ok(false) };
        self.pass = None;
        self.copies.push(reservation.encode(&mut self.encoder, &tensor.buffer, bytes));
        Ok(true)
    }
    /// Hands everything to the device, without waiting.
    ///
    /// # Errors
    /// [`KernelError::DeviceLost`], [`KernelError::OutOfMemory`] or [`KernelError::Device`] when
    /// something went wrong since the last call.
    pub fn submit(mut self) -> Result<SubmissionTicket, KernelError> {
        self.pass = None;
        let is_done = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&is_done);
        self.encoder.on_submitted_work_done(move || done.store(true, Ordering::Release));
        let index = self.gpu.submit(self.encoder.finish());
        for copy in &self.copies {
            copy.submitted(&index);
        }
        self.gpu.check()?;
        Ok(SubmissionTicket { gpu: self.gpu, index, is_done })
    }
}

/// Work that was submitted: asks whether it is done, or waits until it is.
#[derive(Debug, Clone)]
pub struct SubmissionTicket {
    gpu: Gpu,
    index: wgpu::SubmissionIndex,
    is_done: Arc<AtomicBool>,
}

impl SubmissionTicket {
    /// Whether the device is done with it, read-backs included; never blocks.
    ///
    /// # Errors
    /// [`KernelError::DeviceLost`], [`KernelError::OutOfMemory`] or [`KernelError::Device`] when
    /// something went wrong since the last call.
    pub fn is_done(&self) -> Result<bool, KernelError> {
        if !self.is_done.load(Ordering::Acquire) {
            self.gpu.poll()?;
        }
        Ok(self.is_done.load(Ordering::Acquire))
    }
    /// Blocks until the device is done with it and with all that was submitted before.
    ///
    /// # Errors
    /// [`KernelError::DeviceLost`], [`KernelError::OutOfMemory`] or [`KernelError::Device`] when
    /// something went wrong since the last call.
    pub fn wait(&self) -> Result<(), KernelError> {
        if self.is_done.load(Ordering::Acquire) {
            Ok(())
        } else {
            self.gpu.wait_for(Some(self.index.clone()))
        }
    }
}
