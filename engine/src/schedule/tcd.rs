//! Trajectory consistency sampling (Zheng et al., arXiv 2402.19159; diffusers' `TCDScheduler`), for Hyper-SD.

use super::{AlphaTable, Schedule, Step, StrengthRule, clean, lcm, noise};
use crate::error::EngineError;
use crate::model::SchedulerConfig;

/// The TCD schedule, with the timesteps of LCM: a step from t to t' jumps along the trajectory to
/// `s = ⌊(1−η)t'⌋`, `x_s = α_s·x0 + β_s·ε`, and is noised from there, `x' = r·x_s + √(1−r²)·z` with `r = α'/α_s`.
/// η 0 is deterministic, 1 noises all that was taken out. The last step ends at timestep 0, as diffusers' does.
pub(super) fn schedule(
    config: &SchedulerConfig,
    table: &AlphaTable,
    rule: StrengthRule,
    steps: u32,
    strength: f64,
    eta: f64,
) -> Result<Schedule, EngineError> {
    if !(0.0..=1.0).contains(&eta) {
        return Err(super::error(format!("eta is {eta}, expected a number in 0..=1")));
    }
    // Both distillations keep the same timesteps of the teacher.
    let timesteps = lcm::timesteps_by_rule(config, rule, steps, strength)?;
    let first = timesteps[0];
    let next = timesteps.iter().skip(1).map(|&t| Some(t)).chain([None]);
    let steps = timesteps.iter().zip(next).map(|(&t, next)| step(config, table, t, next, eta)).collect();
    Ok(Schedule { start: [table.alpha(first), table.beta(first)], steps })
}

fn step(config: &SchedulerConfig, table: &AlphaTable, t: u32, next: Option<u32>, eta: f64) -> Step {
    let (alpha, beta) = (table.alpha(t), table.beta(t));
    let denoised = clean(config.prediction, alpha, beta);
    let epsilon = noise(config.prediction, alpha, beta);
    let to = next.unwrap_or(0);
    // Truncation is diffusers' floor of a positive number.
    let s = ((1.0 - eta) * f64::from(to)) as u32;
    let (alpha_s, beta_s) = (table.alpha(s), table.beta(s));
    let kept = if next.is_some() { table.alpha(to) / alpha_s } else { 1.0 };
    let fresh = (1.0 - kept * kept).max(0.0).sqrt();
    let of = |ix: usize| kept * (alpha_s * denoised[ix] + beta_s * epsilon[ix]);
    // x' = α'z₀ + β's' for a source z₀ = d − (β/α)(s − ε̂): see `lcm`; there is no s' after the last step.
    let residual = match next {
        Some(to) => {
            let (ratio, beta_to) = (table.alpha(to) * beta / alpha, table.beta(to));
            [ratio / beta_to, (kept * beta_s - ratio) / beta_to, fresh / beta_to]
        }
        None => [0.0; 3],
    };
    Step { timestep: f64::from(t), input: 1.0, denoised, next: [of(0), of(1), fresh], epsilon, residual }
}
