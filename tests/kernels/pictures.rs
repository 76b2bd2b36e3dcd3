//! Pictures in and out against f64.

use dreamglass_kernels::ops::{I420, Orientation, PictureIn, PictureOut};
use dreamglass_kernels::reference::{i420, picture};
use dreamglass_kernels::{DType, Shape};

use crate::harness::{Random, Values, assert_close, rounding, to_f64, values_on_tiers, words_on_tiers};

#[test]
fn resizing_matches_f64() {
    // Source [W, H], region, result [H, W]; each in another orientation.
    let cases: [([u32; 2], [f32; 4], [u32; 2]); 10] = [
        ([16, 16], [0.0, 0.0, 16.0, 16.0], [16, 16]),
        ([64, 48], [8.0, 0.0, 48.0, 48.0], [32, 32]),
        ([10, 7], [0.0, 0.0, 10.0, 7.0], [33, 41]),
        ([100, 90], [3.5, 7.25, 80.5, 60.0], [16, 24]),
        ([9, 200], [0.0, 0.0, 9.0, 200.0], [7, 50]),
        ([640, 8], [0.0, 0.0, 640.0, 8.0], [8, 3]),
        ([1, 1], [0.0, 0.0, 1.0, 1.0], [5, 3]),
        ([20, 20], [19.0, 19.0, 0.5, 1.0], [4, 4]),
        ([16, 9], [0.0, -3.5, 16.0, 16.0], [24, 24]),
        ([9, 16], [-3.5, 0.0, 16.0, 16.0], [8, 12]),
    ];
    for (seed, (source, region, size)) in cases.into_iter().enumerate() {
        let mut random = Random::new(seed as u64);
        let pixels: Vec<u32> = (0..source[0] * source[1]).map(|_| random.word()).collect();
        let wide = region.map(f64::from);
        let orientation = Orientation { quarter_turns: seed as u32 % 4, mirror: seed / 4 % 2 == 1 };
        let [source_sides, sides] = [source, size].map(|s| s.map(|s| s as usize));
        let want = picture::picture_in(&pixels, source_sides, wide, orientation, sides);
        for out_dtype in [DType::F16, DType::F32] {
            // A tap's weight is off by the rounding of its place, four steps of f32 at the size of
            // the picture; there are two axes, and the result spans 2.
            let place = f64::from(source[0].max(source[1])) * 4.0 / f64::from(1 << 23);
            let bound = |ix: usize| 4.0 * place + 1e-5 + rounding(out_dtype, want[ix]);
            values_on_tiers(
                &[("pixels", Values::Words(&pixels))],
                &[],
                |plan| {
                    let pixels = plan.input("pixels", Shape::new(1, source[1], source[0], 1), DType::U32);
                    PictureIn { pixels, region, orientation, size, out_dtype }.record(plan)
                },
                |tier, got| {
                    let what = format!("{source:?} {region:?} {size:?} {out_dtype} {tier:?}");
                    assert_close(&what, got, &want, bound);
                },
            );
        }
    }
}

#[test]
fn a_picture_of_its_own_size_passes_unchanged() {
    let mut random = Random::new(9);
    let pixels: Vec<u32> = (0..12 * 10).map(|_| random.word() | 0xff00_0000).collect();
    words_on_tiers(
        &[("pixels", Values::Words(&pixels))],
        |plan| {
            let pixels = plan.input("pixels", Shape::new(1, 10, 12, 1), DType::U32);
            let region = [0.0, 0.0, 12.0, 10.0];
            let orientation = Orientation::default();
            let x = PictureIn { pixels, region, orientation, size: [10, 12], out_dtype: DType::F16 }
                .record(plan)?;
            PictureOut { x }.record(plan)
        },
        |tier, got| assert_eq!(got, pixels, "{tier:?}"),
    );
}

#[test]
fn packing_matches_f64() {
    let shape = Shape::new(2, 5, 7, 3);
    let mut x = Random::new(3).range(shape.elements() as usize, -1.2, 1.2);
    x[..9].copy_from_slice(&[
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        -f32::NAN,
        65504.0,
        -65504.0,
        -1.0,
        1.0,
        0.0,
    ]);
    let want = picture::picture_out(&to_f64(&x));
    for dtype in [DType::F16, DType::F32] {
        words_on_tiers(
            &[("x", Values::Floats(&x))],
            |plan| PictureOut { x: plan.input("x", shape, dtype) }.record(plan),
            |tier, got| {
                assert_eq!(got.len(), want.len());
                for (ix, (got, want)) in got.iter().zip(&want).enumerate() {
                    for (channel, (g, w)) in got.to_le_bytes().into_iter().zip(want.to_le_bytes()).enumerate()
                    {
                        // A value half way between two bytes may go either way.
                        let exact =
                            x.get(ix * 3 + channel).map_or(0.0, |&v| (f64::from(v) + 1.0) / 2.0 * 255.0);
                        let half_way = (exact.fract() - 0.5).abs() < 1e-4;
                        let off = g.abs_diff(w);
                        assert!(
                            off == 0 || (off == 1 && half_way && channel < 3),
                            "{dtype} {tier:?} {ix}: {got:x} {want:x}"
                        );
                    }
                }
            },
        );
    }
}

#[test]
fn planes_match_f64() {
    for (seed, [width, height]) in [[8, 2], [8, 8], [64, 48], [24, 6], [264, 130]].into_iter().enumerate() {
        let mut random = Random::new(seed as u64);
        let mut pixels: Vec<u32> = (0..width * height).map(|_| random.word()).collect();
        // The corners of the cube, where a byte would wrap.
        let corners = [0, 0xffff_ffff, 0x00ff, 0xff00, 0x00ff_0000, 0xffff, 0x00ff_ff00, 0x00ff_00ff];
        pixels[..8].copy_from_slice(&corners);
        pixels[width as usize..width as usize + 8].copy_from_slice(&corners);
        let want = i420::i420(&pixels, width as usize);
        words_on_tiers(
            &[("pixels", Values::Words(&pixels))],
            |plan| {
                let pixels = plan.input("pixels", Shape::new(1, height, width, 1), DType::U32);
                I420 { pixels }.record(plan)
            },
            |tier, got| {
                // Integers on both sides: not a step apart.
                let got: Vec<u8> = got.iter().flat_map(|word| word.to_le_bytes()).collect();
                assert!(got == want, "{tier:?} {width}x{height}");
            },
        );
    }
}
