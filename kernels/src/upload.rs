//! Bytes on their way to the device: through mapped memory that is used again, in one command buffer ahead of what
//! is submitted next.
//!
//! `Queue::write_buffer` allocates memory for every call; on an adapter whose memory is the host's, the system then
//! clears fresh pages for bytes that are about to be overwritten.

use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};

use crate::buffer::{create_mapped, write_mapped};
use crate::error::KernelError;
use crate::gpu::Gpu;

/// Bytes of a piece of mapped memory.
const PIECE_BYTES: u64 = 4 << 20;
/// Pieces that may be under way before a writer waits for the device: two pictures of 3840x2160 fit.
const PIECES: usize = 16;

/// Mapped memory that bytes are copied through.
#[derive(Debug)]
pub(crate) struct Uploads {
    ring: Mutex<Ring>,
}

#[derive(Debug)]
struct Ring {
    /// Mapped, and nothing in them.
    free: Vec<wgpu::Buffer>,
    /// Mapped, with bytes that no command buffer was submitted for.
    filled: Vec<wgpu::Buffer>,
    /// Bytes in the last of `filled`.
    used: u64,
    /// The copies out of `filled`.
    encoder: Option<wgpu::CommandEncoder>,
    /// Pieces there are, wherever they are.
    pieces: usize,
    sender: mpsc::Sender<Result<wgpu::Buffer, wgpu::BufferAsyncError>>,
    returned: mpsc::Receiver<Result<wgpu::Buffer, wgpu::BufferAsyncError>>,
}

impl Default for Uploads {
    fn default() -> Self {
        let (sender, returned) = mpsc::channel();
        let ring = Ring {
            free: Vec::new(),
            filled: Vec::new(),
            used: 0,
            encoder: None,
            pieces: 0,
            sender,
            returned,
        };
        Self { ring: Mutex::new(ring) }
    }
}

impl Uploads {
    /// Copies `bytes` to `target` from byte `offset` on, before what is submitted next. Both are multiples of four.
    ///
    /// # Errors
    /// [`KernelError::OutOfMemory`], [`KernelError::Device`], [`KernelError::DeviceLost`].
    pub(crate) fn write(
        &self,
        gpu: &Gpu,
        target: &wgpu::Buffer,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), KernelError> {
        let mut ring = self.lock();
        let (mut offset, mut bytes) = (offset, bytes);
        while !bytes.is_empty() {
            let room = ring.room(gpu)?;
            let (now, later) = bytes.split_at(bytes.len().min(room as usize));
            ring.put(gpu, target, offset, now)?;
            offset += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    /// Submits what was written since the last call, and `commands` behind it.
    ///
    /// One thread at a time: what another has written must not wait for its turn while what needs it runs.
    pub(crate) fn submit(&self, queue: &wgpu::Queue, commands: wgpu::CommandBuffer) -> wgpu::SubmissionIndex {
        self.lock().submit(queue, Some(commands))
    }

    /// Submits what was written since the last call, if anything was.
    pub(crate) fn flush(&self, queue: &wgpu::Queue) {
        self.lock().flush(queue);
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// Bytes that fit into the last of `filled`, after putting another piece there if it is full.
    fn room(&mut self, gpu: &Gpu) -> Result<u64, KernelError> {
        if !self.filled.is_empty() && self.used < PIECE_BYTES {
            return Ok(PIECE_BYTES - self.used);
        }
        // The device copies what is there while more is written.
        self.flush(gpu.queue());
        let piece = self.piece(gpu)?;
        self.filled.push(piece);
        self.used = 0;
        Ok(PIECE_BYTES)
    }

    /// A mapped piece: one that came back, a new one, or the first to come back where there are enough.
    fn piece(&mut self, gpu: &Gpu) -> Result<wgpu::Buffer, KernelError> {
        self.collect();
        if let Some(piece) = self.free.pop() {
            return Ok(piece);
        }
        if self.pieces < PIECES {
            let usage = wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC;
            let piece = create_mapped(gpu, "upload", PIECE_BYTES, usage)?;
            gpu.meters().count_staging(PIECE_BYTES);
            self.pieces += 1;
            return Ok(piece);
        }
        gpu.wait_for(None)?;
        self.collect();
        let lost = || KernelError::Device { message: "memory for uploads did not come back".into() };
        self.free.pop().ok_or_else(lost)
    }

    /// Takes back the pieces that the device is done with.
    fn collect(&mut self) {
        for piece in self.returned.try_iter() {
            match piece {
                Ok(piece) => self.free.push(piece),
                // Of a lost device.
                Err(_) => self.pieces -= 1,
            }
        }
    }

    fn put(
        &mut self,
        gpu: &Gpu,
        target: &wgpu::Buffer,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), KernelError> {
        let Some(piece) = self.filled.last() else { return Ok(()) };
        let range = self.used..self.used + bytes.len() as u64;
        write_mapped(piece, range.start, bytes)?;
        let new = || gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let encoder = self.encoder.get_or_insert_with(new);
        encoder.copy_buffer_to_buffer(piece, range.start, target, offset, bytes.len() as u64);
        // Mapped ranges begin at multiples of eight.
        self.used = range.end.next_multiple_of(wgpu::MAP_ALIGNMENT);
        Ok(())
    }

    fn flush(&mut self, queue: &wgpu::Queue) {
        if self.encoder.is_some() {
            self.submit(queue, None);
        }
    }

    fn submit(
        &mut self,
        queue: &wgpu::Queue,
        commands: Option<wgpu::CommandBuffer>,
    ) -> wgpu::SubmissionIndex {
        let filled = std::mem::take(&mut self.filled);
        filled.iter().for_each(wgpu::Buffer::unmap);
        let copies = self.encoder.take().map(wgpu::CommandEncoder::finish);
        let index = queue.submit(copies.into_iter().chain(commands));
        for piece in filled {
            let (sender, mapped) = (self.sender.clone(), piece.clone());
            mapped.map_async(wgpu::MapMode::Write, .., move |result| {
                let _ = sender.send(result.map(|()| piece));
            });
        }
        index
    }
}
