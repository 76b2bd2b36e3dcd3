//! Slot buffers that plans share: what one leaves in them is dead when the next begins.
//!
//! A queue runs submissions, and the dispatches in them, one after the other, so that plans of one model can use
//! the same memory in turns: that of the largest plan instead of the sum of all.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::buffer::{Buffer, GUARD_BYTES, allocate};
use crate::error::KernelError;
use crate::gpu::Gpu;

/// Slot buffers in use on one device, the largest first; those that no plan uses any more are gone.
#[derive(Debug, Clone, Default)]
pub(crate) struct SlotPool {
    slots: Arc<Mutex<Vec<Weak<Buffer>>>>,
}

impl SlotPool {
    /// A buffer for each of `sizes`, all different. The largest is matched with the largest there is, the second
    /// largest with the second, and so on; where that is too small, one is allocated.
    ///
    /// # Errors
    /// [`KernelError::Limit`], [`KernelError::OutOfMemory`].
    pub(crate) fn take(&self, gpu: &Gpu, sizes: &[u64]) -> Result<Vec<Arc<Buffer>>, KernelError> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|slot| slot.strong_count() > 0);
        let mut order: Vec<usize> = (0..sizes.len()).collect();
        order.sort_by_key(|&ix| std::cmp::Reverse(sizes[ix]));
        let mut taken = vec![None; sizes.len()];
        for (rank, ix) in order.into_iter().enumerate() {
            let found = slots.get(rank).and_then(Weak::upgrade);
            let slot = match found.filter(|slot| slot.size() >= sizes[ix] + GUARD_BYTES) {
                Some(slot) => slot,
                None => {
                    let slot = Arc::new(allocate(gpu, &format!("slot {rank}"), sizes[ix])?);
                    // Smaller ones move on, to the next places.
                    slots.insert(rank, Arc::downgrade(&slot));
                    slot
                }
            };
            taken[ix] = Some(slot);
        }
        Ok(taken.into_iter().flatten().collect())
    }
}
