//! What a device has done so far: a frame that allocates, compiles or blocks shows here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Time since some moment: kernels have no clock of their own.
pub type Clock = fn() -> Duration;

/// What time is taken by.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// The same for all threads.
    pub wall: Clock,
    /// What the calling thread has spent on a core.
    pub thread: Clock,
}

/// Counts since a device was opened. The difference of two is what happened in between.
///
/// Memory that writes are staged in counts by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Buffers allocated.
    pub allocations: u64,
    /// Bytes of the buffers that are alive now.
    pub allocated_bytes: u64,
    /// Bytes of the memory that writes are staged in, 64 MiB at most: what was needed at once so far, and is kept.
    pub staging_bytes: u64,
    /// Kernels compiled.
    pub pipelines: u64,
    /// Times that a thread blocked until the device was done.
    pub waits: u64,
    /// Submissions to the queue.
    pub submissions: u64,
    /// Nanoseconds in which plans waited for their weights to be read, packed and handed over, by the clock of
    /// [`crate::gpu::Gpu::set_clocks`]; 0 without one.
    pub weights_ns: u64,
    /// The same for kernels to be compiled.
    pub compile_ns: u64,
    /// Nanoseconds that threads spent from the first dispatch of a submission until it was handed over, by their own
    /// clock of [`crate::gpu::Gpu::set_clocks`]; 0 without one.
    pub encode_ns: u64,
}

/// [`Counters`] while they count.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    allocations: AtomicU64,
    allocated_bytes: AtomicU64,
    staging_bytes: AtomicU64,
    pipelines: AtomicU64,
    waits: AtomicU64,
    submissions: AtomicU64,
    weights_ns: AtomicU64,
    compile_ns: AtomicU64,
    encode_ns: AtomicU64,
    clocks: OnceLock<Clocks>,
}

// Counts order nothing else: relaxed is enough.
impl Meters {
    pub(crate) fn read(&self) -> Counters {
        Counters {
            allocations: self.allocations.load(Ordering::Relaxed),
            allocated_bytes: self.allocated_bytes.load(Ordering::Relaxed),
            staging_bytes: self.staging_bytes.load(Ordering::Relaxed),
            pipelines: self.pipelines.load(Ordering::Relaxed),
            waits: self.waits.load(Ordering::Relaxed),
            submissions: self.submissions.load(Ordering::Relaxed),
            weights_ns: self.weights_ns.load(Ordering::Relaxed),
            compile_ns: self.compile_ns.load(Ordering::Relaxed),
            encode_ns: self.encode_ns.load(Ordering::Relaxed),
        }
    }
    pub(crate) fn count_staging(&self, bytes: u64) {
        self.staging_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
    pub(crate) fn count_pipeline(&self) {
        self.pipelines.fetch_add(1, Ordering::Relaxed);
    }
    pub(crate) fn count_wait(&self) {
        self.waits.fetch_add(1, Ordering::Relaxed);
    }
    /// Time by the clock that was given.
    pub(crate) fn now(&self) -> Duration {
        self.clocks.get().map_or(Duration::ZERO, |clocks| (clocks.wall)())
    }
    /// What this thread has spent, by the clock that was given.
    pub(crate) fn spent(&self) -> Duration {
        self.clocks.get().map_or(Duration::ZERO, |clocks| (clocks.thread)())
    }
    pub(crate) fn set_clocks(&self, clocks: Clocks) {
        // The first ones stay: differences of two clocks mean nothing.
        let _ = self.clocks.set(clocks);
    }
    pub(crate) fn count_weights(&self, begun: Duration) {
        self.weights_ns.fetch_add((self.now() - begun).as_nanos() as u64, Ordering::Relaxed);
    }
    pub(crate) fn count_compilation(&self, begun: Duration) {
        self.compile_ns.fetch_add((self.now() - begun).as_nanos() as u64, Ordering::Relaxed);
    }
    /// A submission is handed over that this thread began to encode when it had spent `spent`.
    pub(crate) fn count_encoding(&self, spent: Duration) {
        self.encode_ns.fetch_add(self.spent().saturating_sub(spent).as_nanos() as u64, Ordering::Relaxed);
    }
    pub(crate) fn count_submission(&self) {
        self.submissions.fetch_add(1, Ordering::Relaxed);
    }
}

/// Bytes that count as allocated until this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    meters: Arc<Meters>,
    bytes: u64,
}

impl Lease {
    pub(crate) fn new(meters: Arc<Meters>, bytes: u64) -> Self {
        meters.allocations.fetch_add(1, Ordering::Relaxed);
        meters.allocated_bytes.fetch_add(bytes, Ordering::Relaxed);
        Self { meters, bytes }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.meters.allocated_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_gives_its_bytes_back_and_stays_counted() {
        let meters = Arc::new(Meters::default());
        let leases = [Lease::new(Arc::clone(&meters), 100), Lease::new(Arc::clone(&meters), 20)];
        assert_eq!(meters.read(), Counters { allocations: 2, allocated_bytes: 120, ..Counters::default() });
        drop(leases);
        assert_eq!(meters.read(), Counters { allocations: 2, ..Counters::default() });
    }
}
