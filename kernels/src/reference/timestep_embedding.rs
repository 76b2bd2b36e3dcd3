//! The sinusoidal embedding in f64.

/// `f_i = exp(−ln(10000)·i/(dim/2 − shift))`, `[cos(s·t·f), sin(s·t·f)]` or sines first, for each
/// value: result `[N,dim]`.
pub fn timestep_embedding(values: &[f64], dim: usize, cos_first: bool, shift: f64, scale: f64) -> Vec<f64> {
    let half = dim / 2;
    let mut y = Vec::with_capacity(values.len() * dim);
    for value in values {
        let angle = |i: usize| scale * value * (-(10_000f64.ln()) * i as f64 / (half as f64 - shift)).exp();
        let (cosines, sines) = ((0..half).map(|i| angle(i).cos()), (0..half).map(|i| angle(i).sin()));
        if cos_first {
            y.extend(cosines.chain(sines));
        } else {
            y.extend(sines.chain(cosines));
        }
    }
    y
}
