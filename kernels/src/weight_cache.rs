//! Weights on their way to the device: read and packed by several threads at a time, within bounds on the memory
//! that takes, and kept for every plan of a network.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::buffer::{Buffer, allocate, duplicate};
use crate::error::KernelError;
use crate::gpu::Gpu;
use crate::slots::SlotPool;
use crate::weight::{Scratch, Weight, WeightSource};

/// Most threads that read and pack at once.
const THREADS: usize = 4;
/// Bytes of packed weights on their way at once, unless a single one has more. Values that are read take as much
/// again, twice as much for f16.
const BYTES_AT_ONCE: u64 = 64 << 20;

/// What plans share on one device: packed weights of one network, and memory for what is dead between plans.
#[derive(Debug, Clone, Default)]
pub struct WeightCache {
    weights: Arc<Mutex<HashMap<Weight, Buffer>>>,
    pub(crate) slots: SlotPool,
}

impl WeightCache {
    /// No weights yet, for another network whose plans take turns with those of this one: their memory is shared.
    pub fn beside(&self) -> Self {
        Self { weights: Arc::default(), slots: self.slots.clone() }
    }

    /// Copies of all weights in memory of their own.
    ///
    /// # Errors
    /// [`KernelError::OutOfMemory`], [`KernelError::Device`], [`KernelError::DeviceLost`].
    pub(crate) fn twin(&self, gpu: &Gpu) -> Result<Self, KernelError> {
        let copies = self
            .known()
            .iter()
            .map(|(weight, buffer)| {
                Ok((weight.clone(), duplicate(gpu, &weight.name(), weight.bytes(), buffer)?))
            })
            .collect::<Result<_, KernelError>>()?;
        Ok(Self { weights: Arc::new(Mutex::new(copies)), slots: self.slots.clone() })
    }

    /// A buffer for each of `weights`; those that are not there yet come from `source`.
    ///
    /// # Errors
    /// What the source reports, of the first weight in order that fails; [`KernelError::OutOfMemory`],
    /// [`KernelError::Limit`].
    pub(crate) fn load(
        &self,
        gpu: &Gpu,
        weights: &[Weight],
        source: &dyn WeightSource,
    ) -> Result<Vec<Buffer>, KernelError> {
        let missing: Vec<&Weight> = {
            let known = self.known();
            weights.iter().filter(|weight| !known.contains_key(*weight)).collect()
        };
        let (next, has_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (budget, failures) = (Budget::default(), Mutex::new(Vec::new()));
        let work = || {
            let mut scratch = Scratch::default();
            while !has_failed.load(Ordering::Relaxed) {
                let ix = next.fetch_add(1, Ordering::Relaxed);
                let Some(weight) = missing.get(ix) else { return };
                let bytes = weight.bytes();
                budget.take(bytes);
                let loaded = self.load_one(gpu, weight, source, &mut scratch);
                budget.give(bytes);
                if let Err(error) = loaded {
                    has_failed.store(true, Ordering::Relaxed);
                    failures.lock().unwrap_or_else(PoisonError::into_inner).push((ix, error));
                }
            }
        };
        thread::scope(|scope| {
            // This thread is one of them.
            for _ in 1..missing.len().min(threads()) {
                scope.spawn(work);
            }
            work();
        });
        let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, error)) = failures.into_iter().min_by_key(|(ix, _)| *ix) {
            return Err(error);
        }
        let known = self.known();
        Ok(weights.iter().filter_map(|weight| known.get(weight).cloned()).collect())
    }

    fn load_one(
        &self,
        gpu: &Gpu,
        weight: &Weight,
        source: &dyn WeightSource,
        scratch: &mut Scratch,
    ) -> Result<(), KernelError> {
        let packed = weight.load(source, scratch)?;
        let buffer = allocate(gpu, &weight.name(), packed.len() as u64)?;
        gpu.upload(&buffer, packed)?;
        if let Entry::Vacant(free) = self.known().entry(weight.clone()) {
            free.insert(buffer);
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Weight, Buffer>> {
        self.weights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Threads that read and pack at once.
fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(THREADS)
}

/// Bytes that are on their way.
#[derive(Default)]
struct Budget {
    taken: Mutex<u64>,
    given_back: Condvar,
}

impl Budget {
    /// Waits until `bytes` more fit, or nothing else is on its way.
    fn take(&self, bytes: u64) {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |taken: &mut u64| *taken > 0 && *taken + bytes > BYTES_AT_ONCE;
        let mut taken = self.given_back.wait_while(taken, is_full).unwrap_or_else(PoisonError::into_inner);
        *taken += bytes;
    }
    fn give(&self, bytes: u64) {
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) -= bytes;
        self.given_back.notify_all();
    }
}
