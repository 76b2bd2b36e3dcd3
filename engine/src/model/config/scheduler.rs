//! The noise schedule's part of a scheduler config; the sampler is a setting, not a config.

use super::Fields;
use crate::error::EngineError;

/// What the UNet's output means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prediction {
    /// The noise ε.
    Epsilon,
    /// `v = αε − βx0`.
    Velocity,
}

/// Betas and the prediction type.
#[derive(Debug, Clone, PartialEq)]
pub struct SchedulerConfig {
    /// First beta.
    pub beta_start: f64,
    /// Last beta.
    pub beta_end: f64,
    /// Whether betas are spaced evenly under the square root (`scaled_linear`) or plainly (`linear`).
    pub scaled: bool,
    /// Timesteps of training.
    pub train_timesteps: u32,
    /// What the UNet's output means.
    pub prediction: Prediction,
    /// Steps of the distillation that LCM timesteps are chosen from.
    pub original_steps: u32,
    /// `timestep_scaling` of the LCM boundary condition.
    pub timestep_scaling: f64,
    /// The config's scheduler class: it tells the family of the model.
    pub class: String,
    /// Whether timesteps are counted back from the last one (`timestep_spacing` is `trailing`).
    pub is_trailing: bool,
}

impl Default for SchedulerConfig {
    /// The schedule of the Stable Diffusion family.
    fn default() -> Self {
        Self {
            beta_start: 0.00085,
            beta_end: 0.012,
            scaled: true,
            train_timesteps: 1000,
            prediction: Prediction::Epsilon,
            original_steps: 50,
            timestep_scaling: 10.0,
            class: "LCMScheduler".into(),
            is_trailing: false,
        }
    }
}

impl SchedulerConfig {
    /// Reads a `scheduler_config.json`, `file` being its name in messages. Only the noise schedule
    /// and the prediction type are read, so the config of another sampler serves as well.
    ///
    /// # Errors
    /// [`EngineError::Config`] naming the field, [`EngineError::Checkpoint`] when it is not JSON.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, EngineError> {
        let f = Fields::parse(file, bytes)?;
        let default = Self::default();
        f.absent("trained_betas")?;
        f.off("rescale_betas_zero_snr")?;
        f.off("thresholding")?;
        f.off("clip_sample")?;
        let schedule = f.choice("beta_schedule", "scaled_linear", &["scaled_linear", "linear"])?;
        let prediction = match f.choice("prediction_type", "epsilon", &["epsilon", "v_prediction"])? {
            0 => Prediction::Epsilon,
            _ => Prediction::Velocity,
        };
        let config = Self {
            beta_start: f.positive("beta_start", default.beta_start)?,
            beta_end: f.positive("beta_end", default.beta_end)?,
            scaled: schedule == 0,
            train_timesteps: f.count("num_train_timesteps", Some(default.train_timesteps), 100_000)?,
            prediction,
            original_steps: f.count("original_inference_steps", Some(default.original_steps), 100_000)?,
            timestep_scaling: f.positive("timestep_scaling", default.timestep_scaling)?,
            class: f.get("_class_name").and_then(|v| v.as_str()).unwrap_or(&default.class).into(),
            is_trailing: f.get("timestep_spacing").and_then(|v| v.as_str()) == Some("trailing"),
        };
        if config.beta_start >= 1.0 {
            return Err(f.error("beta_start", "a number below 1"));
        }
        if config.beta_end >= 1.0 {
            return Err(f.error("beta_end", "a number below 1"));
        }
        if config.original_steps > config.train_timesteps {
            return Err(f.error("original_inference_steps", "at most num_train_timesteps"));
        }
        Ok(config)
    }
}
