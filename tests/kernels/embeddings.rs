//! Token, position and timestep embeddings against f64.

use dreamglass_kernels::ops::{Embedding, TimestepEmbedding};
use dreamglass_kernels::reference::{embedding, timestep_embedding};
use dreamglass_kernels::{DType, Param, Shape};

use crate::harness::{Random, Values, assert_close, on_tiers, rounding, to_f64, values_on_tiers};

#[test]
fn embedding_matches_f64() {
    for (seed, [n, tokens, c]) in [[1, 77, 64], [3, 5, 7], [2, 1, 1]].into_iter().enumerate() {
        let mut random = Random::new(seed as u64);
        let vocabulary = 40;
        // One id in a few lies past the table.
        let ids: Vec<u32> = (0..n * tokens).map(|_| random.word() % 45).collect();
        let table = random.halves((vocabulary * c) as usize);
        let positions = random.halves(((tokens + 2) * c) as usize);
        for out_dtype in [DType::F16, DType::F32] {
            for placed in [false, true] {
                let places = if placed { to_f64(&positions) } else { Vec::new() };
                let want = embedding::embedding(&ids, tokens as usize, &to_f64(&table), &places, c as usize);
                values_on_tiers(
                    &[("ids", Values::Words(&ids))],
                    &[("table", &table), ("positions", &positions)],
                    |plan| {
                        let ids = plan.input("ids", Shape::tokens(n, tokens, 1), DType::U32);
                        let table = Param::new("table", &[vocabulary, c]);
                        let positions = placed.then(|| Param::new("positions", &[tokens + 2, c]));
                        Embedding { ids, table, positions, out_dtype }.record(plan)
                    },
                    |tier, got| {
                        let what = format!("[{n},{tokens},{c}] {placed} {out_dtype} {tier:?}");
                        assert_close(&what, got, &want, |ix| rounding(out_dtype, want[ix]));
                    },
                );
            }
        }
    }
}

#[test]
fn timestep_embedding_matches_f64() {
    // Diffusers' UNet time embedding, its guidance embedding, and odd sizes.
    let cases = [(320, true, 0.0, 1.0), (256, false, 1.0, 1000.0), (6, true, 0.5, 1.0), (2, false, 0.0, 1.0)];
    let values = [0.0, 1.0, 259.0, 499.0, 999.0, 7.5, 0.001];
    for (dim, cos_first, shift, scale) in cases {
        let want = timestep_embedding::timestep_embedding(
            &to_f64(&values),
            dim as usize,
            cos_first,
            f64::from(shift),
            f64::from(scale),
        );
        for out_dtype in [DType::F16, DType::F32] {
            // The angle carries the rounding of its frequency, sixteen steps of f32 with the
            // driver's exp; sine and cosine a few of their own.
            let bound = |ix: usize| {
                let angle = f64::from(values[ix / dim as usize] * scale);
                angle / f64::from(1 << 20) + 1e-6 + rounding(out_dtype, want[ix])
            };
            on_tiers(
                &[("values", &values)],
                &[],
                |plan| {
                    let values = plan.input("values", Shape::vector(values.len() as u32, 1), DType::F32);
                    TimestepEmbedding { values, dim, cos_first, shift, scale, out_dtype }.record(plan)
                },
                |tier, got| {
                    assert_close(&format!("{dim} {cos_first} {out_dtype} {tier:?}"), got, &want, bound);
                },
            );
        }
    }
}
