//! Euler steps with trailing timesteps (diffusers' `EulerDiscreteScheduler`), for turbo models.

use super::{AlphaTable, Schedule, Step, drop_first, noise};
use crate::error::EngineError;
use crate::model::{Prediction, SchedulerConfig};

/// The Euler schedule in the variance-exploding form: `x = z + σn`; the UNet reads `x/√(σ²+1)`;
/// `x' = x + (σ'−σ)(x−x0)/σ`, the last σ' being 0.
pub(super) fn schedule(
    config: &SchedulerConfig,
    table: &AlphaTable,
    steps: u32,
    strength: f64,
) -> Result<Schedule, EngineError> {
    let timesteps = drop_first(timesteps(config.train_timesteps, steps), strength)?;
    let sigmas: Vec<f64> = timesteps.iter().map(|&t| table.sigma(t)).collect();
    let next = sigmas.iter().skip(1).copied().chain([0.0]);
    let steps = timesteps.iter().zip(&sigmas).zip(next);
    let steps = steps.map(|((&t, &sigma), next)| step(config.prediction, t, sigma, next)).collect();
    Ok(Schedule { start: [1.0, sigmas[0]], steps })
}

/// `t_j = round(T − T·j/N) − 1`, halves to even as numpy rounds; never below 0.
pub(super) fn timesteps(train_timesteps: u32, steps: u32) -> Vec<u32> {
    let t = f64::from(train_timesteps);
    let spacing = t / f64::from(steps);
    let at = |j: u32| (t - f64::from(j) * spacing).round_ties_even() - 1.0;
    (0..steps).map(|j| at(j).max(0.0) as u32).collect()
}

fn step(prediction: Prediction, t: u32, sigma: f64, next: f64) -> Step {
    let variance = sigma * sigma + 1.0;
    let denoised = match prediction {
        Prediction::Epsilon => [1.0, -sigma],
        Prediction::Velocity => [1.0 / variance, -sigma / variance.sqrt()],
    };
    let ratio = (next - sigma) / sigma;
    let input = 1.0 / variance.sqrt();
    // The sample here is x_t/α with α = input, β = σα.
    let [of_x, of_m] = noise(prediction, input, sigma * input);
    let epsilon = [of_x * input, of_m];
    // x' = z + σs + (σ' − σ)ε̂ = z + σ's'; there is no s' after the last step.
    let residual = if next > 0.0 { [sigma / next, (next - sigma) / next, 0.0] } else { [0.0; 3] };
    let next = [1.0 + ratio * (1.0 - denoised[0]), -ratio * denoised[1], 0.0];
    Step { timestep: f64::from(t), input, denoised, next, epsilon, residual }
}
