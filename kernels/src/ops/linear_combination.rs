//! Weighted sums of tensors: noise, guidance and scheduler steps.

use crate::error::{KernelError, shape_error};
use crate::ops::{Activation, check};
use crate::plan::{Define, Dispatch, PlanBuilder, Variant};
use crate::tensor::{DType, Shape, Tensor};

/// Names of the terms in the kernel.
const TERMS: [&str; 4] = ["x0", "x1", "x2", "x3"];

/// Factors of a [`LinearCombination`].
#[derive(Debug, Clone, PartialEq)]
pub enum Coefficients {
    /// The same for every batch row, fixed when recording.
    Constant(Vec<f32>),
    /// `[N,1,1,terms]` f32: one set per batch row, or `[1,1,1,terms]` for all, written before a replay.
    /// A [`Term`], so that a row of a longer table can be chosen.
    PerRow(Term),
}

/// Which batch row of a term each row of the result reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// The same row; the only one of a batch of 1.
    Same,
    /// Row `n + shift`, or the nearest that there is.
    Shifted(i32),
    /// This one.
    Only(u32),
}

/// A tensor of a [`LinearCombination`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Term {
    /// The tensor.
    pub tensor: Tensor,
    /// Its rows.
    pub rows: Rows,
}

impl From<Tensor> for Term {
    fn from(tensor: Tensor) -> Self {
        Self { tensor, rows: Rows::Same }
    }
}

impl Term {
    /// Row `row` of `tensor` for every row of the result.
    pub fn only(tensor: Tensor, row: u32) -> Self {
        Self { tensor, rows: Rows::Only(row) }
    }
    /// Row `n + shift` of `tensor` for row `n` of the result.
    pub fn shifted(tensor: Tensor, shift: i32) -> Self {
        Self { tensor, rows: Rows::Shifted(shift) }
    }
    /// `[step, shift, last]`: row `n` of the result reads row `clamp(n·step + shift, 0, last)`.
    fn immediates(self) -> [u32; 3] {
        let n = self.tensor.shape.n;
        match self.rows {
            Rows::Same => [u32::from(n > 1), 0, n - 1],
            Rows::Shifted(shift) => [1, shift.cast_unsigned(), n - 1],
            Rows::Only(row) => [0, row, n - 1],
        }
    }
}

/// `y = act(Σ_i c_i·x_i + offset)`.
///
/// Shapes: one to four terms `[N or 1,H,W,C]` of any float storage (a batch of 1 serves every
/// row; [`Rows`] chooses others), result `[N,H,W,C]`. Padding channels of the result are zero. A
/// term whose factor is 0 is left out, whatever it holds.
///
/// # Errors
/// [`KernelError::Shape`], [`KernelError::DType`] when recording.
#[derive(Debug, Clone)]
pub struct LinearCombination {
    /// The tensors.
    pub terms: Vec<Term>,
    /// Their factors.
    pub coefficients: Coefficients,
    /// Added to every element.
    pub offset: f32,
    /// Applied last.
    pub activation: Activation,
    /// Storage of the result.
    pub out_dtype: DType,
}

impl LinearCombination {
    /// Records it.
    ///
    /// # Errors
    /// See [`LinearCombination`].
    pub fn record(self, plan: &mut PlanBuilder) -> Result<Tensor, KernelError> {
        let op = "linear_combination";
        let shape = self.check()?;
        let y = plan.slot(shape, self.out_dtype);
        let quads = shape.pitch() / 4;
        let row = shape.positions() * quads;
        let count = shape.n * row;
        let (grid, width) = check::cover(plan, count);
        let (constants, factors) = match &self.coefficients {
            Coefficients::Constant(values) => (values.clone(), None),
            Coefficients::PerRow(factors) => (vec![0.0; self.terms.len()], Some(*factors)),
        };
        let [factor_step, factor_shift, _] = factors.map_or([0; 3], Term::immediates);
        let mut immediates = vec![count, row, quads, shape.c, width, factor_step, factor_shift];
        immediates.push(self.offset.to_bits());
        let mut bindings = Vec::new();
        for ((name, term), constant) in TERMS.into_iter().zip(&self.terms).zip(constants) {
            immediates.extend(term.immediates());
            immediates.push(constant.to_bits());
            bindings.push((name, term.tensor.operand(), false));
        }
        bindings.push(("y", y.operand(), true));
        bindings.extend(factors.map(|f| ("factors", f.tensor.operand(), false)));
        plan.dispatch(Dispatch {
            label: op.into(),
            variant: Variant { stem: op, defines: self.defines() },
            bindings,
            immediates,
            grid,
            flops: 2 * self.terms.len() as u64 * shape.elements(),
        })?;
        Ok(y)
    }

    /// The result's shape.
    fn check(&self) -> Result<Shape, KernelError> {
        let op = "linear_combination";
        check::float_dtype(op, self.out_dtype)?;
        let Some(first) = self.terms.first().filter(|_| self.terms.len() <= TERMS.len()) else {
            return Err(shape_error(op, "one to four terms", self.terms.len()));
        };
        let rows = |t: &Term| if matches!(t.rows, Rows::Only(_)) { 1 } else { t.tensor.shape.n };
        let n = self.terms.iter().map(rows).max().unwrap_or(1);
        let shape = Shape { n, ..first.tensor.shape };
        for &Term { tensor, rows } in &self.terms {
            check::float(op, tensor)?;
            let fits = match rows {
                Rows::Same => tensor.shape.n == n || tensor.shape.n == 1,
                Rows::Shifted(_) => tensor.shape.n > 0,
                Rows::Only(row) => row < tensor.shape.n,
            };
            if (Shape { n, ..tensor.shape }) != shape || !fits {
                return Err(shape_error(op, format!("{shape}, or that with a batch of 1"), tensor));
            }
        }
        let terms = self.terms.len() as u32;
        match &self.coefficients {
            Coefficients::Constant(values) if values.len() as u32 != terms => {
                Err(shape_error(op, format!("{terms} coefficients"), values.len()))
            }
            Coefficients::PerRow(Term { tensor: factors, rows }) => {
                check::dtype(op, *factors, DType::F32)?;
                let have = factors.shape.n;
                let fits = match rows {
                    Rows::Same => have == n || have == 1,
                    Rows::Shifted(_) => false,
                    Rows::Only(row) => *row < have,
                };
                if factors.shape != Shape::vector(have, terms) || !fits {
                    return Err(shape_error(op, Shape::vector(n, terms), factors));
                }
                Ok(shape)
            }
            Coefficients::Constant(_) => Ok(shape),
        }
    }

    /// What the template is rendered with.
    fn defines(&self) -> Vec<(&'static str, Define)> {
        let storage =
            |i: usize| self.terms.get(i).map_or(Define::Str("none"), |t| check::define(t.tensor.dtype));
        vec![
            ("terms", Define::U32(self.terms.len() as u32)),
            ("x0_dtype", storage(0)),
            ("x1_dtype", storage(1)),
            ("x2_dtype", storage(2)),
            ("x3_dtype", storage(3)),
            ("y_dtype", check::define(self.out_dtype)),
            ("per_row", Define::Bool(matches!(self.coefficients, Coefficients::PerRow(_)))),
            ("activation_name", Define::Str(self.activation.name())),
        ]
    }
}

/// Every kind of variant that this op records.
pub(crate) fn variants() -> Vec<Variant> {
    use Activation::{Gelu, None, QuickGelu, Relu, Silu, SoftClamp3};
    check::recorded(|plan| {
        let shape = Shape::new(2, 4, 4, 6);
        let half = plan.input("half", shape, DType::F16);
        let single = plan.input("single", shape, DType::F32);
        for terms in [vec![half], vec![single, half], vec![half, half, single], vec![single; 4]] {
            let n = terms.len();
            let factors = plan.input(&format!("factors{n}"), Shape::vector(2, n as u32), DType::F32);
            let per_row = Coefficients::PerRow(factors.into());
            for coefficients in [Coefficients::Constant(vec![1.0; n]), per_row] {
                for (activation, out_dtype) in [(None, DType::F16), (SoftClamp3, DType::F32)] {
                    let terms = terms.iter().copied().map(Term::from).collect();
                    let coefficients = coefficients.clone();
                    LinearCombination { terms, coefficients, offset: 0.5, activation, out_dtype }
                        .record(plan)?;
                }
            }
        }
        for activation in [Silu, Relu, Gelu, QuickGelu] {
            let (terms, coefficients) = (vec![half.into()], Coefficients::Constant(vec![1.0]));
            let out_dtype = DType::F16;
            LinearCombination { terms, coefficients, offset: 0.0, activation, out_dtype }.record(plan)?;
        }
        Ok(())
    })
}
