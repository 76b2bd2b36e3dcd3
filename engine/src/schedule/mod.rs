//! Samplers as tables: which timesteps, and each step as a linear combination.
//!
//! Everything is computed on the CPU in f64. A frame's step reads the sample x_t, the UNet's
//! output and noise, and all samplers' steps are weighted sums of them, so the device needs
//! one op and a few numbers.

mod euler;
mod guidance;
mod lcm;
mod tables;
mod tcd;

pub use guidance::{guidance_embedding, step_factors};
pub use tables::AlphaTable;

use crate::error::EngineError;
use crate::model::{Prediction, SchedulerConfig};

/// Which rule turns noise predictions into pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampler {
    /// Latent consistency (`LCMScheduler`).
    Lcm,
    /// Euler with trailing timesteps (`EulerDiscreteScheduler`), for turbo models.
    Euler,
    /// Trajectory consistency (`TCDScheduler`).
    Tcd,
}

/// How strength chooses the timesteps of an [`Sampler::Lcm`] or [`Sampler::Tcd`] schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StrengthRule {
    /// `LCMScheduler.set_timesteps(strength)`: all steps, within the first `strength` of the range.
    Lcm,
    /// Plain img2img: the schedule of strength 1 without its first `N − ⌊N·strength⌋` steps.
    Img2Img,
}

/// Everything that a schedule depends on besides the model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScheduleSettings {
    /// The sampler.
    pub sampler: Sampler,
    /// How strength is understood ([`Sampler::Euler`] always drops first steps).
    pub strength_rule: StrengthRule,
    /// Steps, at least 1.
    pub steps: u32,
    /// How far the picture is noised, 0 (exclusive) to 1.
    pub strength: f64,
    /// How much of the noise [`Sampler::Tcd`] makes anew in each step: 0 none, to 1.
    pub eta: f64,
}

/// One denoising step on a sample x_t with the UNet's output m and fresh noise z.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Timestep given to the UNet.
    pub timestep: f64,
    /// The UNet reads `input·x_t`.
    pub input: f64,
    /// `denoised = denoised[0]·x_t + denoised[1]·m`, the estimate of the clean latents.
    pub denoised: [f64; 2],
    /// The next sample (after the last step: the clean latents) `= next[0]·x_t + next[1]·m + next[2]·z`.
    pub next: [f64; 3],
    /// `ε = epsilon[0]·x_t + epsilon[1]·m`, the noise that the output stands for.
    pub epsilon: [f64; 2],
    /// With s the noise that would carry the source to x_t and ε̂ the noise that was taken out, the
    /// next sample's is `s' = residual[0]·s + residual[1]·ε̂ + residual[2]·z` (residual CFG of
    /// StreamDiffusion, arXiv 2312.12491); zeros after the last step.
    pub residual: [f64; 3],
}

/// A whole schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// The first sample `= start[0]·latents + start[1]·noise`.
    pub start: [f64; 2],
    /// The steps in order, at least one.
    pub steps: Vec<Step>,
}

impl Schedule {
    /// The schedule of `settings` for a model's scheduler config.
    ///
    /// # Errors
    /// [`EngineError::Schedule`] when steps is 0, strength is not in `0..=1`, or they leave no step.
    pub fn new(config: &SchedulerConfig, settings: ScheduleSettings) -> Result<Self, EngineError> {
        let ScheduleSettings { strength_rule, steps, strength, eta, .. } = settings;
        if steps == 0 {
            return Err(error("the number of steps is 0, at least 1 is needed"));
        }
        if !(0.0..=1.0).contains(&strength) {
            return Err(error(format!("strength is {strength}, expected a number in 0..=1")));
        }
        let table = AlphaTable::new(config);
        match settings.sampler {
            Sampler::Lcm => lcm::schedule(config, &table, strength_rule, steps, strength),
            Sampler::Euler => euler::schedule(config, &table, steps, strength),
            Sampler::Tcd => tcd::schedule(config, &table, strength_rule, steps, strength, eta),
        }
    }
    /// The timesteps in order.
    pub fn timesteps(&self) -> Vec<f64> {
        self.steps.iter().map(|s| s.timestep).collect()
    }
}

/// x0 as `[of x_t, of the UNet's output]`, x_t = αx0 + βε: `(x−βε)/α`, or `αx−βv`.
fn clean(prediction: Prediction, alpha: f64, beta: f64) -> [f64; 2] {
    match prediction {
        Prediction::Epsilon => [1.0 / alpha, -beta / alpha],
        Prediction::Velocity => [alpha, -beta],
    }
}

/// ε as `[of x_t, of the UNet's output]`, x_t = αx0 + βε: the output, or `βx + αv`.
fn noise(prediction: Prediction, alpha: f64, beta: f64) -> [f64; 2] {
    match prediction {
        Prediction::Epsilon => [0.0, 1.0],
        Prediction::Velocity => [beta, alpha],
    }
}

/// Drops the first `N − ⌊N·strength⌋` of N steps.
fn drop_first(timesteps: Vec<u32>, strength: f64) -> Result<Vec<u32>, EngineError> {
    let n = timesteps.len();
    // Truncation is diffusers' `int(num_inference_steps * strength)`.
    let kept = ((n as f64 * strength) as usize).min(n);
    if kept == 0 {
        let message =
            format!("strength {strength} of {n} steps leaves none: steps × strength must be at least 1");
        return Err(error(message));
    }
    Ok(timesteps[n - kept..].to_vec())
}

fn error(message: impl Into<String>) -> EngineError {
    EngineError::Schedule { message: message.into() }
}

#[cfg(test)]
mod tests;
