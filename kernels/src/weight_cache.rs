//! Weights on their way to the device: read and packed by several threads at a time, block by block, and kept for
//! every plan of a network.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::buffer::{Buffer, Filling, duplicate};
use crate::error::KernelError;
use crate::gpu::Gpu;
use crate::pages::LargePages;
use crate::slots::SlotPool;
use crate::weight::{Scratch, Weight, WeightSource};

/// Most threads that read and pack at once: more would wait for the memory.
const THREADS: usize = 8;

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

    /// Those of the weights here that `keeps` says, shared, for a network that differs in the others and whose plans
    /// take turns with those of this one.
    pub fn only(&self, keeps: impl Fn(&Weight) -> bool) -> Self {
        let known = self.known();
        let kept = known.iter().filter(|(weight, _)| keeps(weight));
        let kept = kept.map(|(weight, buffer)| (weight.clone(), buffer.clone())).collect();
        Self { weights: Arc::new(Mutex::new(kept)), slots: self.slots.clone() }
    }

    /// Drops what `keeps` does not say: it is freed with the last plan that uses it, and read anew for the next.
    pub fn retain(&self, keeps: impl Fn(&Weight) -> bool) {
        self.known().retain(|weight, _| keeps(weight));
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
        let failures = Mutex::new(Vec::new());
        // Of this call: what is freed may be allocated once more.
        let pages = LargePages::default();
        let work = || {
            let mut scratch = Scratch::default();
            while !has_failed.load(Ordering::Relaxed) {
                let ix = next.fetch_add(1, Ordering::Relaxed);
                let Some(weight) = missing.get(ix) else { return };
                if let Err(error) = self.load_one(gpu, weight, source, &pages, &mut scratch) {
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
        pages: &LargePages,
        scratch: &mut Scratch,
    ) -> Result<(), KernelError> {
        let filling = Filling::new(gpu, &weight.name(), weight.bytes(), pages)?;
        weight.pack(source, scratch, |at, bytes| filling.write(at, bytes))?;
        let buffer = filling.finish();
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
