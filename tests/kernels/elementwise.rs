//! Weighted sums against f64.

use dreamglass_kernels::ops::{Activation, Coefficients, LinearCombination, Term};
use dreamglass_kernels::reference::linear_combination;
use dreamglass_kernels::{DType, Shape};

use crate::harness::{Random, assert_close, on_tiers, rounding, to_f64};

const F16: DType = DType::F16;
const F32: DType = DType::F32;

struct Sum {
    shape: [u32; 4],
    /// Batch and storage of each term.
    terms: Vec<(u32, DType)>,
    /// Batch of the factors, or none where they are constants.
    rows: Option<u32>,
    offset: f32,
    activation: Activation,
    out: DType,
}

fn check_sum(case: &Sum, seed: u64) {
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    let [n, h, w, c] = case.shape;
    let mut random = Random::new(seed);
    let mut data = Vec::new();
    for (batch, _) in &case.terms {
        data.push(random.range((batch * h * w * c) as usize, -3.0, 3.0));
    }
    let factors = random.range(case.terms.len() * case.rows.unwrap_or(1) as usize, -2.0, 2.0);
    let wide: Vec<Vec<f64>> = data.iter().map(|x| to_f64(x)).collect();
    let terms: Vec<&[f64]> = wide.iter().map(|x| &x[..]).collect();
    let (factors_f64, offset) = (to_f64(&factors), f64::from(case.offset));
    let want =
        linear_combination::linear_combination(&terms, &factors_f64, n as usize, offset, case.activation);
    // Sums of at most 25, a step of f32 for each product and sum; activations are no steeper than
    // 1.2 and their exponentials good to 1e-6.
    let bound =
        |ix: usize| 25.0 * 10.0 / f64::from(1 << 23) + 2e-6 * want[ix].abs() + rounding(case.out, want[ix]);
    let mut inputs: Vec<(&str, &[f32])> = NAMES.into_iter().zip(data.iter().map(Vec::as_slice)).collect();
    if case.rows.is_some() {
        inputs.push(("factors", &factors));
    }
    on_tiers(
        &inputs,
        &[],
        |plan| {
            let mut terms = Vec::new();
            for ((batch, dtype), name) in case.terms.iter().zip(NAMES) {
                terms.push(plan.input(name, Shape::new(*batch, h, w, c), *dtype).into());
            }
            let coefficients = match case.rows {
                None => Coefficients::Constant(factors.clone()),
                Some(rows) => {
                    let shape = Shape::vector(rows, case.terms.len() as u32);
                    Coefficients::PerRow(plan.input("factors", shape, F32).into())
                }
            };
            let (offset, activation, out_dtype) = (case.offset, case.activation, case.out);
            LinearCombination { terms, coefficients, offset, activation, out_dtype }.record(plan)
        },
        |tier, got| {
            let what = format!("{:?} {:?} {:?} {tier:?}", case.shape, case.terms, case.activation);
            assert_close(&what, got, &want, bound);
        },
    );
}

#[test]
fn linear_combinations_match_f64() {
    let shape = [2, 5, 3, 4];
    let sum = |shape, terms: &[(u32, DType)], rows, activation, out| Sum {
        shape,
        terms: terms.to_vec(),
        rows,
        offset: 0.25,
        activation,
        out,
    };
    let cases = [
        sum([1, 16, 16, 3], &[(1, F32)], None, Activation::None, F16),
        sum([1, 16, 16, 4], &[(1, F16)], None, Activation::SoftClamp3, F16),
        sum(shape, &[(2, F32), (1, F16)], None, Activation::None, F32),
        sum(shape, &[(1, F32), (2, F16), (1, F16)], Some(2), Activation::None, F32),
        sum(shape, &[(2, F32); 4], Some(1), Activation::None, F16),
        sum([3, 7, 9, 6], &[(3, F16), (1, F32), (3, F32), (1, F16)], Some(3), Activation::SoftClamp3, F32),
        sum([1, 2, 2, 1], &[(1, F32), (1, F32)], Some(1), Activation::Silu, F32),
        sum([1, 4, 4, 5], &[(1, F32)], None, Activation::Relu, F32),
        sum([1, 4, 4, 5], &[(1, F32)], None, Activation::Gelu, F32),
        sum([1, 4, 4, 5], &[(1, F32)], None, Activation::QuickGelu, F32),
    ];
    for (seed, case) in cases.iter().enumerate() {
        check_sum(case, seed as u64);
    }
}

/// Rows of the result read rows of the terms: the one before (the first twice), a fixed one, and a
/// fixed set of factors; a term without weight may hold anything.
#[test]
fn rows_of_a_sum_are_chosen() {
    const N: usize = 3;
    let row = 2 * 5 * 4;
    let mut random = Random::new(5);
    let mut x = random.range(N * row, -2.0, 2.0);
    let y = random.range(N * row, -2.0, 2.0);
    let table = [0.5, -1.0, 0.0, 0.0, 2.0, 1.5];
    let shape = Shape::new(N as u32, 2, 5, 4);
    let of = |values: &[f32], row_ix: usize, at: usize| f64::from(values[row_ix * row + at]);
    for (factors, picked) in [(1usize, true), (0, false)] {
        let [a, b] = [0, 1].map(|k| f64::from(table[2 * factors + k]));
        if factors == 1 {
            x.fill(f32::NAN);
        }
        let term = |f: f64, v: f64| if f == 0.0 { 0.0 } else { f * v };
        let want: Vec<f64> = (0..N * row)
            .map(|ix| {
                let (n, at) = (ix / row, ix % row);
                let second = if picked { 2 } else { n };
                term(a, of(&x, n.saturating_sub(1), at)) + term(b, of(&y, second, at))
            })
            .collect();
        on_tiers(
            &[("x", &x), ("y", &y), ("factors", &table)],
            &[],
            |plan| {
                let x = Term::shifted(plan.input("x", shape, F32), -1);
                let y = plan.input("y", shape, F32);
                let y = if picked { Term::only(y, 2) } else { y.into() };
                let factors = Term::only(plan.input("factors", Shape::vector(3, 2), F32), factors as u32);
                let coefficients = Coefficients::PerRow(factors);
                let terms = vec![x, y];
                LinearCombination {
                    terms,
                    coefficients,
                    offset: 0.0,
                    activation: Activation::None,
                    out_dtype: F32,
                }
                .record(plan)
            },
            |tier, got| assert_close(&format!("rows {factors} {tier:?}"), got, &want, |_| 1e-6),
        );
        x = random.range(N * row, -2.0, 2.0);
    }
}

#[test]
fn activations_stay_finite_far_out() {
    let x = [-65504.0, -1000.0, -89.0, -88.0, -0.0, 0.0, 88.0, 89.0, 1000.0, 65504.0, 3.0, -3.0];
    use Activation::{Gelu, QuickGelu, Relu, Signed, Silu, SoftClamp3};
    for activation in [Silu, Relu, Gelu, QuickGelu, SoftClamp3, Signed] {
        let wide = to_f64(&x);
        let want = linear_combination::linear_combination(&[&wide], &[1.0], 1, 0.0, activation);
        let bound = |ix: usize| 1e-6 * want[ix].abs() + 1e-6;
        on_tiers(
            &[("x", &x)],
            &[],
            |plan| {
                let terms = vec![plan.input("x", Shape::tokens(1, 3, 4), F32).into()];
                let coefficients = Coefficients::Constant(vec![1.0]);
                LinearCombination { terms, coefficients, offset: 0.0, activation, out_dtype: F32 }
                    .record(plan)
            },
            |tier, got| assert_close(&format!("{activation:?} {tier:?}"), got, &want, bound),
        );
    }
}
