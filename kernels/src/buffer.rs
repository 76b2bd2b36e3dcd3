//! Tensors in GPU memory: allocation, writing and reading.

use std::ops::{Deref, Range};
use std::sync::{Arc, mpsc};

use crate::counters::Lease;
use crate::error::{KernelError, shape_error};
use crate::gpu::{Gpu, from_wgpu};
use crate::host_buffer::HostBuffer;
use crate::pages::LargePages;
use crate::tensor::{DType, Shape};
use crate::weight::to_bytes;

/// Words behind every buffer that no kernel may touch; tests fill and check them.
pub(crate) const GUARD_BYTES: u64 = 64;

/// A buffer that counts as allocated while it is alive. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Buffer {
    buffer: wgpu::Buffer,
    _lease: Arc<Lease>,
}

impl Deref for Buffer {
    type Target = wgpu::Buffer;

    fn deref(&self) -> &wgpu::Buffer {
        &self.buffer
    }
}

/// Allocates a zeroed storage buffer of `bytes` and its guard words.
pub(crate) fn allocate(gpu: &Gpu, what: &str, bytes: u64) -> Result<Buffer, KernelError> {
    create(gpu, what, storage_size(bytes), storage_usage())
}

/// A storage buffer that is being filled.
///
/// Where the device's memory is the host's, this thread writes there: fresh pages cost more than what is put into
/// them, and several threads share that; the device's copies would be one thread's.
pub(crate) struct Filling<'a> {
    gpu: &'a Gpu,
    name: &'a str,
    memory: Memory<'a>,
}

/// Where a buffer is that is being filled.
enum Memory<'a> {
    Host(HostBuffer<'a>),
    Device(Buffer),
}

impl<'a> Filling<'a> {
    /// A storage buffer of `bytes`, all of which will be written or cleared, and its guard words; in `pages` where they
    /// are the host's.
    pub(crate) fn new(
        gpu: &'a Gpu,
        name: &'a str,
        bytes: u64,
        pages: &LargePages,
    ) -> Result<Self, KernelError> {
        let size = storage_size(bytes);
        check_size(gpu, name, size)?;
        let host = if gpu.has_host_memory() { HostBuffer::new(gpu, name, size)? } else { None };
        let memory = match host {
            Some(mut buffer) => {
                // Before anything is written there.
                pages.ask(buffer.address());
                buffer.clear(bytes, size - bytes);
                Memory::Host(buffer)
            }
            None => Memory::Device(allocate(gpu, name, bytes)?),
        };
        Ok(Self { gpu, name, memory })
    }
    /// Writes `bytes` from byte `at` on, a multiple of four.
    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), KernelError> {
        match &mut self.memory {
            Memory::Host(buffer) => buffer.write(at, bytes),
            Memory::Device(buffer) => self.gpu.upload(buffer, at, bytes)?,
        }
        Ok(())
    }
    /// Leaves zeros in `bytes`, where nothing was written.
    pub(crate) fn clear(&mut self, bytes: Range<u64>) {
        match &mut self.memory {
            Memory::Host(buffer) => buffer.clear(bytes.start, bytes.end - bytes.start),
            // They are.
            Memory::Device(_) => {}
        }
    }
    /// The buffer, for kernels.
    ///
    /// # Safety
    /// Each of its bytes has been written or cleared.
    pub(crate) unsafe fn finish(self) -> Result<Buffer, KernelError> {
        match self.memory {
            // SAFETY: all of it was written, says the caller; the rest, where it was made.
            Memory::Host(buffer) => match unsafe { buffer.finish(self.name, storage_usage()) } {
                Some(buffer) => Ok(counted(self.gpu, buffer)),
                None => Err(KernelError::DeviceLost { reason: format!("while filling {}", self.name) }),
            },
            Memory::Device(buffer) => Ok(buffer),
        }
    }
}

/// Bytes of a storage buffer for `bytes`.
fn storage_size(bytes: u64) -> u64 {
    bytes.max(16).next_multiple_of(16) + GUARD_BYTES
}

fn storage_usage() -> wgpu::BufferUsages {
    wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC
}

/// Writes into a mapped buffer, from a multiple of eight on.
pub(crate) fn write_mapped(buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) -> Result<(), KernelError> {
    let range = offset..offset + bytes.len() as u64;
    let mapped = buffer.get_mapped_range_mut(range);
    mapped.map_err(|e| KernelError::Device { message: e.to_string() })?.copy_from_slice(bytes);
    Ok(())
}

fn counted(gpu: &Gpu, buffer: wgpu::Buffer) -> Buffer {
    let lease = Lease::new(Arc::clone(gpu.meters()), buffer.size());
    Buffer { buffer, _lease: Arc::new(lease) }
}

/// A copy of `bytes` of a buffer, from `offset` on, in memory of their own.
pub(crate) fn duplicate(
    gpu: &Gpu,
    what: &str,
    buffer: &Buffer,
    offset: u64,
    bytes: u64,
) -> Result<Buffer, KernelError> {
    let copy = allocate(gpu, what, bytes)?;
    let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    encoder.copy_buffer_to_buffer(buffer, offset, &copy, 0, copy.size() - GUARD_BYTES);
    gpu.submit(encoder.finish());
    gpu.check()?;
    Ok(copy)
}

/// Allocates a buffer of `size` bytes that the host can map to read what was copied there.
pub(crate) fn allocate_staging(gpu: &Gpu, what: &str, size: u64) -> Result<Buffer, KernelError> {
    create(gpu, what, size, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)
}

/// Allocates a buffer, counted and checked.
pub(crate) fn create(
    gpu: &Gpu,
    what: &str,
    size: u64,
    usage: wgpu::BufferUsages,
) -> Result<Buffer, KernelError> {
    let descriptor = wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation: false };
    Ok(counted(gpu, create_raw(gpu, what, &descriptor)?))
}

/// Allocates a mapped buffer of `size` bytes, not counted.
pub(crate) fn create_mapped(
    gpu: &Gpu,
    what: &str,
    size: u64,
    usage: wgpu::BufferUsages,
) -> Result<wgpu::Buffer, KernelError> {
    let descriptor = wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation: true };
    create_raw(gpu, what, &descriptor)
}

fn check_size(gpu: &Gpu, what: &str, size: u64) -> Result<(), KernelError> {
    let limit = gpu.summary().max_buffer_bytes;
    if size > limit {
        return Err(KernelError::Limit { what: what.into(), needed: size, limit });
    }
    Ok(())
}

fn create_raw(
    gpu: &Gpu,
    what: &str,
    descriptor: &wgpu::BufferDescriptor<'_>,
) -> Result<wgpu::Buffer, KernelError> {
    let size = descriptor.size;
    check_size(gpu, what, size)?;
    let device = gpu.device();
    let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let buffer = device.create_buffer(descriptor);
    let errors = [pollster::block_on(validation.pop()), pollster::block_on(memory.pop())];
    match errors.into_iter().flatten().next() {
        Some(error) => Err(from_wgpu(error, what, size)),
        None => Ok(buffer),
    }
}

/// A tensor in GPU memory. Clones share it.
#[derive(Debug, Clone)]
pub struct GpuTensor {
    gpu: Gpu,
    pub(crate) buffer: Buffer,
    /// Shape `[N,H,W,C]`.
    pub shape: Shape,
    /// Storage type.
    pub dtype: DType,
}

impl GpuTensor {
    /// A tensor of zeros.
    ///
    /// # Errors
    /// [`KernelError::Limit`] or [`KernelError::OutOfMemory`].
    pub fn new(gpu: &Gpu, shape: Shape, dtype: DType) -> Result<Self, KernelError> {
        Self::named(gpu, "tensor", shape, dtype)
    }
    pub(crate) fn named(gpu: &Gpu, name: &str, shape: Shape, dtype: DType) -> Result<Self, KernelError> {
        let buffer = allocate(gpu, &format!("{name} {dtype}{shape}"), shape.bytes(dtype))?;
        Ok(Self { gpu: gpu.clone(), buffer, shape, dtype })
    }
    /// The wgpu buffer, for sinks that present from the GPU: the tensor from its first byte, channel
    /// padding included, and guard words behind it. It may be bound and copied from.
    pub fn buffer(&self) -> &wgpu::Buffer {
        &self.buffer
    }
    /// Writes unpadded NHWC values, converted to the storage type and channel pitch.
    ///
    /// # Errors
    /// [`KernelError::Shape`] for a wrong length, [`KernelError::DType`] for one that is neither f16 nor f32.
    pub fn write_f32(&self, values: &[f32]) -> Result<(), KernelError> {
        self.expect_len(values.len())?;
        if !matches!(self.dtype, DType::F16 | DType::F32) {
            return Err(self.dtype_error("a float type"));
        }
        let (c, pitch) = (self.shape.c as usize, self.shape.pitch() as usize);
        let bytes = if c == pitch {
            to_bytes(values, self.dtype)
        } else {
            let mut padded = vec![0.0; self.shape.rows() as usize * pitch];
            for (row, source) in padded.chunks_exact_mut(pitch).zip(values.chunks_exact(c)) {
                row[..c].copy_from_slice(source);
            }
            to_bytes(&padded, self.dtype)
        };
        self.gpu.upload(&self.buffer, 0, &bytes)
    }
    /// Writes words.
    ///
    /// # Errors
    /// [`KernelError::Shape`] for a wrong length, [`KernelError::DType`] for a float tensor.
    pub fn write_u32(&self, values: &[u32]) -> Result<(), KernelError> {
        self.expect_len(values.len())?;
        self.write_words(bytemuck::cast_slice(values))
    }
    /// Writes words as they are in memory, the lowest byte first.
    ///
    /// # Errors
    /// [`KernelError::Shape`] for a wrong length, [`KernelError::DType`] for a float tensor.
    pub fn write_words(&self, bytes: &[u8]) -> Result<(), KernelError> {
        self.expect_len(bytes.len() / 4)?;
        if self.dtype != DType::U32 || !bytes.len().is_multiple_of(4) {
            return Err(self.dtype_error("u32"));
        }
        self.gpu.upload(&self.buffer, 0, bytes)
    }
    /// Reads unpadded NHWC values, waiting for the device.
    ///
    /// # Errors
    /// [`KernelError::DType`] for a [`DType::U32`] tensor, [`KernelError::DeviceLost`], [`KernelError::Device`].
    pub fn read_f32(&self) -> Result<Vec<f32>, KernelError> {
        self.values(&self.read_bytes(0, self.shape.bytes(self.dtype))?)
    }
    /// Unpadded NHWC values of the storage bytes of this tensor, such as a read-back ring's.
    ///
    /// # Errors
    /// [`KernelError::DType`] for a [`DType::U32`] tensor, [`KernelError::Shape`] for a wrong length.
    pub fn values(&self, bytes: &[u8]) -> Result<Vec<f32>, KernelError> {
        let expected = self.shape.bytes(self.dtype);
        if bytes.len() as u64 != expected {
            return Err(shape_error("tensor access", format!("{expected} bytes"), bytes.len()));
        }
        let padded: Vec<f32> = match self.dtype {
            DType::U32 | DType::I8 => return Err(self.dtype_error("a float type")),
            DType::F32 => bytemuck::pod_collect_to_vec(bytes),
            DType::F16 => {
                let halves: Vec<half::f16> = bytemuck::pod_collect_to_vec(bytes);
                halves.into_iter().map(half::f16::to_f32).collect()
            }
        };
        let (c, pitch) = (self.shape.c as usize, self.shape.pitch() as usize);
        Ok(padded.chunks_exact(pitch).flat_map(|row| &row[..c]).copied().collect())
    }
    /// Reads words, waiting for the device.
    ///
    /// # Errors
    /// [`KernelError::DType`] for a float tensor, [`KernelError::DeviceLost`], [`KernelError::Device`].
    pub fn read_u32(&self) -> Result<Vec<u32>, KernelError> {
        if self.dtype != DType::U32 {
            return Err(self.dtype_error("u32"));
        }
        Ok(bytemuck::pod_collect_to_vec(&self.read_bytes(0, self.shape.bytes(self.dtype))?))
    }
    /// Reads the raw storage bytes, channel padding included.
    ///
    /// # Errors
    /// [`KernelError::DeviceLost`], [`KernelError::Device`].
    pub fn read_raw(&self) -> Result<Vec<u8>, KernelError> {
        self.read_bytes(0, self.shape.bytes(self.dtype))
    }
    fn read_bytes(&self, from: u64, bytes: u64) -> Result<Vec<u8>, KernelError> {
        read_buffer(&self.gpu, &self.buffer, from, bytes)
    }
    fn expect_len(&self, got: usize) -> Result<(), KernelError> {
        let expected = self.shape.elements();
        if got as u64 == expected {
            Ok(())
        } else {
            Err(shape_error("write", format!("{expected} values for {}", self.shape), got))
        }
    }
    fn dtype_error(&self, expected: &str) -> KernelError {
        let got = self.dtype.to_string();
        KernelError::DType { op: "tensor access".into(), expected: expected.into(), got }
    }
}

/// Copies a range of a buffer to the host; `from` is a multiple of 4.
pub(crate) fn read_buffer(gpu: &Gpu, buffer: &Buffer, from: u64, bytes: u64) -> Result<Vec<u8>, KernelError> {
    gpu.check()?;
    let device = gpu.device();
    let size = bytes.next_multiple_of(4);
    let staging = allocate_staging(gpu, "read-back", size)?;
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    encoder.copy_buffer_to_buffer(buffer, from, &staging, 0, size);
    let index = gpu.submit(encoder.finish());
    let (sender, receiver) = mpsc::channel();
    staging.map_async(wgpu::MapMode::Read, .., move |result| {
        let _ = sender.send(result);
    });
    gpu.wait_for(Some(index))?;
    match receiver.recv() {
        Ok(Ok(())) => {}
        other => return Err(KernelError::Device { message: format!("read-back failed: {other:?}") }),
    }
    let view = staging.get_mapped_range(..).map_err(|e| KernelError::Device { message: e.to_string() })?;
    Ok(view[..bytes as usize].to_vec())
}
