//! Layer normalisation in f64.

/// `(x − mean)/sqrt(var + eps)·weight + bias` over the channels of each row; x and the result
/// `[rows,C]`, weight and bias `[C]`; also `sqrt(var + eps)` of each row.
pub fn layer_norm(x: &[f64], weight: &[f64], bias: &[f64], eps: f64) -> (Vec<f64>, Vec<f64>) {
    let c = weight.len() as f64;
    let (mut y, mut deviations) = (Vec::with_capacity(x.len()), Vec::new());
    for row in x.chunks_exact(weight.len()) {
        let mean = row.iter().sum::<f64>() / c;
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / c;
        let deviation = (variance + eps).sqrt();
        y.extend(row.iter().zip(weight.iter().zip(bias)).map(|(v, (w, b))| (v - mean) / deviation * w + b));
        deviations.push(deviation);
    }
    (y, deviations)
}
