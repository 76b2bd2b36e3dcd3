//! Submissions: the dispatches of several plans in one compute pass, with the copies that read
//! their results back, handed to the device at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::KernelError;
use crate::exec::{Executable, GpuTensor};
use crate::gpu::Gpu;
use crate::pipelines::Pipeline;
use crate::profile::{Detail, Profiler, Recording};
use crate::readback::{Encoded, ReadbackRing};
use crate::shader::BindingInfo;

/// Work that is being put together. Dropped without [`Self::submit`], it never happens.
pub struct Submission {
    gpu: Gpu,
    /// Open while dispatches are added; ended before anything else is encoded.
    pass: Option<wgpu::ComputePass<'static>>,
    encoder: wgpu::CommandEncoder,
    copies: Vec<Encoded>,
    recording: Option<Recording>,
    /// What this thread had spent when it began.
    spent: Duration,
}

impl Submission {
    /// Nothing yet.
    pub fn new(gpu: &Gpu) -> Self {
        let spent = gpu.meters().spent();
        let encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        Self { gpu: gpu.clone(), pass: None, encoder, copies: Vec::new(), recording: None, spent }
    }
    /// Measures what is run from here on; `profiler` hands the spans out once the device is done.
    /// False, and nothing is measured, when the profiler waits for too many submissions already.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when the profiler's queries outgrew its ring: our bug.
    pub fn profile(&mut self, profiler: &mut Profiler, detail: Detail) -> Result<bool, KernelError> {
        self.pass = None;
        if self.recording.is_none() {
            self.recording = profiler.begin(detail)?;
        }
        Ok(self.recording.is_some())
    }
    /// Names what is run from here on in the spans of [`Self::profile`].
    pub fn stage(&mut self, name: &str) {
        if let Some(recording) = &mut self.recording {
            recording.stage(name);
        }
    }
    /// Appends every dispatch of `executable`, in the compute pass of those before it.
    ///
    /// # Errors
    /// [`KernelError::Limit`] when it is measured and has more dispatches than the profiler has room
    /// for; [`KernelError::DeviceLost`], [`KernelError::OutOfMemory`] or [`KernelError::Device`] when
    /// something went wrong since the last call.
    pub fn run(&mut self, executable: &Executable) -> Result<(), KernelError> {
        self.gpu.check()?;
        let encoder = &mut self.encoder;
        if let Some(recording) = &mut self.recording {
            return recording.run(encoder, &mut self.pass, executable);
        }
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
        let Some(reservation) = ring.reserve(bytes)? else { return Ok(false) };
        ring.tag(&reservation, tag);
        self.pass = None;
        self.copies.push(reservation.encode(&mut self.encoder, &tensor.buffer));
        Ok(true)
    }
    /// Hands everything to the device, without waiting.
    ///
    /// # Errors
    /// [`KernelError::DeviceLost`], [`KernelError::OutOfMemory`] or [`KernelError::Device`] when
    /// something went wrong since the last call.
    pub fn submit(mut self) -> Result<SubmissionTicket, KernelError> {
        self.pass = None;
        if let Some(recording) = self.recording.take() {
            self.copies.push(recording.finish(&mut self.encoder));
        }
        let is_done = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&is_done);
        self.encoder.on_submitted_work_done(move || done.store(true, Ordering::Release));
        let index = self.gpu.submit(self.encoder.finish());
        for copy in &self.copies {
            copy.submitted(&index);
        }
        self.gpu.meters().count_encoding(self.spent);
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

/// Dispatches a kernel over nothing. Drivers of CPU adapters make machine code, or fetch what they kept of it, at the
/// first dispatch: better while weights are read than one kernel after the other in the first frame.
pub(crate) fn begin(gpu: &Gpu, pipeline: &Pipeline) {
    let device = gpu.device();
    // One each: a buffer that is written may not be bound twice.
    let buffer = |info: &BindingInfo| {
        let (label, usage) = (Some(info.name.as_str()), wgpu::BufferUsages::STORAGE);
        device.create_buffer(&wgpu::BufferDescriptor { label, size: 256, usage, mapped_at_creation: false })
    };
    let bindings = &pipeline.reflection.bindings;
    let buffers: Vec<wgpu::Buffer> = bindings.iter().map(buffer).collect();
    let entries: Vec<wgpu::BindGroupEntry<'_>> = bindings
        .iter()
        .zip(&buffers)
        .map(|(info, buffer)| wgpu::BindGroupEntry {
            binding: info.binding,
            resource: buffer.as_entire_binding(),
        })
        .collect();
    let layout = &pipeline.layout;
    let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some("begin"),
        layout,
        entries: &entries,
    });
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    pass.set_pipeline(&pipeline.compiled);
    pass.set_bind_group(0, &group, &[]);
    let immediates = vec![0; pipeline.reflection.immediate_bytes as usize];
    if !immediates.is_empty() {
        pass.set_immediates(0, &immediates);
    }
    pass.dispatch_workgroups(0, 0, 0);
    drop(pass);
    gpu.queue().submit([encoder.finish()]);
}
