//! The linear layer in f64.

/// `(x·Wᵀ, Σ|terms|)`: x `[M,K]`, weight `[N,K]`, both results `[M,N]`.
pub fn linear(x: &[f64], weight: &[f64], k: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut y, mut magnitude) = (Vec::new(), Vec::new());
    for row in x.chunks_exact(k) {
        for column in weight.chunks_exact(k) {
            let terms = row.iter().zip(column).map(|(a, b)| a * b);
            y.push(terms.clone().sum());
            magnitude.push(terms.map(f64::abs).sum());
        }
    }
    (y, magnitude)
}
