//! How weights lie in GPU memory, and how blocks of them get there.

use std::ops::Range;

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

/// What is read and packed at a time: rows of axis 0 of one part, and channels of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// Which part.
    pub(super) part: usize,
    /// Rows, in the order in which they are packed.
    pub(super) rows: Range<usize>,
    /// Channels, each with all of its taps.
    pub(super) channels: Range<usize>,
}

/// Where a run of packed values belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// Elements of the weight before it.
    pub(super) at: usize,
    /// Its place among the packed values of its block.
    pub(super) from: Range<usize>,
}

/// Channels of the sources of one part, padded.
fn padded(k: &[u32]) -> usize {
    k.iter().map(|&c| c.next_multiple_of(4) as usize).sum()
}

/// Places in the reduction of all parts before `part`.
fn places_before(parts: &[Part], k: &[Vec<u32>], part: usize) -> usize {
    parts.iter().zip(k).take(part).map(|(part, k)| part.taps() * padded(k)).sum()
}

/// Where a channel of a part is among its padded channels: those of a second source begin at a multiple of four.
fn channel_at(k: &[u32], channel: usize) -> usize {
    let first = k.first().map_or(0, |&c| c as usize);
    if channel < first { channel } else { channel + first.next_multiple_of(4) - first }
}

impl Layout {
    /// Elements of parts of these shapes after packing.
    pub(super) fn elements(&self, parts: &[Part]) -> u64 {
        let outer = parts.first().map_or(0, |p| u64::from(p.outer));
        let reduction = |k: &[Vec<u32>]| places_before(parts, k, parts.len()) as u64;
        match self {
            Self::Vector { padded } => parts.len() as u64 * u64::from(*padded),
            Self::Rows => outer * parts.iter().map(|p| p.row().next_multiple_of(4) as u64).sum::<u64>(),
            Self::Kn { k, .. } | Self::Panels { k, .. } => self.columns(parts) * reduction(k),
            Self::Phases(inner) => inner.elements(&folded_shapes(parts)),
        }
    }

    /// Blocks of about `values` each that together are all of `parts`: what of them lies together when packed.
    pub(super) fn blocks(&self, parts: &[Part], values: usize) -> Vec<Block> {
        let (mut row_step, mut channel_step) = (usize::MAX, usize::MAX);
        let mut blocks = Vec::new();
        for (ix, part) in parts.iter().enumerate() {
            let (rows, row, taps) = (part.outer as usize, part.row().max(1), part.taps().max(1));
            match self {
                Self::Vector { .. } => {}
                Self::Rows => row_step = (values / row).max(1),
                Self::Kn { .. } => channel_step = (values / (rows * taps).max(1)).max(4) / 4 * 4,
                Self::Panels { lanes, columns, .. } => {
                    let panel = (lanes * columns) as usize;
                    row_step = (values / (panel * row)).max(1) * panel;
                }
                Self::Phases(inner) => return inner.blocks(parts, values),
            }
            for rows in steps(rows, row_step) {
                for channels in steps(row / taps, channel_step) {
                    blocks.push(Block { part: ix, rows: rows.clone(), channels });
                }
            }
        }
        blocks
    }

    /// Packs the `values` `[rows, channels, taps]` of a block after [`Self::fold`], in place of what `packed` holds; where they belong.
    pub(super) fn pack(
        &self,
        parts: &[Part],
        block: &Block,
        values: &[f32],
        packed: &mut Vec<f32>,
    ) -> Vec<Piece> {
        packed.clear();
        match self {
            Self::Vector { padded } => {
                packed.extend(values);
                packed.resize(*padded as usize, 0.0);
                vec![Piece { at: block.part * packed.len(), from: 0..packed.len() }]
            }
            Self::Rows => pack_rows(parts, block, values, packed),
            Self::Kn { k, n_padded } => pack_kn(parts, k, *n_padded as usize, block, values, packed),
            Self::Panels { k, lanes, columns } => {
                pack_panels(parts, k, [*lanes as usize, *columns as usize], block, values, packed)
            }
            Self::Phases(inner) => inner.pack(&folded_shapes(parts), block, values, packed),
        }
    }

    /// Makes of the values `[rows, channels, taps]` of a block those that [`Self::pack`] takes: sums, where taps meet.
    pub(super) fn fold(&self, values: &mut Vec<f32>) {
        if let Self::Phases(_) = self {
            *values = folded(values);
        }
    }

    /// Output channels with padding, where they are columns of a product.
    pub(super) fn columns(&self, parts: &[Part]) -> u64 {
        match self {
            Self::Vector { .. } | Self::Rows => 0,
            Self::Kn { n_padded, .. } => (*n_padded).into(),
            Self::Panels { lanes, columns, .. } => {
                let outer = parts.first().map_or(0, |p| u64::from(p.outer));
                outer.next_multiple_of(u64::from(lanes * columns))
            }
            Self::Phases(inner) => inner.columns(parts),
        }
    }
}

/// The range to `end` in steps; at least one.
fn steps(end: usize, step: usize) -> impl Iterator<Item = Range<usize>> {
    let step = step.min(end.max(1));
    (0..end.div_ceil(step)).map(move |ix| ix * step..((ix + 1) * step).min(end))
}

fn pack_rows(parts: &[Part], block: &Block, values: &[f32], packed: &mut Vec<f32>) -> Vec<Piece> {
    let row = parts[block.part].row();
    let pitch = row.next_multiple_of(4);
    packed.resize(block.rows.len() * pitch, 0.0);
    for (row, room) in values.chunks_exact(row).zip(packed.chunks_exact_mut(pitch)) {
        room[..row.len()].copy_from_slice(row);
    }
    let before: usize =
        parts[..block.part].iter().map(|p| p.outer as usize * p.row().next_multiple_of(4)).sum();
    vec![Piece { at: before + block.rows.start * pitch, from: 0..packed.len() }]
}

fn pack_kn(
    parts: &[Part],
    k: &[Vec<u32>],
    n_padded: usize,
    block: &Block,
    values: &[f32],
    packed: &mut Vec<f32>,
) -> Vec<Piece> {
    let (part, k_of_part) = (&parts[block.part], &k[block.part]);
    let (taps, k_len, channels) = (part.taps(), padded(k_of_part), part.row() / part.taps());
    let low = channel_at(k_of_part, block.channels.start);
    let is_last = block.channels.end == channels;
    // Rows of padding belong to the block before them.
    let high = if is_last { k_len } else { channel_at(k_of_part, block.channels.end) };
    let depth = high - low;
    packed.resize(taps * depth * n_padded, 0.0);
    let shape = [block.rows.len(), block.channels.len(), taps];
    let row_at = |channel: usize, tap: usize| {
        (tap * depth + channel_at(k_of_part, block.channels.start + channel) - low) * n_padded
    };
    spread(values, shape, packed, row_at, |o| o, LINE);
    let before = places_before(parts, k, block.part) + low;
    let pieces = (0..taps).map(|tap| Piece {
        at: (before + tap * k_len) * n_padded,
        from: tap * depth * n_padded..(tap + 1) * depth * n_padded,
    });
    joined(pieces)
}

fn pack_panels(
    parts: &[Part],
    k: &[Vec<u32>],
    [lanes, columns]: [usize; 2],
    block: &Block,
    values: &[f32],
    packed: &mut Vec<f32>,
) -> Vec<Piece> {
    let (part, k_of_part) = (&parts[block.part], &k[block.part]);
    let (taps, k_len) = (part.taps(), padded(k_of_part));
    let (panel_rows, step) = (lanes * columns, 4 * lanes * columns);
    let (panels, run) = (block.rows.len().div_ceil(panel_rows), taps * k_len / 4 * step);
    packed.resize(panels * run, 0.0);
    let row_at = |channel: usize, tap: usize| {
        let at = tap * k_len + channel_at(k_of_part, channel);
        at / 4 * step + at % 4
    };
    let column_at = |o: usize| {
        let (panel, column, lane) = (o / panel_rows, o % columns, o / columns % lanes);
        panel * run + (column * lanes + lane) * 4
    };
    spread(values, [block.rows.len(), block.channels.len(), taps], packed, row_at, column_at, panel_rows);
    let quads = places_before(parts, k, parts.len()) / 4;
    let before = places_before(parts, k, block.part) / 4;
    let pieces = (0..panels).map(|panel| Piece {
        at: ((block.rows.start / panel_rows + panel) * quads + before) * step,
        from: panel * run..(panel + 1) * run,
    });
    joined(pieces)
}

/// The pieces with those in one that follow one another in the weight as they do here.
fn joined(pieces: impl Iterator<Item = Piece>) -> Vec<Piece> {
    let mut joined: Vec<Piece> = Vec::new();
    for piece in pieces {
        match joined.last_mut() {
            Some(last) if last.at + last.from.len() == piece.at => last.from.end = piece.from.end,
            _ => joined.push(piece),
        }
    }
    joined
}

/// Outputs whose values for one place in the reduction fill a line of the cache.
const LINE: usize = 16;
/// Channels that are packed at a time.
const CHANNELS: usize = 4;

/// Puts every value of `[rows, channels, taps]` at `row_at(channel, tap) + column_at(row)`: so many rows (`group`)
/// and channels at a time, that what is read and written stays near.
fn spread(
    values: &[f32],
    [rows, channels, taps]: [usize; 3],
    packed: &mut [f32],
    row_at: impl Fn(usize, usize) -> usize,
    column_at: impl Fn(usize) -> usize,
    group: usize,
) {
    let row = channels * taps;
    let columns: Vec<usize> = (0..rows).map(column_at).collect();
    for (group_ix, columns) in columns.chunks(group).enumerate() {
        let outputs = &values[group_ix * group * row..];
        for first in (0..channels).step_by(CHANNELS) {
            for tap in 0..taps {
                for channel in first..(first + CHANNELS).min(channels) {
                    let to = row_at(channel, tap);
                    let values = outputs[channel * taps + tap..].iter().step_by(row);
                    columns.iter().zip(values).for_each(|(column, value)| packed[to + column] = *value);
                }
            }
        }
    }
}

/// The shapes of what [`folded`] makes of parts of these.
fn folded_shapes(parts: &[Part]) -> Vec<Part> {
    let folded = |part: &Part| Part { outer: part.outer, inner: vec![part.inner[0], 4, 4] };
    parts.iter().map(folded).collect()
}

/// Sixteen taps, four of each phase, for every nine.
///
/// Row `2·y + py` of a doubled picture meets the rows `(2·y + py + d) / 2` of the picture, `d` from -1 to 1:
/// `y - 1, y, y` where py is 0, and `y, y, y + 1` where it is 1.
fn folded(values: &[f32]) -> Vec<f32> {
    // Taps 0 | 1, 2 where the phase is 0, and 0, 1 | 2 where it is 1.
    let second_tap = |phase: usize, tap: usize| usize::from(tap > phase);
    let mut folded = vec![0.0; values.len() / 9 * 16];
    for (nine, sixteen) in values.chunks_exact(9).zip(folded.chunks_exact_mut(16)) {
        for (phase, four) in sixteen.chunks_exact_mut(4).enumerate() {
            for (tap, value) in nine.iter().enumerate() {
                four[2 * second_tap(phase / 2, tap / 3) + second_tap(phase % 2, tap % 3)] += value;
            }
        }
    }
    folded
}
