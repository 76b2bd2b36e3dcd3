//! Weights that are packed block by block, against their layouts' definitions written out place by place.

use std::collections::HashMap;

use super::*;

/// Whole numbers that tell every element of every tensor apart, so that sums of them are exact.
struct Numbered;

impl WeightSource for Numbered {
    fn read(&self, name: &str, shape: &[u32]) -> Result<Vec<f32>, KernelError> {
        let seed = name.bytes().fold(0_u32, |seed, byte| (seed * 31 + u32::from(byte)) % 97);
        let count = shape.iter().product::<u32>();
        Ok((0..count).map(|ix| (seed * 1000 + ix) as f32).collect())
    }
}

/// A source that leaves out the last value.
struct Short;

impl WeightSource for Short {
    fn read(&self, name: &str, shape: &[u32]) -> Result<Vec<f32>, KernelError> {
        let mut values = Numbered.read(name, shape)?;
        values.pop();
        Ok(values)
    }
}

/// Numbers of both signs; rows of zeros, rows with one huge value, rows that f32 hardly holds.
struct Uneven;

impl WeightSource for Uneven {
    fn read(&self, _: &str, shape: &[u32]) -> Result<Vec<f32>, KernelError> {
        let row: u32 = shape.iter().skip(1).product();
        let value = |ix: u32| {
            let unit = ix.wrapping_mul(0x9e37_79b9) as f32 / u32::MAX as f32 * 2.0 - 1.0;
            match (ix / row % 5, ix % row) {
                (1, _) => 0.0,
                (2, 0) => -1e20,
                (3, _) => unit * 1e-44,
                _ => unit,
            }
        };
        Ok((0..shape[0] * row).map(value).collect())
    }
}

/// One value of the reduction: which part, which tap, which channel; none for padding.
type Place = Option<(usize, usize, usize)>;

/// Every place of the reduction in order: parts, their taps, the channels of each source padded to four.
fn places(k: &[Vec<u32>], taps: &[usize]) -> Vec<Place> {
    let mut places = Vec::new();
    for (part, (k, taps)) in k.iter().zip(taps).enumerate() {
        for tap in 0..*taps {
            let mut first = 0;
            for channels in k.iter().map(|&c| c as usize) {
                places.extend((first..first + channels).map(|channel| Some((part, tap, channel))));
                places.extend((channels..channels.next_multiple_of(4)).map(|_| None));
                first += channels;
            }
        }
    }
    places
}

/// What a layout's definition says, for parts `[outer, channels, taps]` of these values.
fn defined(layout: &Layout, shapes: &[[usize; 3]], values: &[Vec<f32>]) -> Vec<f32> {
    let outer = shapes[0][0];
    let taps: Vec<usize> = shapes.iter().map(|s| s[2]).collect();
    let value = |place: Place, o: usize| match place {
        Some((part, tap, channel)) if o < outer => {
            values[part][(o * shapes[part][1] + channel) * shapes[part][2] + tap]
        }
        _ => 0.0,
    };
    let mut packed = Vec::new();
    match layout {
        Layout::Vector { padded } => {
            for values in values {
                packed.extend(values);
                packed.resize(packed.len().next_multiple_of(*padded as usize), 0.0);
            }
        }
        Layout::Rows => {
            for (values, [_, channels, taps]) in values.iter().zip(shapes) {
                for row in values.chunks(channels * taps) {
                    packed.extend(row);
                    packed.resize(packed.len().next_multiple_of(4), 0.0);
                }
            }
        }
        Layout::Kn { k, n_padded } => {
            for place in places(k, &taps) {
                packed.extend((0..*n_padded as usize).map(|o| value(place, o)));
            }
        }
        Layout::Panels { k, lanes, columns } => {
            let (lanes, columns) = (*lanes as usize, *columns as usize);
            for panel in 0..outer.div_ceil(lanes * columns) {
                for quad in places(k, &taps).chunks(4) {
                    for pair in (0..columns).step_by(2) {
                        for (lane, column) in (0..lanes).flat_map(|lane| [(lane, pair), (lane, pair + 1)]) {
                            let o = (panel * lanes + lane) * columns + column;
                            packed.extend(quad.iter().map(|place| value(*place, o)));
                        }
                    }
                }
            }
        }
        Layout::Phases(inner) => {
            let shapes: Vec<_> = shapes.iter().map(|[o, c, _]| [*o, *c, 16]).collect();
            let values: Vec<_> = values.iter().map(|v| v.chunks(9).flat_map(phases).collect()).collect();
            return defined(inner, &shapes, &values);
        }
    }
    packed
}

/// The sixteen taps of four phases: a pixel of a doubled picture reads those of the picture at half its place.
fn phases(nine: &[f32]) -> Vec<f32> {
    let mut sixteen = vec![0.0; 16];
    for (py, px) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        for (dy, dx) in (-1_i32..=1).flat_map(|dy| (-1_i32..=1).map(move |dx| (dy, dx))) {
            // The picture's pixels that a phase reads begin one before its own where the phase is 0.
            let tap = |phase: i32, d: i32| (phase + d).div_euclid(2) + 1 - phase;
            let to = 4 * (2 * py + px) + 2 * tap(py, dy) + tap(px, dx);
            sixteen[to as usize] += nine[(3 * (dy + 1) + dx + 1) as usize];
        }
    }
    sixteen
}

/// What is handed over in blocks of about `values_at_once`, put together; every element once.
fn packed(weight: &Weight, values_at_once: usize) -> Result<Vec<f32>, KernelError> {
    let mut whole = vec![f32::NAN; weight.packed_elements() as usize];
    let mut written = 0;
    weight.pack_by(values_at_once, &Numbered, &mut Scratch::default(), |at, bytes| {
        assert!(at.is_multiple_of(4), "a word is written at {at}");
        let run: &[f32] = bytemuck::cast_slice(bytes);
        whole[at as usize / 4..][..run.len()].copy_from_slice(run);
        written += run.len();
        Ok(())
    })?;
    assert_eq!(written, whole.len(), "{weight:?}: an element was written twice, or none");
    Ok(whole)
}

/// Shapes `[outer, channels, taps]` of parts, and their values in the order in which they are packed.
type Whole = (Vec<[usize; 3]>, Vec<Vec<f32>>);

fn parts(values: &Values, source: &dyn WeightSource, is_gated: bool) -> Result<Whole, KernelError> {
    let shapes: Vec<[usize; 3]> = values
        .shapes()
        .iter()
        .map(|part| [part.outer as usize, part.row() / part.taps(), part.taps()])
        .collect();
    let mut whole: Vec<Vec<f32>> =
        values.params().iter().map(|param| param.read(source)).collect::<Result<_, _>>()?;
    if is_gated {
        let row = shapes[0][1] * shapes[0][2];
        let half = shapes[0][0] / 2;
        let order = (0..half / 2).flat_map(|i| [2 * i, 2 * i + 1, half + 2 * i, half + 2 * i + 1]);
        whole[0] = order.flat_map(|o| whole[0][o * row..][..row].to_vec()).collect();
    }
    Ok((shapes, whole))
}

fn check(values: Values, layout: Layout, is_gated: bool) -> Result<(), KernelError> {
    if !matches!(layout, Layout::Vector { .. } | Layout::Rows) {
        check_int8(values.clone(), layout.clone(), is_gated)?;
    }
    let (shapes, whole) = parts(&values, &Numbered, is_gated)?;
    let expected = defined(&layout, &shapes, &whole);
    let weight = Weight { values, is_gated, layout, dtype: DType::F32 };
    for values_at_once in [1, 200, 1000, 1 << 20] {
        assert_eq!(packed(&weight, values_at_once)?, expected, "{weight:?} in blocks of {values_at_once}");
    }
    Ok(())
}

/// That bytes are the whole numbers that the reference finds, in the layout's places, behind their scales.
fn check_int8(values: Values, layout: Layout, is_gated: bool) -> Result<(), KernelError> {
    let (mut shapes, mut whole) = parts(&values, &Uneven, is_gated)?;
    let mut places = &layout;
    if let Layout::Phases(inner) = &layout {
        places = inner;
        shapes.iter_mut().for_each(|shape| shape[2] = 16);
        whole.iter_mut().for_each(|v| *v = v.chunks(9).flat_map(phases).collect());
    }
    let wide: Vec<Vec<f64>> = whole.iter().map(|v| v.iter().map(|&v| f64::from(v)).collect()).collect();
    let rows: Vec<(&[f64], usize)> = wide.iter().zip(&shapes).map(|(v, s)| (&v[..], s[1] * s[2])).collect();
    let kept = crate::reference::quantisation::int8(&rows);
    let largest = |o: usize| {
        let rows = wide.iter().zip(&rows).flat_map(|(v, (_, row))| &v[o * row..(o + 1) * row]);
        rows.fold(0.0_f64, |largest, v| largest.max(v.abs()))
    };
    let scales: Vec<f64> = (0..shapes[0][0]).map(|o| f64::from(largest(o) as f32 / 127.0)).collect();
    let numbers: Vec<Vec<f32>> = kept
        .iter()
        .zip(&rows)
        .map(|(kept, (_, row))| {
            let number =
                |(ix, v): (usize, &f64)| if *v == 0.0 { 0.0 } else { (v / scales[ix / row]).round() as f32 };
            kept.iter().enumerate().map(number).collect()
        })
        .collect();
    for ((kept, wide), (_, row)) in kept.iter().zip(&wide).zip(&rows) {
        for (ix, (kept, wide)) in kept.iter().zip(wide).enumerate() {
            // Half a step, and what a subnormal scale is itself off by.
            let step = 0.5001 * scales[ix / row] + 127.0 * f64::from(f32::from_bits(1));
            assert!((kept - wide).abs() <= step, "{kept} for {wide}, a step is {}", scales[ix / row]);
        }
    }
    let expected = defined(places, &shapes, &numbers);
    let weight = Weight { values, is_gated, layout, dtype: DType::I8 };
    for values_at_once in [1, 200, 1 << 20] {
        let mut bytes = vec![0x55_u8; weight.bytes() as usize];
        weight.pack_by(values_at_once, &Uneven, &mut Scratch::default(), |at, run| {
            assert!(at.is_multiple_of(4), "a word is written at {at}");
            bytes[at as usize..][..run.len()].copy_from_slice(run);
            Ok(())
        })?;
        let (head, tail) = bytes.split_at(bytes.len() - expected.len());
        let head: Vec<f64> =
            bytemuck::pod_collect_to_vec::<u8, f32>(head).into_iter().map(f64::from).collect();
        assert_eq!(
            (&head[..scales.len()], head[scales.len()..].iter().sum()),
            (&scales[..], 0.0),
            "{weight:?}"
        );
        let tail: Vec<f32> = tail.iter().map(|&byte| f32::from(byte as i8)).collect();
        assert_eq!(tail, expected, "{weight:?} in blocks of {values_at_once}");
    }
    Ok(())
}

fn layouts(k: &[Vec<u32>], outer: u32) -> [Layout; 4] {
    let k = k.to_vec();
    [
        Layout::Kn { k: k.clone(), n_padded: outer.next_multiple_of(4) },
        Layout::Kn { k: k.clone(), n_padded: outer.next_multiple_of(16) },
        Layout::Panels { k: k.clone(), lanes: 8, columns: 2 },
        Layout::Panels { k, lanes: 4, columns: 4 },
    ]
}

#[test]
fn blocks_of_any_size_make_the_defined_layout() -> Result<(), KernelError> {
    for (outer, channels, kernel) in [(8, 4, 1), (13, 7, 3), (40, 22, 3), (1, 1, 1), (33, 9, 1)] {
        let param = Param::new("w", &[outer, channels, kernel, kernel]);
        for layout in layouts(&[vec![channels]], outer) {
            check(Values::from(&param), layout.clone(), false)?;
            if kernel == 3 {
                check(Values::from(&param), Layout::Phases(Box::new(layout)), false)?;
            }
        }
        check(Values::from(&Param::new("rows", &[outer, channels])), Layout::Rows, false)?;
    }
    Ok(())
}

#[test]
fn two_sources_joined_rows_shortcuts_and_gates_are_packed_alike() -> Result<(), KernelError> {
    let two_sources = Param::new("two", &[12, 11, 3, 3]);
    for layout in layouts(&[vec![5, 6]], 12) {
        check(Values::from(&two_sources), layout, false)?;
    }
    let [q, k, v] = [("q", 6), ("k", 9), ("v", 5)].map(|(name, outer)| Param::new(name, &[outer, 10]));
    let joined = Param::join(&[q, k, v])?;
    for layout in layouts(&[vec![10]], 20) {
        check(Values::from(&joined), layout, false)?;
    }
    let chain = Values::Chain([Param::new("conv", &[14, 6, 3, 3]), Param::new("shortcut", &[14, 9])]);
    for layout in layouts(&[vec![6], vec![4, 5]], 14) {
        check(chain.clone(), layout, false)?;
    }
    for layout in layouts(&[vec![10]], 24) {
        check(Values::from(&Param::new("gated", &[24, 10])), layout, true)?;
    }
    let stack = Values::Stack(vec![Param::new("scale", &[10]), Param::new("shift", &[10])]);
    check(stack, Layout::Vector { padded: 12 }, false)?;
    check(Values::from(&Param::new("bias", &[24])), Layout::Vector { padded: 32 }, true)
}

/// Halves that tell elements apart; those of tensors called `without` can only be read as f32.
struct Halves {
    all: HashMap<String, Vec<f16>>,
    without: &'static str,
    /// Tensors that were read as f32.
    widened: std::sync::Mutex<Vec<String>>,
}

impl Halves {
    /// Those that `weight` is computed from.
    fn of(weight: &Weight, without: &'static str) -> Result<Self, KernelError> {
        let mut all = HashMap::new();
        for param in weight.values.params() {
            for (name, shape, _) in param.parts_with(0..param.outer() as usize) {
                let numbers = Numbered.read(name, &shape)?;
                // Below the first exponent that is not finite.
                let halves = numbers.into_iter().map(|n| f16::from_bits(n as u16 % 0x7c00)).collect();
                all.insert(name.to_string(), halves);
            }
        }
        Ok(Self { all, without, widened: std::sync::Mutex::default() })
    }
}

impl WeightSource for Halves {
    fn read(&self, name: &str, _: &[u32]) -> Result<Vec<f32>, KernelError> {
        if let Ok(mut widened) = self.widened.lock() {
            widened.push(name.into());
        }
        Ok(self.all[name].iter().map(|half| half.to_f32()).collect())
    }
    fn halves(&self, name: &str, _: &[u32]) -> Option<&[f16]> {
        let has_halves = self.without != "all" && self.without != name;
        self.all.get(name).filter(|_| has_halves).map(Vec::as_slice)
    }
}

/// The bytes of a weight in f16 from halves, and from f32 where `without` says; and what was read as f32.
fn as_halves(
    weight: &Weight,
    without: &'static str,
    values_at_once: usize,
) -> Result<(Vec<u8>, Vec<String>), KernelError> {
    let source = Halves::of(weight, without)?;
    let mut whole = vec![0x55; weight.bytes() as usize];
    weight.pack_by(values_at_once, &source, &mut Scratch::default(), |at, bytes| {
        whole[at as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    })?;
    Ok((whole, source.widened.into_inner().unwrap_or_default()))
}

#[test]
fn halves_of_a_checkpoint_are_taken_as_they_are() -> Result<(), KernelError> {
    let [q, k] = [("q", 12), ("k", 8)].map(|(name, outer)| Param::new(name, &[outer, 10]));
    let cases = [
        (Values::from(&Param::new("conv", &[20, 10, 3, 3])), vec![vec![10]], false),
        (Values::from(&Param::join(&[q, k])?), vec![vec![10]], false),
        (Values::from(&Param::new("gated", &[20, 10])), vec![vec![10]], true),
        (
            Values::Chain([Param::new("conv", &[20, 10, 3, 3]), Param::new("k", &[20, 9])]),
            vec![vec![10], vec![4, 5]],
            false,
        ),
    ];
    for (values, channels, is_gated) in cases {
        for layout in layouts(&channels, 20) {
            let weight = Weight { values: values.clone(), is_gated, layout, dtype: DType::F16 };
            for values_at_once in [1, 200, 1 << 20] {
                let (expected, _) = as_halves(&weight, "all", values_at_once)?;
                let (packed, widened) = as_halves(&weight, "none", values_at_once)?;
                assert_eq!(packed, expected, "{weight:?} in blocks of {values_at_once}");
                assert!(widened.is_empty(), "{weight:?}: {widened:?} read as f32");
                // Of a weight of several tensors, one of which is stored otherwise.
                assert_eq!(as_halves(&weight, "k", values_at_once)?.0, expected, "{weight:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn halves_that_are_computed_with_give_what_singles_do() -> Result<(), KernelError> {
    let weight = Param::new("w", &[8, 300]);
    let scaled = Values::Scaled { weight, scale: Param::new("scale", &[300]) };
    let doubled = Values::from(&Param::new("conv", &[8, 8, 3, 3]));
    for (values, k, is_gated) in [(&scaled, 300, false), (&scaled, 300, true), (&doubled, 8, false)] {
        for layout in layouts(&[vec![k]], 8) {
            let layout = if k == 8 { Layout::Phases(Box::new(layout)) } else { layout };
            let weight = Weight { values: values.clone(), is_gated, layout, dtype: DType::F16 };
            for values_at_once in [200, 1 << 20] {
                let expected = as_halves(&weight, "all", values_at_once)?.0;
                assert_eq!(as_halves(&weight, "none", values_at_once)?.0, expected, "{weight:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn halves_that_are_not_finite_are_left_to_those_that_name_them() -> Result<(), KernelError> {
    let values = Values::from(&Param::new("w", &[8, 8]));
    let layout = Layout::Kn { k: vec![vec![8]], n_padded: 8 };
    let weight = Weight { values, is_gated: false, layout, dtype: DType::F16 };
    for wrong in [f16::INFINITY, f16::NEG_INFINITY, f16::NAN] {
        let mut source = Halves::of(&weight, "none")?;
        if let Some(all) = source.all.get_mut("w") {
            all[13] = wrong;
        }
        weight.pack(&source, &mut Scratch::default(), |_, _| Ok(()))?;
        assert_eq!(source.widened.into_inner().unwrap_or_default(), ["w"], "{wrong}");
    }
    Ok(())
}

/// A source of halves that says more of them than there are.
struct Few;

impl WeightSource for Few {
    fn read(&self, name: &str, shape: &[u32]) -> Result<Vec<f32>, KernelError> {
        Short.read(name, shape)
    }
    fn halves(&self, _: &str, _: &[u32]) -> Option<&[f16]> {
        Some(&[f16::ONE; 3])
    }
}

#[test]
fn a_source_that_returns_too_little_is_named() {
    let values = Values::from(&Param::new("w", &[8, 4]));
    let layout = Layout::Kn { k: vec![vec![4]], n_padded: 8 };
    let weight = Weight { values, is_gated: false, layout, dtype: DType::F16 };
    for source in [&Short as &dyn WeightSource, &Few] {
        let packed = weight.pack(source, &mut Scratch::default(), |_, _| Ok(()));
        let message = packed.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(message.contains("expected 32 values") && message.contains("got 31"), "{message}");
    }
}
