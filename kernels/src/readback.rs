//! Results on their way to the host: a ring of buffers, copied to, mapped and read in turn.
//!
//! Nothing here blocks except [`ReadbackRing::wait_into`], and nothing allocates device memory after
//! [`ReadbackRing::new`].

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::buffer::{Buffer, allocate_staging};
use crate::error::{KernelError, shape_error};
use crate::exec::GpuTensor;
use crate::gpu::Gpu;
use crate::submit::Submission;

/// States of a slot that is in use.
const PENDING: u8 = 0;
const MAPPED: u8 = 1;
const FAILED: u8 = 2;
/// The submission was dropped before it was submitted.
const ABANDONED: u8 = 3;

/// What a slot shares with the submission that fills it and with the driver's callback.
#[derive(Debug, Default)]
struct Progress {
    state: AtomicU8,
    submission: Mutex<Option<wgpu::SubmissionIndex>>,
}

/// Tells the slot that nothing will come, unless told otherwise before it is dropped.
#[derive(Debug)]
struct Signal(Arc<Progress>);

impl Signal {
    fn tell(&self, state: u8) {
        self.0.state.store(state, Ordering::Release);
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        let state = &self.0.state;
        // It fails where the callback has told what became of it.
        let _ = state.compare_exchange(PENDING, ABANDONED, Ordering::AcqRel, Ordering::Acquire);
    }
}

#[derive(Debug)]
struct Slot {
    buffer: Buffer,
    bytes: u64,
    tag: u64,
    progress: Arc<Progress>,
}

/// A slot taken by a read-back whose copy is still to be encoded.
#[derive(Debug)]
pub(crate) struct Reservation {
    ix: usize,
    buffer: Buffer,
    bytes: u64,
    signal: Signal,
}

/// A slot whose copy was encoded and whose submission is not yet known.
#[derive(Debug)]
pub(crate) struct Encoded(Arc<Progress>);

impl Reservation {
    /// Position of the slot in the ring.
    pub(crate) fn ix(&self) -> usize {
        self.ix
    }
    /// Copies the reserved bytes from the start of `source` and maps them once submitted.
    pub(crate) fn encode(self, encoder: &mut wgpu::CommandEncoder, source: &wgpu::Buffer) -> Encoded {
        let bytes = self.bytes;
        encoder.copy_buffer_to_buffer(source, 0, &self.buffer, 0, bytes);
        let progress = Arc::clone(&self.signal.0);
        let signal = self.signal;
        encoder.map_buffer_on_submit(&self.buffer, wgpu::MapMode::Read, 0..bytes, move |result| {
            signal.tell(if result.is_ok() { MAPPED } else { FAILED });
        });
        Encoded(progress)
    }
}

impl Encoded {
    /// Remembers what to wait for.
    pub(crate) fn submitted(&self, submission: &wgpu::SubmissionIndex) {
        let mut slot = self.0.submission.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some(submission.clone());
    }
}

/// Read-backs in flight, at most `depth` of them, finished in the order in which they were begun.
#[derive(Debug)]
pub struct ReadbackRing {
    gpu: Gpu,
    bytes: u64,
    slots: Vec<Slot>,
    oldest: usize,
    in_use: usize,
}

impl ReadbackRing {
    /// `depth` (at least 1) buffers of `bytes` each.
    ///
    /// # Errors
    /// [`KernelError::Limit`] or [`KernelError::OutOfMemory`].
    pub fn new(gpu: &Gpu, bytes: u64, depth: usize) -> Result<Self, KernelError> {
        let slot = |_| {
            let buffer = allocate_staging(gpu, "read-back ring", bytes.max(4).next_multiple_of(4))?;
            Ok(Slot { buffer, bytes: 0, tag: 0, progress: Arc::default() })
        };
        let slots = (0..depth.max(1)).map(slot).collect::<Result<_, KernelError>>()?;
        Ok(Self { gpu: gpu.clone(), bytes, slots, oldest: 0, in_use: 0 })
    }
    /// Submits a copy of `tensor` by itself; [`Submission::copy`] makes it part of a frame. False,
    /// and nothing done, when all buffers are in use. `tag` comes back with the bytes.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when the tensor is larger than the ring's buffers;
    /// [`KernelError::DeviceLost`], [`KernelError::OutOfMemory`] or [`KernelError::Device`] when
    /// something went wrong since the last call.
    pub fn begin(&mut self, tensor: &GpuTensor, tag: u64) -> Result<bool, KernelError> {
        let mut submission = Submission::new(&self.gpu);
        let is_begun = submission.copy(tensor, self, tag)?;
        if is_begun {
            submission.submit()?;
        }
        Ok(is_begun)
    }
    /// Read-backs begun and not yet read.
    pub fn in_flight(&self) -> usize {
        self.in_use
    }
    /// Read-backs that may be in flight at once.
    pub fn depth(&self) -> usize {
        self.slots.len()
    }
    /// Hands the bytes of the oldest read-back to `read` if it is finished, without waiting. Bytes
    /// are the tensor's storage, channel padding included.
    ///
    /// # Errors
    /// [`KernelError::DeviceLost`], [`KernelError::OutOfMemory`] or [`KernelError::Device`] when
    /// something went wrong since the last call.
    pub fn poll_with<R>(&mut self, read: impl FnOnce(u64, &[u8]) -> R) -> Result<Option<R>, KernelError> {
        self.gpu.poll()?;
        self.skip_abandoned();
        if self.in_use == 0 {
            return Ok(None);
        }
        let slot = &self.slots[self.oldest];
        let result = match slot.progress.state.load(Ordering::Acquire) {
            MAPPED => slot.read(read).map(Some),
            FAILED => Err(KernelError::Device { message: "a read-back could not be mapped".into() }),
            _ => return Ok(None),
        };
        self.release();
        result
    }
    /// Replaces `out` by the bytes of the oldest read-back if it is finished, without waiting, and
    /// returns its tag. `out` keeps its capacity.
    ///
    /// # Errors
    /// See [`Self::poll_with`].
    pub fn poll_into(&mut self, out: &mut Vec<u8>) -> Result<Option<u64>, KernelError> {
        self.poll_with(|tag, bytes| {
            out.clear();
            out.extend_from_slice(bytes);
            tag
        })
    }
    /// Like [`Self::poll_into`], but blocks until the oldest read-back is finished. Returns none
    /// when there is none.
    ///
    /// # Errors
    /// See [`Self::poll_with`]; also [`KernelError::Device`] when the copy was encoded and its
    /// submission not yet submitted.
    pub fn wait_into(&mut self, out: &mut Vec<u8>) -> Result<Option<u64>, KernelError> {
        // More than once only when another thread polls at the same time and is about to tell.
        loop {
            if let Some(tag) = self.poll_into(out)? {
                return Ok(Some(tag));
            }
            if self.in_use == 0 {
                return Ok(None);
            }
            let submission = self.slots[self.oldest].progress.submission.lock();
            let submission = submission.unwrap_or_else(PoisonError::into_inner).clone();
            let unsubmitted = || KernelError::Device { message: "the read-back was not submitted".into() };
            self.gpu.wait_for(Some(submission.ok_or_else(unsubmitted)?))?;
        }
    }
    /// Takes a slot for `bytes` bytes (a multiple of 4), tagged with its position; none when all
    /// are in use.
    pub(crate) fn reserve(&mut self, bytes: u64) -> Result<Option<Reservation>, KernelError> {
        if bytes > self.bytes {
            return Err(shape_error("read-back", format!("at most {} bytes", self.bytes), bytes));
        }
        self.skip_abandoned();
        if self.in_use == self.slots.len() {
            return Ok(None);
        }
        let ix = (self.oldest + self.in_use) % self.slots.len();
        let slot = &mut self.slots[ix];
        (slot.bytes, slot.tag) = (bytes, ix as u64);
        slot.progress.state.store(PENDING, Ordering::Release);
        *slot.progress.submission.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.in_use += 1;
        let signal = Signal(Arc::clone(&slot.progress));
        Ok(Some(Reservation { ix, buffer: slot.buffer.clone(), bytes, signal }))
    }
    /// Gives a reserved slot its caller's tag.
    pub(crate) fn tag(&mut self, reservation: &Reservation, tag: u64) {
        self.slots[reservation.ix].tag = tag;
    }
    /// Releases the oldest slots whose submissions were dropped.
    fn skip_abandoned(&mut self) {
        while self.in_use > 0 && self.slots[self.oldest].progress.state.load(Ordering::Acquire) == ABANDONED {
            self.release();
        }
    }
    fn release(&mut self) {
        self.oldest = (self.oldest + 1) % self.slots.len();
        self.in_use -= 1;
    }
}

impl Slot {
    /// Reads the mapped buffer and unmaps it.
    fn read<R>(&self, read: impl FnOnce(u64, &[u8]) -> R) -> Result<R, KernelError> {
        let view = self.buffer.get_mapped_range(0..self.bytes);
        let result = view.map(|view| read(self.tag, &view));
        self.buffer.unmap();
        result.map_err(|e| KernelError::Device { message: e.to_string() })
    }
}
