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
use crate::memory::ALIGNMENT;
use crate::pages::LargePages;
use crate::slots::SlotPool;
use crate::weight::{Scratch, Weight, WeightSource};

/// Most threads that read and pack at once: more would wait for the memory.
const THREADS: usize = 8;
/// Bytes of a weight that shares its buffer with others, biases and the like, and of such a buffer. What a buffer costs
/// each submission and each start does not depend on its size.
const SMALL_BYTES: u64 = 64 << 10;
const SHARED_BYTES: u64 = 1 << 20;

/// A weight on the device.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) buffer: Buffer,
    /// Bytes before it there.
    pub(crate) offset: u64,
}

/// What plans share on one device: packed weights of one network, and memory for what is dead between plans.
#[derive(Debug, Clone, Default)]
pub struct WeightCache {
    weights: Arc<Mutex<HashMap<Weight, Placed>>>,
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
        let kept = kept.map(|(weight, placed)| (weight.clone(), placed.clone())).collect();
        Self { weights: Arc::new(Mutex::new(kept)), slots: self.slots.clone() }
    }

    /// Drops what `keeps` does not say: it is freed with the last plan that uses it or what shares its buffer, and
    /// read anew for the next.
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
            .map(|(weight, placed)| {
                let Placed { buffer, offset } = placed;
                let buffer = duplicate(gpu, &weight.name(), buffer, *offset, weight.bytes())?;
                Ok((weight.clone(), Placed { buffer, offset: 0 }))
            })
            .collect::<Result<_, KernelError>>()?;
        Ok(Self { weights: Arc::new(Mutex::new(copies)), slots: self.slots.clone() })
    }

    /// Where each of `weights` is; those that are not there yet come from `source`.
    ///
    /// # Errors
    /// What the source reports, of the first weight in order that failed; [`KernelError::OutOfMemory`],
    /// [`KernelError::Limit`].
    pub(crate) fn load(
        &self,
        gpu: &Gpu,
        weights: &[Weight],
        source: &dyn WeightSource,
    ) -> Result<Vec<Placed>, KernelError> {
        let missing: Vec<&Weight> = {
            let known = self.known();
            weights.iter().filter(|weight| !known.contains_key(*weight)).collect()
        };
        let groups = groups(&missing);
        let (next, has_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let failures = Mutex::new(Vec::new());
        // Of this call: what is freed may be allocated once more.
        let pages = LargePages::default();
        let work = || {
            let mut scratch = Scratch::default();
            while !has_failed.load(Ordering::Relaxed) {
                let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                let group: Vec<(usize, &Weight)> = group.iter().map(|&ix| (ix, missing[ix])).collect();
                if let Err(failure) = self.load_group(gpu, &group, source, &pages, &mut scratch) {
                    has_failed.store(true, Ordering::Relaxed);
                    failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
                }
            }
        };
        thread::scope(|scope| {
            // This thread is one of them.
            for _ in 1..groups.len().min(threads()) {
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

    /// Loads weights, each with its index, into one buffer. With an error comes the index of what failed.
    fn load_group(
        &self,
        gpu: &Gpu,
        group: &[(usize, &Weight)],
        source: &dyn WeightSource,
        pages: &LargePages,
        scratch: &mut Scratch,
    ) -> Result<(), (usize, KernelError)> {
        let (first, name, bytes) = match group {
            [] => return Ok(()),
            [(ix, weight)] => (*ix, weight.name(), weight.bytes()),
            [(ix, weight), others @ ..] => {
                let bytes = group.iter().map(|(_, weight)| shared_bytes(weight)).sum();
                (*ix, format!("{} and {} more", weight.name(), others.len()), bytes)
            }
        };
        let mut filling = Filling::new(gpu, &name, bytes, pages).map_err(|e| (first, e))?;
        let mut offsets = Vec::with_capacity(group.len());
        let mut offset = 0;
        for (ix, weight) in group {
            let write = |at: u64, bytes: &[u8]| filling.write(offset + at, bytes);
            weight.pack(source, scratch, write).map_err(|e| (*ix, e))?;
            offsets.push(offset);
            let end = bytes.min(offset + shared_bytes(weight));
            filling.clear(offset + weight.bytes()..end);
            offset = end;
        }
        // SAFETY: a weight hands over all of its bytes, and what is between two was cleared.
        let buffer = unsafe { filling.finish() }.map_err(|e| (first, e))?;
        let mut known = self.known();
        for ((_, weight), offset) in group.iter().zip(offsets) {
            if let Entry::Vacant(free) = known.entry((*weight).clone()) {
                free.insert(Placed { buffer: buffer.clone(), offset });
            }
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Weight, Placed>> {
        self.weights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Threads that read and pack at once.
fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(THREADS)
}

/// Bytes of a weight beside others in a buffer.
fn shared_bytes(weight: &Weight) -> u64 {
    weight.bytes().next_multiple_of(ALIGNMENT)
}

/// Which weights, by their indices, share a buffer: small ones in the order they are in, each other one for itself.
fn groups(weights: &[&Weight]) -> Vec<Vec<usize>> {
    let is_small = |ix: &usize| weights[*ix].bytes() <= SMALL_BYTES;
    let (small, large): (Vec<usize>, Vec<usize>) = (0..weights.len()).partition(is_small);
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for ix in small {
        let bytes = shared_bytes(weights[ix]);
        match groups.last_mut().filter(|_| bytes <= room) {
            Some(group) => group.push(ix),
            None => {
                groups.push(vec![ix]);
                room = SHARED_BYTES;
            }
        }
        room -= bytes;
    }
    groups.extend(large.into_iter().map(|ix| vec![ix]));
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;
    use crate::weight::{Layout, Param, Values};

    fn vector(elements: u32) -> Weight {
        let values = Values::Plain(Param::new(format!("of {elements}"), &[elements]));
        Weight { values, is_gated: false, layout: Layout::Vector { padded: elements }, dtype: DType::F32 }
    }

    #[test]
    fn small_weights_share_buffers_and_large_ones_have_their_own() {
        let at_most = (SMALL_BYTES / 4) as u32;
        // One that is too large among small ones, which together need more than two buffers.
        let weights: Vec<Weight> =
            [1, at_most + 4].into_iter().chain((0..40).map(|ix| at_most - 4 * ix)).map(vector).collect();
        let weights: Vec<&Weight> = weights.iter().collect();
        let groups = groups(&weights);
        let mut all: Vec<usize> = groups.iter().flatten().copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..weights.len()).collect::<Vec<_>>());
        assert!(groups.contains(&vec![1]) && groups.len() == 4, "{groups:?}");
        for group in &groups {
            let bytes: u64 = group.iter().map(|&ix| shared_bytes(weights[ix])).sum();
            assert!(group.len() == 1 || bytes <= SHARED_BYTES, "{group:?}: {bytes}");
        }
    }
}
