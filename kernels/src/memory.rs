//! The memory plan: which slot buffer each intermediate tensor uses, by liveness.
//!
//! Slots are separate buffers, not offsets into one arena: an arena would be bound read-write
//! everywhere and put a barrier before every dispatch (wgpu orders whole buffers).

use std::cmp::Reverse;

use crate::plan::{Dispatch, Operand, Storage, Value};

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

/// Assigns slots to the largest values first (Pisarchyk and Lee 2020, arXiv:2001.03288): each takes the smallest
/// slot that nothing alive at the same time uses, or else a new one of its own size.
pub fn plan(values: &[Value], dispatches: &[Dispatch]) -> Memory {
    let lives = lifetimes(values.len(), dispatches);
    let mut order: Vec<(usize, (usize, usize))> = lives
        .iter()
        .enumerate()
        .filter(|(id, _)| values[*id].storage == Storage::Slot)
        .filter_map(|(id, life)| life.map(|life| (id, life)))
        .collect();
    order.sort_by_key(|&(id, (first, _))| (Reverse(values[id].bytes()), first));
    let mut memory = Memory { slot_of: vec![None; values.len()], slot_bytes: Vec::new() };
    // Lives of the values in each slot. Sizes fall, so the last slot that is free is the smallest.
    let mut users: Vec<Vec<(usize, usize)>> = Vec::new();
    for (id, (first, last)) in order {
        let is_free = |lives: &Vec<(usize, usize)>| lives.iter().all(|&(from, to)| to < first || last < from);
        let slot = users.iter().rposition(is_free).unwrap_or_else(|| {
            memory.slot_bytes.push(values[id].bytes());
            users.push(Vec::new());
            users.len() - 1
        });
        users[slot].push((first, last));
        memory.slot_of[id] = Some(slot as u32);
    }
    memory
}
