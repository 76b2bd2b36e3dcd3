//! Group normalisation in f64.

/// `(x − mean)/sqrt(var + eps)·weight + bias` over each group and all positions, then SiLU where
/// asked for. x and the result `[N,positions,C]`, weight and bias `[C]`; also `sqrt(var + eps)` of
/// each `[N,groups]`.
pub fn group_norm(
    x: &[f64],
    positions: usize,
    groups: usize,
    weight: &[f64],
    bias: &[f64],
    eps: f64,
    silu: bool,
) -> (Vec<f64>, Vec<f64>) {
    let c = weight.len();
    let group_c = c / groups;
    let mut y = vec![0.0; x.len()];
    let mut deviations = Vec::new();
    for (x, y) in x.chunks_exact(positions * c).zip(y.chunks_exact_mut(positions * c)) {
        for group in 0..groups {
            let channels = group * group_c..(group + 1) * group_c;
            let ixs = || (0..positions).flat_map(|p| channels.clone().map(move |ch| (p * c + ch, ch)));
            let count = (positions * group_c) as f64;
            let mean = ixs().map(|(ix, _)| x[ix]).sum::<f64>() / count;
            let variance = ixs().map(|(ix, _)| (x[ix] - mean).powi(2)).sum::<f64>() / count;
            let deviation = (variance + eps).sqrt();
            for (ix, ch) in ixs() {
                let v = (x[ix] - mean) / deviation * weight[ch] + bias[ch];
                y[ix] = if silu { v / (1.0 + (-v).exp()) } else { v };
            }
            deviations.push(deviation);
        }
    }
    (y, deviations)
}
