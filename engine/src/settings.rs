//! What a user can change between frames.

use dreamglass_kernels::ops::Orientation;

use crate::error::EngineError;
use crate::frame::{Fit, Size};
use crate::schedule::{Sampler, ScheduleSettings, StrengthRule};

/// Largest guidance scale that is accepted; far past where pictures burn.
const MAX_GUIDANCE: f32 = 100.0;

/// What diffusers' pipelines take with TCD.
pub(crate) const DEFAULT_ETA: f64 = 0.3;

/// Settings of one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What the picture should show.
    pub prompt: String,
    /// What it should not show; read when guidance is above 1 and the model has no guidance embedding.
    pub negative: String,
    /// Denoising steps.
    pub steps: u32,
    /// How far the source is noised: 0 (exclusive) to 1.
    pub strength: f64,
    /// Guidance scale; 1 is none.
    pub guidance: f32,
    /// Seed of the noise.
    pub seed: u64,
    /// Size of the result.
    pub size: Size,
    /// The sampler.
    pub sampler: Sampler,
    /// How strength chooses LCM and TCD timesteps.
    pub strength_rule: StrengthRule,
    /// How much of the noise TCD makes anew in each step, 0 to 1.
    pub eta: f64,
    /// How the source picture is fitted to the size.
    pub fit: Fit,
    /// How the source picture is turned.
    pub orientation: Orientation,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            prompt: String::new(),
            negative: String::new(),
            steps: 4,
            strength: 0.5,
            guidance: 1.0,
            seed: 0,
            size: Size::new(512, 512),
            sampler: Sampler::Lcm,
            strength_rule: StrengthRule::Lcm,
            eta: DEFAULT_ETA,
            fit: Fit::Crop,
            orientation: Orientation::default(),
        }
    }
}

impl Settings {
    /// Checks what no other part checks.
    ///
    /// # Errors
    /// [`EngineError::Frame`] for the size, [`EngineError::Schedule`] for the guidance scale.
    pub fn check(&self, factor: u32) -> Result<(), EngineError> {
        self.size.check(factor)?;
        if !(0.0..=MAX_GUIDANCE).contains(&self.guidance) {
            let message = format!("guidance is {}, expected a number in 0..={MAX_GUIDANCE}", self.guidance);
            return Err(EngineError::Schedule { message });
        }
        Ok(())
    }
    /// The part of a source of size `source` that is read, before it is turned.
    pub fn region(&self, source: Size) -> [f32; 4] {
        self.fit.region(source, if self.orientation.is_on_side() { self.size.turned() } else { self.size })
    }
    /// The schedule's part.
    pub fn schedule(&self) -> ScheduleSettings {
        ScheduleSettings {
            sampler: self.sampler,
            strength_rule: self.strength_rule,
            steps: self.steps,
            strength: self.strength,
            eta: self.eta,
        }
    }
}
