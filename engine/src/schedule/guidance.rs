//! Guidance: the weighted sum of two predictions, or an embedding of its scale.

use super::Step;

/// The sinusoidal embedding of guidance scale `g` for models with `time_cond_proj_dim = dim`:
/// `w = 1000(g−1)`, `f_i = exp(−ln(10000)·i/(dim/2−1))`, `[sin(w f), cos(w f)]`, an odd last
/// element 0 (`get_guidance_scale_embedding` of diffusers' latent consistency pipelines).
pub fn guidance_embedding(g: f64, dim: u32) -> Vec<f32> {
    let half = dim / 2;
    let last = f64::from(half.max(2) - 1);
    let angle = |i: u32| 1000.0 * (g - 1.0) * (-(1e4f64.ln()) * f64::from(i) / last).exp();
    let mut e: Vec<f32> = (0..half).map(|i| angle(i).sin() as f32).collect();
    e.extend((0..half).map(|i| angle(i).cos() as f32));
    e.resize(dim as usize, 0.0);
    e
}

/// Factors of a step's next sample on `[x_t, m, noise]`, or, guided by `g`, on
/// `[x_t, m, m of the negative prompt, noise]` with `m = m_n + g(m − m_n)`.
pub fn step_factors(step: &Step, g: Option<f64>) -> Vec<f32> {
    let [sample, output, noise] = step.next;
    let factors = match g {
        None => vec![sample, output, noise],
        Some(g) => vec![sample, g * output, (1.0 - g) * output, noise],
    };
    factors.into_iter().map(|f| f as f32).collect()
}
