//! The memory plan: which slot buffer each intermediate tensor uses, by liveness.
//!
//! Slots are separate buffers, not offsets into one arena: an arena would be bound read-write
//! everywhere and put a barrier before every dispatch (wgpu orders whole buffers).

use crate::plan::{Dispatch, Operand, Storage, Value};

/// A slot is not reused until this many dispatches after its last read, so that a writer need
/// not wait for the reader just before it.
const REUSE_DISTANCE: usize = 2;

/// Slots of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Slot of each value, by id; none for inputs, outputs and values never written.
    pub slot_of: Vec<Option<u32>>,
    /// Size of each slot in bytes.
    pub slot_bytes: Vec<u64>,
}

/// First and last dispatch that touches each value.
pub fn lifetimes(values: usize, dispatches: &[Dispatch]) -> Vec<Option<(usize, usize)>> {
    let mut lives = vec![None; values];
    for (at, dispatch) in dispatches.iter().enumerate() {
        for (_, operand, _) in &dispatch.bindings {
            if let Operand::Tensor(id) = operand {
                let life = lives[*id as usize].get_or_insert((at, at));
                life.1 = at;
            }
        }
    }
    lives
}

/// Assigns slots greedily in order of first use: the free slot that fits with least waste, else
/// the largest free slot, grown, else a new one.
pub fn plan(values: &[Value], dispatches: &[Dispatch]) -> Memory {
    let lives = lifetimes(values.len(), dispatches);
    let mut order: Vec<(usize, usize, usize)> = lives
        .iter()
        .enumerate()
        .filter(|(id, _)| values[*id].storage == Storage::Slot)
        .filter_map(|(id, life)| life.map(|(first, last)| (first, last, id)))
        .collect();
    order.sort_unstable();
    let mut memory = Memory { slot_of: vec![None; values.len()], slot_bytes: Vec::new() };
    let mut free_from: Vec<usize> = Vec::new();
    for (first, last, id) in order {
        let bytes = values[id].bytes();
        let free = (0..free_from.len()).filter(|&s| free_from[s] <= first);
        let best = free.min_by_key(|&s| {
            let have = memory.slot_bytes[s];
            (have < bytes, have.abs_diff(bytes))
        });
        let slot = best.unwrap_or_else(|| {
            free_from.push(0);
            memory.slot_bytes.push(0);
            free_from.len() - 1
        });
        memory.slot_bytes[slot] = memory.slot_bytes[slot].max(bytes);
        free_from[slot] = last + REUSE_DISTANCE;
        memory.slot_of[id] = Some(slot as u32);
    }
    memory
}
