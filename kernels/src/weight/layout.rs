//! How weights lie in GPU memory.

use super::Part;

/// How a weight lies in GPU memory. `O` is axis 0, `K` the channels read, `taps` = kh·kw.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Vectors of `[O]` behind one another, each zero-padded to `padded` elements.
    Vector {
        /// Length with padding.
        padded: u32,
    },
    /// A table `[O][I]` with each row padded to a multiple of four (embeddings).
    Rows,
    /// `[taps][K][N]`, N fastest, for each part of the reduction in turn. `k` lists the unpadded
    /// channels of the sources of each part (one or two), each padded to four; N is padded to
    /// `n_padded`. For workgroup-tile kernels.
    Kn {
        /// Channels of each source of each part, unpadded.
        k: Vec<Vec<u32>>,
        /// Output channels with padding.
        n_padded: u32,
    },
    /// `[N/(lanes·columns)][K/4 of every tap and part in turn][columns][lanes][4]`: the four K values
    /// that one lane reads as a `vec4`, lanes fastest. For subgroup kernels of CPU adapters. Sources
    /// as in `Kn`.
    Panels {
        /// Channels of each source of each part, unpadded.
        k: Vec<Vec<u32>>,
        /// Lanes of a subgroup.
        lanes: u32,
        /// Columns that a lane owns; column `(panel·lanes + lane)·columns + j`.
        columns: u32,
    },
    /// A 3×3 weight behind a doubling of the picture, as the four 2×2 weights that do the same on the
    /// picture before it: sixteen taps, those of the phase `(py, px)` from `4·(2·py + px)` on, laid out as
    /// the inner layout says. Taps that meet the same pixel are added, in f32.
    Phases(Box<Self>),
}

/// Channels of the sources of one part, padded.
fn padded(k: &[u32]) -> usize {
    k.iter().map(|&c| c.next_multiple_of(4) as usize).sum()
}

impl Layout {
    /// Elements of parts of these shapes after packing.
    pub(super) fn elements(&self, parts: &[Part]) -> u64 {
        let outer = parts.first().map_or(0, |p| u64::from(p.outer));
        let reduction = |k: &[Vec<u32>]| -> u64 {
            parts.iter().zip(k).map(|(part, k)| (part.taps() * padded(k)) as u64).sum()
        };
        match self {
            Self::Vector { padded } => parts.len() as u64 * u64::from(*padded),
            Self::Rows => outer * parts.iter().map(|p| p.row().next_multiple_of(4) as u64).sum::<u64>(),
            Self::Kn { k, n_padded } => reduction(k) * u64::from(*n_padded),
            Self::Panels { k, lanes, columns } => {
                outer.next_multiple_of(u64::from(lanes * columns)) * reduction(k)
            }
            Self::Phases(inner) => inner.elements(&folded(parts.to_vec())),
        }
    }

    /// Values in this layout, in place of what `packed` holds.
    pub(super) fn pack(&self, parts: &mut Vec<Part>, packed: &mut Vec<f32>) {
        if let Self::Phases(inner) = self {
            *parts = folded(std::mem::take(parts));
            return inner.pack(parts, packed);
        }
        packed.clear();
        packed.resize(self.elements(parts) as usize, 0.0);
        match self {
            Self::Vector { padded } => {
                for (part, room) in parts.iter().zip(packed.chunks_exact_mut(*padded as usize)) {
                    room[..part.data.len()].copy_from_slice(&part.data);
                }
            }
            Self::Rows => {
                for part in &*parts {
                    let pitch = part.row().next_multiple_of(4);
                    for (row, room) in part.data.chunks_exact(part.row()).zip(packed.chunks_exact_mut(pitch))
                    {
                        room[..row.len()].copy_from_slice(row);
                    }
                }
            }
            Self::Kn { k, n_padded } => {
                spread(parts, k, packed, |at| at * *n_padded as usize, |o| o, LINE);
            }
            Self::Panels { k, lanes, columns } => {
                let (lanes, columns) = (*lanes as usize, *columns as usize);
                let quads: usize = parts.iter().zip(k).map(|(part, k)| part.taps() * padded(k) / 4).sum();
                let step = 4 * lanes * columns;
                let row_at = |at: usize| at / 4 * step + at % 4;
                let column_at = |o: usize| {
                    let (panel, column, lane) = (o / (lanes * columns), o % columns, o / columns % lanes);
                    panel * quads * step + (column * lanes + lane) * 4
                };
                spread(parts, k, packed, row_at, column_at, lanes * columns);
            }
            Self::Phases(_) => {}
        }
    }
}

/// Outputs whose values for one place in the reduction fill a line of the cache.
const LINE: usize = 16;
/// Channels that are packed at a time.
const CHANNELS: usize = 4;

/// Puts every value of `[O, I, taps…]` parts at `row_at(place in the reduction) + column_at(o)`: so many outputs
/// (`block`) and channels at a time, that what is read and written stays near.
fn spread(
    parts: &[Part],
    k: &[Vec<u32>],
    packed: &mut [f32],
    row_at: impl Fn(usize) -> usize,
    column_at: impl Fn(usize) -> usize,
    block: usize,
) {
    let mut start = 0;
    for (part, k) in parts.iter().zip(k) {
        let (taps, k_len, row) = (part.taps().max(1), padded(k), part.row().max(1));
        let first = k.first().map_or(0, |&c| c as usize);
        let gap = first.next_multiple_of(4) - first;
        let columns: Vec<usize> = (0..part.outer as usize).map(&column_at).collect();
        for (block_ix, columns) in columns.chunks(block).enumerate() {
            let outputs = &part.data[block_ix * block * row..];
            for i0 in (0..row / taps).step_by(CHANNELS) {
                let channels = i0..(i0 + CHANNELS).min(row / taps);
                for tap in 0..taps {
                    let rows = channels.clone().map(|i| {
                        let channel = if i < first { i } else { i + gap };
                        (i * taps + tap, row_at(start + tap * k_len + channel))
                    });
                    for (from, to) in rows {
                        let values = outputs[from..].iter().step_by(row);
                        columns.iter().zip(values).for_each(|(column, value)| packed[to + column] = *value);
                    }
                }
            }
        }
        start += taps * k_len;
    }
}

/// The parts with sixteen taps, four of each phase, for every nine; shapes alone where there are no values.
///
/// Row `2·y + py` of a doubled picture meets the rows `(2·y + py + d) / 2` of the picture, `d` from -1 to 1:
/// `y - 1, y, y` where py is 0, and `y, y, y + 1` where it is 1.
fn folded(mut parts: Vec<Part>) -> Vec<Part> {
    // Taps 0 | 1, 2 where the phase is 0, and 0, 1 | 2 where it is 1.
    let second_tap = |phase: usize, tap: usize| usize::from(tap > phase);
    for part in &mut parts {
        let mut data = vec![0.0; part.data.len() / 9 * 16];
        for (nine, sixteen) in part.data.chunks_exact(9).zip(data.chunks_exact_mut(16)) {
            for (phase, four) in sixteen.chunks_exact_mut(4).enumerate() {
                for (tap, value) in nine.iter().enumerate() {
                    four[2 * second_tap(phase / 2, tap / 3) + second_tap(phase % 2, tap % 3)] += value;
                }
            }
        }
        part.inner.truncate(1);
        part.inner.extend([4, 4]);
        part.data = data;
    }
    parts
}
