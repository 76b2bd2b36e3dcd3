//! The noise schedule: how much signal and noise a sample has at each timestep.

use crate::model::SchedulerConfig;

/// `ᾱ_t` for every timestep of training.
#[derive(Debug, Clone, PartialEq)]
pub struct AlphaTable {
    alphas_cumprod: Vec<f64>,
}

impl AlphaTable {
    /// `ᾱ_t = Π_{i≤t}(1−b_i)` with betas spaced evenly, or evenly under the square root.
    pub fn new(config: &SchedulerConfig) -> Self {
        let n = config.train_timesteps;
        let (start, end) = (config.beta_start, config.beta_end);
        let last = f64::from(n.max(2) - 1);
        let beta = |i: u32| {
            let x = f64::from(i) / last;
            if config.scaled {
                (start.sqrt() + x * (end.sqrt() - start.sqrt())).powi(2)
            } else {
                start + x * (end - start)
            }
        };
        let mut product = 1.0;
        let alphas_cumprod = (0..n)
            .map(|i| {
                product *= 1.0 - beta(i);
                product
            })
            .collect();
        Self { alphas_cumprod }
    }
    /// `√ᾱ_t`, the signal's factor; timesteps past the end count as the last.
    pub fn alpha(&self, t: u32) -> f64 {
        self.cumprod(t).sqrt()
    }
    /// `√(1−ᾱ_t)`, the noise's factor.
    pub fn beta(&self, t: u32) -> f64 {
        (1.0 - self.cumprod(t)).sqrt()
    }
    /// `β/α`, the noise relative to the signal.
    pub fn sigma(&self, t: u32) -> f64 {
        self.beta(t) / self.alpha(t)
    }
    fn cumprod(&self, t: u32) -> f64 {
        self.alphas_cumprod[(t as usize).min(self.alphas_cumprod.len() - 1)]
    }
}
