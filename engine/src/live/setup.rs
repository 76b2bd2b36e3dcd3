//! From parameters to what the stream needs.

use std::sync::Arc;
use std::time::Duration;

use crate::error::EngineError;
use crate::family::Defaults;
use crate::frame::{Size, error};
use crate::model::UnetConfig;
use crate::params::{Batching, GuidanceMode, Params};
use crate::schedule::Schedule;
use crate::stream::blend::NoiseMix;
use crate::stream::prompts::PromptMix;
use crate::stream::similarity::FilterSettings;
use crate::stream::tables::{Guidance, Tables};
use crate::stream::{Layout, Setup};

/// Most steps of a stream.
pub const MAX_LIVE_STEPS: usize = 4;

/// What the model adds to the parameters.
pub(super) struct Model<'a> {
    pub scheduler: &'a crate::model::SchedulerConfig,
    pub unet: &'a UnetConfig,
    pub scaling_factor: f64,
    pub defaults: Defaults,
    pub factor: u32,
}

/// The setup of `params` for results of `size`.
pub(super) fn setup(params: &Params, size: Size, model: &Model<'_>) -> Result<Setup, EngineError> {
    let settings = params.settings(size, model.defaults);
    settings.check(model.factor)?;
    let schedule = Schedule::new(model.scheduler, settings.schedule())?;
    if schedule.steps.len() > MAX_LIVE_STEPS {
        let message =
            format!("{} steps are asked for; a stream takes at most {MAX_LIVE_STEPS}", schedule.steps.len());
        return Err(EngineError::Schedule { message });
    }
    let is_embedded = model.unet.time_cond_proj_dim.is_some();
    // Without a scale above 1 no mode changes anything: the cheapest does.
    let scale = params.guidance.unwrap_or(model.defaults.guidance);
    let is_guided = scale > 1.0 && !is_embedded;
    let mode = if is_guided { params.guidance_mode } else { GuidanceMode::None };
    let guided = if mode == GuidanceMode::None { 1.0 } else { scale };
    let guidance = Guidance { mode, scale: guided, delta: params.guidance_delta };
    let mut tables = Tables::new(&schedule, model.scaling_factor, guidance, params.feedback);
    tables.embedded_guidance = is_embedded.then_some(scale);
    let rows = schedule.steps.len() as u32;
    let batching = if rows == 1 { Batching::Latency } else { params.batching };
    let layout =
        Layout { size: settings.size, rows, batching, guidance: mode, is_smoothed: params.smoothing > 0.0 };
    let filter = FilterSettings { threshold: params.similarity_threshold, max_skip: params.max_skip };
    Ok(Setup {
        layout,
        tables: Arc::new(tables),
        noise: NoiseMix { seed: params.seed, second: params.blend_seed, share: params.seed_blend },
        filter: params.similarity_filter.then_some(filter),
        smoothing: params.smoothing,
        is_eager: params.batching == Batching::Throughput,
    })
}

/// The prompts of `params`.
pub(super) fn prompts(params: &Params) -> PromptMix {
    PromptMix {
        prompt: params.prompt.clone(),
        second: params.blend_prompt.clone(),
        blend: params.blend,
        mode: params.blend_mode,
        transition: Duration::from_secs_f64(params.transition),
    }
}

/// A size within which pictures of strangers are accepted.
pub(super) fn check_source(size: Size) -> Result<(), EngineError> {
    if size.width.min(size.height) == 0 {
        return Err(error("a source picture has no pixels"));
    }
    Ok(())
}
