//! Cosine similarity against f64.

use dreamglass_kernels::ops::Similarity;
use dreamglass_kernels::reference::similarity::similarity;
use dreamglass_kernels::{DType, Shape};

use crate::harness::{Random, assert_close, on_tiers, to_f64};

fn check(shape: Shape, dtypes: [DType; 2], a: &[f32], b: &[f32]) {
    let want = [similarity(&to_f64(a), &to_f64(b))];
    // A quotient of sums whose terms are added in chains of at most a hundred on these shapes, and
    // whose roundings mostly cancel: relative to |a|·|b|, 64 steps of f32 are generous.
    let bound = |_| 64.0 / f64::from(1 << 24);
    on_tiers(
        &[("a", a), ("b", b)],
        &[],
        |plan| {
            let (a, b) = (plan.input("a", shape, dtypes[0]), plan.input("b", shape, dtypes[1]));
            Similarity::new(a, b).record(plan)
        },
        |tier, got| assert_close(&format!("{shape} {dtypes:?} {tier:?}"), got, &want, bound),
    );
}

#[test]
fn similarity_matches_f64() {
    use DType::{F16, F32};
    let shapes = [
        ([1, 1, 1, 1], [F32, F32]),
        ([1, 5, 7, 3], [F32, F32]),
        ([1, 64, 64, 3], [F32, F16]),
        ([1, 131, 97, 3], [F32, F32]),
        ([1, 256, 256, 3], [F16, F16]),
        ([2, 9, 33, 6], [F16, F32]),
        ([1, 300, 1000, 4], [F32, F32]),
    ];
    for (seed, ([n, h, w, c], dtypes)) in shapes.into_iter().enumerate() {
        let shape = Shape::new(n, h, w, c);
        let mut random = Random::new(seed as u64);
        let count = shape.elements() as usize;
        let (a, noise) = (random.range(count, -1.0, 1.5), random.halves(count));
        let b: Vec<f32> = a.iter().zip(&noise).map(|(a, n)| half::f16::from_f32(a + n).to_f32()).collect();
        check(shape, dtypes, &a, &b);
    }
}

#[test]
fn a_tensor_is_like_itself_unlike_its_negative_and_nothing_like_zeros() {
    let shape = Shape::new(1, 50, 41, 3);
    let a = Random::new(4).halves(shape.elements() as usize);
    let negative: Vec<f32> = a.iter().map(|v| -v).collect();
    let zeros = vec![0.0; a.len()];
    for b in [&a, &negative, &zeros] {
        check(shape, [DType::F32, DType::F32], &a, b);
    }
    check(shape, [DType::F32, DType::F32], &zeros, &zeros);
}

#[test]
fn large_values_do_not_overflow() {
    let shape = Shape::new(1, 64, 64, 4);
    // |a|² is 1e32: the product of two such sums is no f32.
    let a = Random::new(5).range(shape.elements() as usize, 1.0, 2.0);
    let a: Vec<f32> = a.iter().map(|v| v * 1e14).collect();
    check(shape, [DType::F32, DType::F32], &a, &a);
}
