//! How weights lie in GPU memory, and how blocks of them get there.

use std::ops::Range;

use bytemuck::Pod;

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
    /// `[N/(lanes·columns)][K/4 of every tap and part in turn][columns/2][lanes][2][4]`: the four K values
    /// of two columns that one lane reads at once, lanes fastest. For subgroup kernels of CPU adapters. Sources
    /// as in `Kn`; columns are even.
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

impl Block {
    /// Values past axis 0.
    pub(super) fn columns(&self, parts: &[Part]) -> Range<usize> {
        let taps = parts[self.part].taps();
        self.channels.start * taps..self.channels.end * taps
    }
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
                Self::Kn { .. } => channel_step = quads(LONG_RUNS * values / (rows * taps).max(1)),
                Self::Panels { k, lanes, columns } => {
                    let panel = (lanes * columns) as usize;
                    row_step = (values / (panel * row)).max(1) * panel;
                    // No block ends within a quad.
                    let is_even =
                        k[ix].split_last().is_none_or(|(_, k)| k.iter().all(|c| c.is_multiple_of(4)));
                    channel_step = if is_even { quads(values / (panel * taps)) } else { usize::MAX };
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

    /// Packs the `rows` of a block after [`Self::fold`], each `[channels, taps]`, in place of what `packed` holds; where
    /// they belong.
    pub(super) fn pack<T: Pod>(
        &self,
        parts: &[Part],
        block: &Block,
        rows: &[&[T]],
        packed: &mut Vec<T>,
    ) -> Vec<Piece> {
        match self {
            Self::Vector { padded } => {
                packed.clear();
                packed.extend(rows.iter().copied().flatten());
                packed.resize(*padded as usize, T::zeroed());
                vec![Piece { at: block.part * packed.len(), from: 0..packed.len() }]
            }
            Self::Rows => pack_rows(parts, block, rows, packed),
            Self::Kn { k, n_padded } => pack_kn(parts, k, *n_padded as usize, block, rows, packed),
            Self::Panels { k, lanes, columns } => {
                pack_panels(parts, k, [*lanes as usize, *columns as usize], block, rows, packed)
            }
            Self::Phases(inner) => inner.pack(&folded_shapes(parts), block, rows, packed),
        }
    }

    /// Whether [`Self::fold`] changes anything.
    pub(super) fn folds(&self) -> bool {
        matches!(self, Self::Phases(_))
    }

    /// Makes of the values `[rows, channels, taps]` of a block those that [`Self::pack`] takes: sums, where taps meet.
    pub(super) fn fold(&self, values: &mut Vec<f32>) {
        if self.folds() {
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

/// At least four of `channels`, and whole quads.
fn quads(channels: usize) -> usize {
    channels.max(4) / 4 * 4
}

/// So many elements, to be written all where `is_full`; zeros elsewhere.
fn make_room<T: Pod>(packed: &mut Vec<T>, len: usize, is_full: bool) {
    if !is_full {
        packed.clear();
    }
    packed.resize(len, T::zeroed());
}

fn pack_rows<T: Pod>(parts: &[Part], block: &Block, rows: &[&[T]], packed: &mut Vec<T>) -> Vec<Piece> {
    let row = parts[block.part].row();
    let pitch = row.next_multiple_of(4);
    make_room(packed, rows.len() * pitch, pitch == row);
    for (row, room) in rows.iter().zip(packed.chunks_exact_mut(pitch)) {
        room[..row.len()].copy_from_slice(row);
    }
    let before: usize =
        parts[..block.part].iter().map(|p| p.outer as usize * p.row().next_multiple_of(4)).sum();
    vec![Piece { at: before + block.rows.start * pitch, from: 0..packed.len() }]
}

/// Where the channels of a block lie among the padded ones of its part.
struct Depth<'a> {
    k: &'a [u32],
    first: usize,
    /// Padded channels.
    channels: Range<usize>,
    /// Padded channels of the whole part.
    of_part: usize,
    taps: usize,
}

impl<'a> Depth<'a> {
    fn new(part: &Part, k: &'a [u32], block: &Block) -> Self {
        let (of_part, taps, first) = (padded(k), part.taps(), block.channels.start);
        let is_last = block.channels.end == part.row() / taps;
        // Rows of padding belong to the block before them.
        let end = if is_last { of_part } else { channel_at(k, block.channels.end) };
        Self { k, first, channels: channel_at(k, first)..end, of_part, taps }
    }
    /// Padded channels.
    fn len(&self) -> usize {
        self.channels.len()
    }
    /// The place of a channel of the block.
    fn at(&self, channel: usize) -> usize {
        channel_at(self.k, self.first + channel) - self.channels.start
    }
    /// The place of the first channel for `tap`, among those of all taps of the part.
    fn before(&self, tap: usize) -> usize {
        tap * self.of_part + self.channels.start
    }
}

fn pack_kn<T: Pod>(
    parts: &[Part],
    k: &[Vec<u32>],
    n_padded: usize,
    block: &Block,
    rows: &[&[T]],
    packed: &mut Vec<T>,
) -> Vec<Piece> {
    let depth = Depth::new(&parts[block.part], &k[block.part], block);
    let (channels, taps) = (block.channels.len(), depth.taps);
    let run = depth.len() * n_padded;
    make_room(packed, taps * run, rows.len() == n_padded && channels == depth.len());
    // So many outputs of one place fill a line of the cache; each row is read from its first value to its last.
    let line = LINE / size_of::<T>();
    for (ix, rows) in rows.chunks(line).enumerate() {
        for channel in 0..channels {
            for tap in 0..taps {
                let room = &mut packed[tap * run + depth.at(channel) * n_padded + ix * line..];
                let column = rows.iter().map(|row| row[channel * taps + tap]);
                room.iter_mut().zip(column).for_each(|(room, value)| *room = value);
            }
        }
    }
    let before = places_before(parts, k, block.part);
    let pieces = (0..taps)
        .map(|tap| Piece { at: (before + depth.before(tap)) * n_padded, from: tap * run..(tap + 1) * run });
    joined(pieces)
}

fn pack_panels<T: Pod>(
    parts: &[Part],
    k: &[Vec<u32>],
    [lanes, columns]: [usize; 2],
    block: &Block,
    rows: &[&[T]],
    packed: &mut Vec<T>,
) -> Vec<Piece> {
    let depth = Depth::new(&parts[block.part], &k[block.part], block);
    let (taps, panel_rows) = (depth.taps, lanes * columns);
    let step = 4 * panel_rows;
    // Elements of one tap, and of a panel.
    let run = depth.len() / 4 * step;
    let panel = taps * run;
    let is_full = block.rows.len().is_multiple_of(panel_rows) && block.channels.len() == depth.len();
    make_room(packed, block.rows.len().div_ceil(panel_rows) * panel, is_full);
    let row_at: Vec<usize> = (0..panel_rows)
        .map(|o| {
            let (lane, column) = (o / columns, o % columns);
            4 * (2 * (column / 2 * lanes + lane) + column % 2)
        })
        .collect();
    let quads = quads_of(&depth, block.channels.len());
    for (rows, packed) in rows.chunks(panel_rows).zip(packed.chunks_exact_mut(panel)) {
        for (channels, at) in &quads {
            let (columns, packed) =
                (channels.start * taps..channels.end * taps, &mut packed[at * panel_rows..]);
            for (row, at) in rows.iter().zip(&row_at) {
                place(&row[columns.clone()], taps, &mut packed[*at..], run);
            }
        }
    }
    let quads = places_before(parts, k, parts.len()) / 4;
    let before = places_before(parts, k, block.part) / 4;
    let pieces = (0..packed.len() / run).map(|ix| {
        let (panel, tap) = (block.rows.start / panel_rows + ix / taps, ix % taps);
        Piece { at: (panel * quads + before + depth.before(tap) / 4) * step, from: ix * run..(ix + 1) * run }
    });
    joined(pieces)
}

/// The channels of a block that lie in one quad, and its place, for every quad.
fn quads_of(depth: &Depth<'_>, channels: usize) -> Vec<(Range<usize>, usize)> {
    let mut quads: Vec<(Range<usize>, usize)> = Vec::new();
    for channel in 0..channels {
        let at = depth.at(channel) / 4 * 4;
        match quads.last_mut() {
            Some((quad, place)) if *place == at => quad.end = channel + 1,
            _ => quads.push((channel..channel + 1, at)),
        }
    }
    quads
}

/// Puts the values `[channels, taps]` of up to four channels side by side, those of each tap `run` behind the last.
fn place<T: Pod>(quad: &[T], taps: usize, packed: &mut [T], run: usize) {
    match (taps, quad.len()) {
        (1, 4) => packed[..4].copy_from_slice(quad),
        (9, 36) => place_quad::<T, 9>(quad, packed, run),
        (16, 64) => place_quad::<T, 16>(quad, packed, run),
        _ => {
            for (channel, values) in quad.chunks_exact(taps).enumerate() {
                values.iter().enumerate().for_each(|(tap, value)| packed[tap * run + channel] = *value);
            }
        }
    }
}

/// [`place`] where all four channels are there, unrolled.
fn place_quad<T: Pod, const TAPS: usize>(quad: &[T], packed: &mut [T], run: usize) {
    let Some([a, b, c, d]) = quad.as_chunks::<TAPS>().0.first_chunk::<4>() else { return };
    for tap in 0..TAPS {
        // One by one: an array of them would be put together in memory and read back before it is there.
        let room = &mut packed[tap * run..][..4];
        room[0] = a[tap];
        room[1] = b[tap];
        room[2] = c[tap];
        room[3] = d[tap];
    }
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

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// How much larger blocks are whose rows are cut: reading a few values of many rows is slow.
const LONG_RUNS: usize = 8;

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
