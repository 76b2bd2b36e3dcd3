//! Buffers in memory that host and device share, filled before wgpu knows of them.
//!
//! wgpu clears what it hands out to be written to. The memory of a weight is fresh, which the system has cleared, and
//! about to be overwritten: clearing it once more took a quarter of the time that copying weights there did.

use std::ptr::NonNull;

use wgpu::hal::{self, Device as _};

use crate::error::KernelError;
use crate::gpu::Gpu;

/// The interface by which this system's CPU adapters are reached, where they are.
#[cfg(not(target_vendor = "apple"))]
type Api = hal::api::Vulkan;
#[cfg(target_vendor = "apple")]
type Api = hal::api::Metal;

/// A buffer that only its maker knows of.
pub(crate) struct HostBuffer<'a> {
    gpu: &'a Gpu,
    /// None once it is handed over.
    raw: Option<<Api as hal::Api>::Buffer>,
    memory: NonNull<u8>,
    size: u64,
    is_coherent: bool,
}

impl<'a> HostBuffer<'a> {
    /// A buffer of `size` bytes, not zero, for kernels, that may be copied from and to; none on a device of
    /// another interface. What is in it is anything.
    ///
    /// # Errors
    /// [`KernelError::OutOfMemory`], [`KernelError::DeviceLost`].
    pub(crate) fn new(gpu: &'a Gpu, what: &str, size: u64) -> Result<Option<Self>, KernelError> {
        // SAFETY: the device is used to make, map and destroy a buffer of its own.
        let Some(device) = (unsafe { gpu.device().as_hal::<Api>() }) else { return Ok(None) };
        let failed = |error| failed(error, what, size);
        let usage = wgpu::BufferUses::STORAGE_READ_ONLY
            | wgpu::BufferUses::STORAGE_READ_WRITE
            | wgpu::BufferUses::COPY_SRC
            | wgpu::BufferUses::COPY_DST
            | wgpu::BufferUses::MAP_WRITE;
        let memory_flags = hal::MemoryFlags::empty();
        let descriptor = hal::BufferDescriptor { label: None, size, usage, memory_flags };
        // SAFETY: the size is not zero, and within the adapter's limits, which the caller checks.
        let raw = unsafe { device.create_buffer(&descriptor) }.map_err(failed)?;
        // SAFETY: the buffer is of this device, was made to be mapped, and has these bytes.
        let mapping = match unsafe { device.map_buffer(&raw, 0..size) } {
            Ok(mapping) => mapping,
            Err(error) => {
                // SAFETY: nothing else knows of the buffer.
                unsafe { device.destroy_buffer(raw) };
                return Err(failed(error));
            }
        };
        let hal::BufferMapping { ptr: memory, is_coherent } = mapping;
        Ok(Some(Self { gpu, raw: Some(raw), memory, size, is_coherent }))
    }
    /// Where its memory begins.
    pub(crate) fn address(&self) -> usize {
        self.memory.addr().get()
    }
    /// Writes `bytes` from byte `at` on.
    ///
    /// # Panics
    /// Where they reach past its end.
    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) {
        let room = self.room(at, bytes.len());
        // SAFETY: the room is of this buffer, which is mapped, and of nobody else: this is its only owner.
        unsafe { room.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
    }
    /// Writes `count` zeros from byte `at` on.
    ///
    /// # Panics
    /// Where they reach past its end.
    pub(crate) fn clear(&mut self, at: u64, count: u64) {
        let count = count as usize;
        // SAFETY: as in `write`.
        unsafe { self.room(at, count).write_bytes(0, count) };
    }
    /// Where `count` bytes from `at` on are.
    fn room(&self, at: u64, count: usize) -> NonNull<u8> {
        let is_within = at.checked_add(count as u64).is_some_and(|end| end <= self.size);
        assert!(is_within, "{count} bytes at {at} of a buffer of {}", self.size);
        // SAFETY: within the buffer, as was checked.
        unsafe { self.memory.add(at as usize) }
    }
    /// Hands the buffer to wgpu as one of `usage` that was made in the common way.
    ///
    /// # Safety
    /// All of it has been written; `usage` is storage or copies.
    pub(crate) unsafe fn finish(mut self, what: &str, usage: wgpu::BufferUsages) -> Option<wgpu::Buffer> {
        let (device, raw) = (self.gpu.device(), self.raw.take()?);
        // SAFETY: the buffer is of this device and mapped; nothing is written to it any more.
        unsafe {
            let device = device.as_hal::<Api>()?;
            if !self.is_coherent {
                device.flush_mapped_ranges(&raw, std::iter::once(0..self.size));
            }
            device.unmap_buffer(&raw);
        }
        let descriptor =
            wgpu::BufferDescriptor { label: Some(what), size: self.size, usage, mapped_at_creation: false };
        // SAFETY: made by this device with this size for these usages; written, says the caller.
        Some(unsafe { device.create_buffer_from_hal::<Api>(raw, &descriptor) })
    }
}

impl Drop for HostBuffer<'_> {
    fn drop(&mut self) {
        // SAFETY: the buffer is of this device, and nothing else knows of it.
        unsafe {
            let device = self.gpu.device().as_hal::<Api>();
            if let (Some(device), Some(raw)) = (device, self.raw.take()) {
                device.unmap_buffer(&raw);
                device.destroy_buffer(raw);
            }
        }
    }
}

fn failed(error: hal::DeviceError, what: &str, bytes: u64) -> KernelError {
    match error {
        hal::DeviceError::OutOfMemory => KernelError::OutOfMemory { what: what.into(), bytes },
        hal::DeviceError::Lost => KernelError::DeviceLost { reason: format!("while allocating {what}") },
        other => KernelError::Device { message: other.to_string() },
    }
}
