//! What is measured: one op on one shape, and the same in plain loops at a few places.

use burn::tensor::module::{attention, conv2d};
use burn::tensor::ops::{AttentionModuleOptions, ConvOptions};
use burn::tensor::{Device, Tensor, TensorData};

/// Places of the result that the reference computes.
const PLACES: usize = 64;

/// An op and its shape.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// 3×3 convolution with padding 1 of a square map: side, input and output channels.
    Conv(usize, usize, usize),
    /// Matrix product: M rows, reduction K, N columns.
    Gemm(usize, usize, usize),
    /// Self-attention: heads, tokens, channels of a head.
    Attention(usize, usize, usize),
}

/// The inputs of an op on the host, row-major.
pub struct Inputs {
    dims: Vec<Vec<usize>>,
    values: Vec<Vec<f32>>,
}

impl Shape {
    /// Reads `conv SIDE IN OUT`, `gemm M K N` or `attention HEADS TOKENS CHANNELS`.
    pub fn parse(words: &[String]) -> Result<Self, String> {
        let usage = || {
            let said = words.join(" ");
            format!(
                "expected `conv SIDE IN OUT`, `gemm M K N` or `attention HEADS TOKENS CHANNELS`, got `{said}`"
            )
        };
        let [kind, numbers @ ..] = words else { return Err(usage()) };
        let numbers: Option<Vec<usize>> =
            numbers.iter().map(|n| n.parse().ok().filter(|n| (1..=1 << 16).contains(n))).collect();
        match (kind.as_str(), numbers.as_deref()) {
            ("conv", Some(&[side, c, out])) => Ok(Self::Conv(side, c, out)),
            ("gemm", Some(&[m, k, n])) => Ok(Self::Gemm(m, k, n)),
            ("attention", Some(&[heads, tokens, d])) => Ok(Self::Attention(heads, tokens, d)),
            _ => Err(usage()),
        }
    }
    /// Floating-point operations of one call, a multiply-add being two.
    pub fn flops(self) -> f64 {
        let product = |factors: &[usize]| factors.iter().map(|&f| f as f64).product::<f64>();
        match self {
            Self::Conv(side, c, out) => product(&[2, side, side, c, out, 9]),
            Self::Gemm(m, k, n) => product(&[2, m, k, n]),
            Self::Attention(heads, tokens, d) => product(&[4, heads, tokens, tokens, d]),
        }
    }
    /// Values in [-1, 1), the same in every run.
    pub fn inputs(self) -> Inputs {
        let dims = match self {
            Self::Conv(side, c, out) => vec![vec![1, c, side, side], vec![out, c, 3, 3]],
            Self::Gemm(m, k, n) => vec![vec![m, k], vec![k, n]],
            Self::Attention(heads, tokens, d) => vec![vec![1, heads, tokens, d]; 3],
        };
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let values = dims.iter().map(|d| (0..d.iter().product()).map(|_| next()).collect()).collect();
        Inputs { dims, values }
    }
    /// The op on `device`, to be called again and again.
    pub fn op(self, inputs: &Inputs, device: &Device) -> Box<dyn Fn() -> Tensor<4>> {
        match self {
            Self::Conv(..) => {
                let [x, w] = [0, 1].map(|ix| inputs.tensor::<4>(ix, device));
                let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
                Box::new(move || conv2d(x.clone(), w.clone(), None, options.clone()))
            }
            Self::Gemm(..) => {
                let [x, w] = [0, 1].map(|ix| inputs.tensor::<2>(ix, device));
                Box::new(move || x.clone().matmul(w.clone()).unsqueeze())
            }
            Self::Attention(..) => {
                let [q, k, v] = [0, 1, 2].map(|ix| inputs.tensor::<4>(ix, device));
                let options = AttentionModuleOptions::default();
                Box::new(move || attention(q.clone(), k.clone(), v.clone(), None, None, options.clone()))
            }
        }
    }
    /// Relative L2 error of `result` at places spread over all of it.
    pub fn error(self, inputs: &Inputs, result: &[f32]) -> Result<f64, String> {
        let expected = match self {
            Self::Conv(side, _, out) => side * side * out,
            Self::Gemm(m, _, n) => m * n,
            Self::Attention(heads, tokens, d) => heads * tokens * d,
        };
        if result.len() != expected {
            return Err(format!("the result has {} values, expected {expected}", result.len()));
        }
        let (mut difference, mut norm) = (0.0, 0.0);
        for ix in 0..PLACES {
            let at = ix * (expected - 1) / (PLACES - 1);
            let truth = self.at(&inputs.values, at);
            difference += (f64::from(result[at]) - truth).powi(2);
            norm += truth.powi(2);
        }
        Ok((difference / norm).sqrt())
    }

    /// Value `at` of the result in f64.
    fn at(self, x: &[Vec<f32>], at: usize) -> f64 {
        match self {
            Self::Conv(side, c, _) => conv_at(&x[0], &x[1], side, c, at),
            Self::Gemm(_, k, n) => {
                let (row, column) = (at / n, at % n);
                (0..k).map(|i| f64::from(x[0][row * k + i]) * f64::from(x[1][i * n + column])).sum()
            }
            Self::Attention(_, tokens, d) => attention_at(x, tokens, d, at),
        }
    }
}

impl Inputs {
    fn tensor<const D: usize>(&self, ix: usize, device: &Device) -> Tensor<D> {
        Tensor::from_data(TensorData::new(self.values[ix].clone(), self.dims[ix].clone()), device)
    }
}

fn conv_at(x: &[f32], w: &[f32], side: usize, c: usize, at: usize) -> f64 {
    let (o, row, column) = (at / (side * side), at / side % side, at % side);
    let mut sum = 0.0;
    for (i, ky, kx) in (0..c * 9).map(|tap| (tap / 9, tap / 3 % 3, tap % 3)) {
        let (iy, ix) = (row + ky, column + kx);
        if (1..=side).contains(&iy) && (1..=side).contains(&ix) {
            let value = x[(i * side + iy - 1) * side + ix - 1];
            sum += f64::from(value) * f64::from(w[(o * c + i) * 9 + ky * 3 + kx]);
        }
    }
    sum
}

fn attention_at(x: &[Vec<f32>], tokens: usize, d: usize, at: usize) -> f64 {
    let (head, query, channel) = (at / (tokens * d), at / d % tokens, at % d);
    let row = |tensor: &[f32], token: usize| -> Vec<f64> {
        let start = (head * tokens + token) * d;
        tensor[start..start + d].iter().map(|&v| f64::from(v)).collect()
    };
    let q = row(&x[0], query);
    let dot = |k: &[f64]| q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>();
    let scores: Vec<f64> = (0..tokens).map(|t| dot(&row(&x[1], t)) / (d as f64).sqrt()).collect();
    let largest = scores.iter().copied().fold(f64::MIN, f64::max);
    let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
    let mixed: f64 = weights.iter().enumerate().map(|(t, w)| w * row(&x[2], t)[channel]).sum();
    mixed / weights.iter().sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Shape, String> {
        Shape::parse(&text.split(' ').map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn a_right_result_has_no_error_and_a_wrong_one_has() {
        for text in ["conv 5 3 4", "gemm 6 7 8", "attention 2 9 4"] {
            let shape = parse(text).unwrap();
            let inputs = shape.inputs();
            let n = match shape {
                Shape::Conv(side, _, out) => side * side * out,
                Shape::Gemm(m, _, n) => m * n,
                Shape::Attention(heads, tokens, d) => heads * tokens * d,
            };
            let mut result: Vec<f32> = (0..n).map(|at| shape.at(&inputs.values, at) as f32).collect();
            assert!(shape.error(&inputs, &result).unwrap() < 1e-6, "{text}");
            result.fill(0.0);
            assert!(shape.error(&inputs, &result).unwrap() > 0.9, "{text}");
            assert!(shape.error(&inputs, &result[1..]).is_err(), "{text}");
        }
    }

    #[test]
    fn bad_shapes_are_named() {
        for text in ["", "conv 1 2", "gemm 0 1 1", "dot 1 2 3", "gemm 1 2 x", "gemm 1 2 99999999"] {
            assert!(parse(text).unwrap_err().contains(text), "{text}");
        }
    }
}
