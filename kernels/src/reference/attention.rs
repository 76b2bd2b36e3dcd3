//! Multi-head attention in f64.

/// Sizes of an attention; q and the result are `[N,T,heads·D]`, k and v `[N or 1,S,heads·D]`.
#[derive(Debug, Clone, Copy)]
pub struct Attention {
    /// Batch rows of q.
    pub n: usize,
    /// T.
    pub queries: usize,
    /// S.
    pub keys: usize,
    /// Heads.
    pub heads: usize,
    /// D.
    pub head_dim: usize,
    /// Factor on the scores.
    pub scale: f64,
    /// Whether query `t` sees keys `0..=t` only.
    pub causal: bool,
}

/// `softmax(q·kᵀ·scale + mask)·v` per head, `[N,T,heads·D]`, and `Σ|q·k|·scale` of the largest
/// score of each row and head, `[N,T,heads]`: what an error of the scores is measured against.
pub fn attention(size: &Attention, q: &[f64], k: &[f64], v: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (d, c) = (size.head_dim, size.heads * size.head_dim);
    let mut y = vec![0.0; size.n * size.queries * c];
    let mut magnitude = Vec::with_capacity(size.n * size.queries * size.heads);
    // A batch of one serves every row.
    let start = |rows: &[f64], n: usize| if rows.len() > size.keys * c { n * size.keys } else { 0 };
    for row in 0..size.n * size.queries {
        let (n, t) = (row / size.queries, row % size.queries);
        let seen = if size.causal { size.keys.min(t + 1) } else { size.keys };
        for head in 0..size.heads {
            let at = head * d;
            let query = &q[row * c + at..][..d];
            let key = |j: usize| &k[(start(k, n) + j) * c + at..][..d];
            let dot = |j: usize| query.iter().zip(key(j)).map(|(a, b)| a * b).sum::<f64>() * size.scale;
            let size_of = |j: usize| query.iter().zip(key(j)).map(|(a, b)| (a * b).abs()).sum::<f64>();
            let scores: Vec<f64> = (0..seen).map(dot).collect();
            let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
            let total: f64 = weights.iter().sum();
            for (j, weight) in weights.iter().enumerate() {
                let value = &v[(start(v, n) + j) * c + at..][..d];
                for (out, value) in y[row * c + at..][..d].iter_mut().zip(value) {
                    *out += weight / total * value;
                }
            }
            magnitude.push((0..seen).map(size_of).fold(0.0, f64::max) * size.scale.abs());
        }
    }
    (y, magnitude)
}
