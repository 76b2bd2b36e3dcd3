//! Latent consistency sampling (Luo et al., arXiv 2310.04378; diffusers' `LCMScheduler`).

use super::{AlphaTable, Schedule, Step, StrengthRule, clean, drop_first, error, noise};
use crate::error::EngineError;
use crate::model::SchedulerConfig;

/// Standard deviation of the data in the boundary condition (`sigma_data` of `LCMScheduler`).
const SIGMA_DATA: f64 = 0.5;

/// The LCM schedule: `x = αz + βn`; each step `d = c_out·x0 + c_skip·x_t`, `x' = α'd + β'z`, the
/// last step returns d.
pub(super) fn schedule(
    config: &SchedulerConfig,
    table: &AlphaTable,
    rule: StrengthRule,
    steps: u32,
    strength: f64,
) -> Result<Schedule, EngineError> {
    let timesteps = timesteps_by_rule(config, rule, steps, strength)?;
    let first = timesteps[0];
    let next = timesteps.iter().skip(1).map(|&t| Some(t)).chain([None]);
    let steps = timesteps.iter().zip(next).map(|(&t, next)| step(config, table, t, next)).collect();
    Ok(Schedule { start: [table.alpha(first), table.beta(first)], steps })
}

/// The timesteps that are run, by the rule for strength.
pub(super) fn timesteps_by_rule(
    config: &SchedulerConfig,
    rule: StrengthRule,
    steps: u32,
    strength: f64,
) -> Result<Vec<u32>, EngineError> {
    match rule {
        StrengthRule::Lcm => timesteps(config, steps, strength),
        StrengthRule::Img2Img => drop_first(timesteps(config, steps, 1.0)?, strength),
    }
}

/// `N` of the distillation's timesteps `k·j − 1`, `j = 1 … ⌊K·strength⌋`, the noisiest first.
fn timesteps(config: &SchedulerConfig, steps: u32, strength: f64) -> Result<Vec<u32>, EngineError> {
    let k = config.train_timesteps / config.original_steps;
    // Truncation is diffusers' `int(original_steps * strength)`.
    let available = (f64::from(config.original_steps) * strength) as u32;
    if available / steps < 1 {
        return Err(error(format!(
            "{steps} steps at strength {strength} need more than the {available} timesteps that \
             floor({} × strength) leaves",
            config.original_steps
        )));
    }
    let spacing = f64::from(available) / f64::from(steps);
    let pick = |j: u32| (f64::from(j) * spacing).floor() as u32;
    Ok((0..steps).map(|j| (available - pick(j)) * k - 1).collect())
}

fn step(config: &SchedulerConfig, table: &AlphaTable, t: u32, next: Option<u32>) -> Step {
    let tau = f64::from(t) * config.timestep_scaling;
    let variance = SIGMA_DATA * SIGMA_DATA;
    let skip = variance / (tau * tau + variance);
    let out = tau / (tau * tau + variance).sqrt();
    let x0 = clean(config.prediction, table.alpha(t), table.beta(t));
    let denoised = [out * x0[0] + skip, out * x0[1]];
    let (alpha, beta) = next.map_or((1.0, 0.0), |n| (table.alpha(n), table.beta(n)));
    let epsilon = noise(config.prediction, table.alpha(t), table.beta(t));
    // s' = n' + (α'/β')(β/α)(s − ε̂); there is no s' after the last step.
    let ratio = alpha * table.beta(t) / table.alpha(t);
    let residual = if beta > 0.0 { [ratio / beta, -ratio / beta, 1.0] } else { [0.0; 3] };
    let next = [alpha * denoised[0], alpha * denoised[1], beta];
    Step { timestep: f64::from(t), input: 1.0, denoised, next, epsilon, residual }
}
