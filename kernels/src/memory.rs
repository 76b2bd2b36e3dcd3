//! The memory plan: where each intermediate tensor lies, by liveness.
//!
//! Tensors lie side by side in a few buffers, the slots. What a dispatch writes is never in the slot of
//! anything else that it binds: wgpu knows whole buffers only, and a buffer is read or written, not both.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::ops::Range;

use crate::plan::{Dispatch, Operand, Storage, Value};

/// Slots that are made before one grows. Few slots let plans share theirs, each the largest of its rank.
const SLOTS: usize = 4;
/// Bindings start at multiples of this on every adapter (WebGPU's default).
pub(crate) const ALIGNMENT: u64 = 256;

/// Where a value lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Index of the slot.
    pub slot: u32,
    /// Bytes before it.
    pub offset: u64,
}

/// Slots of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Place of each value, by id; none for inputs, outputs and values never written.
    pub place_of: Vec<Option<Place>>,
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

/// Pairs of values that one dispatch binds and writes one of.
fn strangers(dispatches: &[Dispatch]) -> HashSet<(u32, u32)> {
    let mut pairs = HashSet::new();
    for dispatch in dispatches {
        for (_, written, is_written) in &dispatch.bindings {
            let (Operand::Tensor(written), true) = (written, is_written) else { continue };
            for (_, other, _) in &dispatch.bindings {
                if let Operand::Tensor(other) = other {
                    pairs.extend([(*written, *other), (*other, *written)]);
                }
            }
        }
    }
    pairs
}

/// A value in a slot.
struct User {
    id: u32,
    life: (usize, usize),
    bytes: Range<u64>,
}

/// The lowest place for `bytes` beside the users that live at the same time.
fn lowest(users: &[User], life: (usize, usize), bytes: u64) -> u64 {
    let mut taken: Vec<&Range<u64>> =
        users.iter().filter(|u| u.life.0 <= life.1 && life.0 <= u.life.1).map(|u| &u.bytes).collect();
    taken.sort_by_key(|range| range.start);
    let mut at = 0;
    for range in taken {
        if at + bytes <= range.start {
            break;
        }
        at = at.max(range.end.next_multiple_of(ALIGNMENT));
    }
    at
}

/// Places the largest values first (after Pisarchyk and Lee 2020, arXiv:2001.03288): each in the slot that has
/// room for it beside what lives at the same time, or has to grow least.
pub fn plan(values: &[Value], dispatches: &[Dispatch]) -> Memory {
    let lives = lifetimes(values.len(), dispatches);
    let strangers = strangers(dispatches);
    let mut order: Vec<(usize, (usize, usize))> = lives
        .iter()
        .enumerate()
        .filter(|(id, _)| values[*id].storage == Storage::Slot)
        .filter_map(|(id, life)| life.map(|life| (id, life)))
        .collect();
    order.sort_by_key(|&(id, (first, _))| (Reverse(values[id].bytes()), first));
    let mut memory = Memory { place_of: vec![None; values.len()], slot_bytes: Vec::new() };
    let mut slots: Vec<Vec<User>> = Vec::new();
    for (ix, life) in order {
        let (id, bytes) = (ix as u32, values[ix].bytes());
        let may_join = |users: &Vec<User>| users.iter().all(|u| !strangers.contains(&(id, u.id)));
        let rooms = slots.iter().enumerate().filter(|(_, users)| may_join(users)).map(|(slot, users)| {
            let offset = lowest(users, life, bytes);
            ((offset + bytes).saturating_sub(memory.slot_bytes[slot]), slot, offset)
        });
        let room = rooms.min().filter(|(growth, _, _)| *growth == 0 || slots.len() >= SLOTS);
        let (slot, offset) = room.map_or((slots.len(), 0), |(_, slot, offset)| (slot, offset));
        if slot == slots.len() {
            slots.push(Vec::new());
            memory.slot_bytes.push(0);
        }
        memory.slot_bytes[slot] = memory.slot_bytes[slot].max(offset + bytes);
        slots[slot].push(User { id, life, bytes: offset..offset + bytes });
        memory.place_of[ix] = Some(Place { slot: slot as u32, offset });
    }
    memory
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Variant;
    use crate::tensor::{DType, Shape};

    /// Dispatches that each write one new value and read up to four earlier ones, by a fixed sequence.
    fn chain(length: usize, mut chance: u64) -> (Vec<Value>, Vec<Dispatch>) {
        let mut next = |below: usize| {
            chance = chance.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (chance >> 33) as usize % below
        };
        let (mut values, mut dispatches) = (Vec::new(), Vec::new());
        for ix in 0..length {
            let shape = Shape::vector(1, 1 + next(5000) as u32);
            values.push(Value { shape, dtype: DType::F32, storage: Storage::Slot });
            let mut bindings = vec![("y", Operand::Tensor(ix as u32), true)];
            let reads: Vec<usize> = (0..next(4) + 1).map(|_| ix.saturating_sub(1 + next(12))).collect();
            let reads = reads.into_iter().filter(|&read| read < ix);
            bindings.extend(reads.map(|read| ("x", Operand::Tensor(read as u32), false)));
            let variant = Variant { stem: "test", defines: Vec::new() };
            let label = String::new();
            dispatches.push(Dispatch {
                label,
                variant,
                bindings,
                immediates: vec![],
                grid: [1; 3],
                flops: 0,
            });
        }
        (values, dispatches)
    }

    #[test]
    fn what_lives_at_once_lies_apart_and_what_is_written_is_in_a_slot_of_its_own() {
        for seed in 0..50 {
            let (values, dispatches) = chain(120, seed);
            let memory = plan(&values, &dispatches);
            let lives = lifetimes(values.len(), &dispatches);
            let place = |id: usize| memory.place_of[id].unwrap_or_else(|| panic!("{id} has no place"));
            for (a, b) in (0..values.len()).flat_map(|a| (0..a).map(move |b| (a, b))) {
                let (Some(x), Some(y)) = (lives[a], lives[b]) else { continue };
                let [p, q] = [place(a), place(b)];
                let is_apart =
                    p.offset + values[a].bytes() <= q.offset || q.offset + values[b].bytes() <= p.offset;
                let is_together = p.slot == q.slot && x.0 <= y.1 && y.0 <= x.1;
                assert!(is_apart || !is_together, "{seed}: {a} at {p:?}, {b} at {q:?}");
            }
            for dispatch in &dispatches {
                let [written, read @ ..] = &dispatch.bindings[..] else { continue };
                let slot = |operand: &Operand| match operand {
                    Operand::Tensor(id) => place(*id as usize).slot,
                    Operand::Weight(_) => unreachable!(),
                };
                assert!(read.iter().all(|(_, x, _)| slot(x) != slot(&written.1)), "{seed}: {dispatch:?}");
            }
            for (id, value) in values.iter().enumerate() {
                let place = place(id);
                assert!(place.offset % ALIGNMENT == 0);
                assert!(place.offset + value.bytes() <= memory.slot_bytes[place.slot as usize]);
            }
        }
    }

    #[test]
    fn a_chain_takes_two_slots() {
        let (mut values, mut dispatches) = chain(40, 1);
        for (ix, dispatch) in dispatches.iter_mut().enumerate() {
            values[ix].shape = Shape::vector(1, 1024);
            dispatch.bindings.truncate(1);
            let read = ix.checked_sub(1).map(|read| ("x", Operand::Tensor(read as u32), false));
            dispatch.bindings.extend(read);
        }
        assert_eq!(plan(&values, &dispatches).slot_bytes, [4096; 2]);
    }
}
