//! Families of models: how each was distilled, and the settings that it looks right with.
//!
//! Figures are those of the models' cards: LCM_Dreamshaper_v7 and lcm-lora-sdv1-5 (arXiv 2310.04378, 2311.05556), SD-Turbo
//! (arXiv 2311.17042), Hyper-SD and TCD (arXiv 2404.13686, 2402.19159), SDXS (arXiv 2403.16627).

use std::path::Path;

use crate::model::{SchedulerConfig, UnetConfig};
use crate::params::Field as _;
use crate::schedule::Sampler;
use crate::settings::Settings;
use crate::weights::LoraFile;

/// Steps below which a model that was not distilled makes no whole picture.
const FEWEST_UNDISTILLED: u32 = 10;
/// Steps above which a distilled model gains nothing.
const MOST_DISTILLED: u32 = 8;
/// Guidance above which latent consistency models burn; their cards say 1 to 2.
const MOST_LCM_GUIDANCE: f32 = 2.5;
/// Width of the text embeddings of SD 2.x.
const SD2_TEXT: u32 = 1024;

/// How a model makes pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// A latent consistency model that was given its guidance in training and takes it as an input
    /// (LCM_Dreamshaper_v7).
    EmbeddedLcm,
    /// A latent consistency model without: an LCM-LoRA on another model, or one that was trained so.
    Lcm,
    /// Adversarially distilled, one to four Euler steps (SD-Turbo).
    Turbo,
    /// Trajectory consistency: a TCD or Hyper-SD LoRA on another model.
    Tcd,
    /// One step from pure noise (SDXS-512).
    Sdxs,
    /// Not distilled: some twenty steps with guidance (SD 1.x and 2.x, BK-SDM, small-sd, tiny-sd).
    Undistilled,
}

/// What a setting is where nobody says one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defaults {
    /// The sampler.
    pub sampler: Sampler,
    /// Denoising steps.
    pub steps: u32,
    /// How far the source is noised, 0 to 1.
    pub strength: f64,
    /// Guidance scale; 1 is none.
    pub guidance: f64,
}

impl Family {
    /// The family of a model with `loras`. What a LoRA was made for is not in its file, so that its path must say it: a
    /// part of it is called for `lcm`, `tcd` or `hyper-sd`, as those of the published ones are.
    pub fn of(unet: &UnetConfig, scheduler: &SchedulerConfig, loras: &[LoraFile]) -> Self {
        let base = Self::base(unet, scheduler);
        let used = loras.iter().filter(|lora| lora.weight != 0.0);
        match used.filter_map(|lora| distillation(&lora.path)).next_back() {
            Some(family) if base == Self::Undistilled => family,
            _ => base,
        }
    }

    /// The family of a model by itself.
    fn base(unet: &UnetConfig, scheduler: &SchedulerConfig) -> Self {
        let is_cut_down =
            !unet.mid_block && unet.levels() == 3 && unet.layers.iter().all(|&layers| layers == 1);
        // tiny-sd is cut down in the same way, with SD 1.x's text embeddings and attention on every level.
        let is_sdxs = is_cut_down && (unet.cross_attention_dim[0] == SD2_TEXT || !unet.down_attention[0]);
        match scheduler.class.as_str() {
            _ if unet.time_cond_proj_dim.is_some() => Self::EmbeddedLcm,
            "LCMScheduler" => Self::Lcm,
            "TCDScheduler" => Self::Tcd,
            _ if is_sdxs => Self::Sdxs,
            class if class.starts_with("Euler") && scheduler.is_trailing => Self::Turbo,
            _ => Self::Undistilled,
        }
    }

    /// What to call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::EmbeddedLcm => "latent consistency model with embedded guidance",
            Self::Lcm => "latent consistency model",
            Self::Turbo => "turbo model",
            Self::Tcd => "trajectory consistency model",
            Self::Sdxs => "one-step model (SDXS)",
            Self::Undistilled => "model that is not distilled",
        }
    }

    /// Settings that it looks right with.
    pub fn defaults(self) -> Defaults {
        let few = Defaults { sampler: Sampler::Lcm, steps: 4, strength: 0.5, guidance: 1.0 };
        match self {
            Self::EmbeddedLcm => Defaults { guidance: 8.5, ..few },
            Self::Lcm => few,
            // One step, from the middle.
            Self::Turbo => Defaults { sampler: Sampler::Euler, steps: 2, ..few },
            Self::Tcd => Defaults { sampler: Sampler::Tcd, ..few },
            // Trained on the last timestep alone, from which nothing of the source would be left.
            Self::Sdxs => Defaults { steps: 1, strength: 0.8, ..few },
            Self::Undistilled => {
                Defaults { sampler: Sampler::Euler, steps: 20, strength: 0.6, guidance: 7.5 }
            }
        }
    }

    /// What of `settings` does not go with the model, with the reason and what would.
    pub fn objections(self, settings: &Settings) -> Vec<String> {
        let Settings { steps, guidance, sampler, .. } = settings;
        let label = self.label();
        let mut found = Vec::new();
        let mut object = |is_wrong: bool, text: String| {
            if is_wrong {
                found.push(text);
            }
        };
        let is_distilled = self != Self::Undistilled;
        object(
            !is_distilled && *steps < FEWEST_UNDISTILLED,
            format!(
                "steps {steps} is too few for a {label}: add an LCM-LoRA (--lora), or take 20 steps where no stream is made"
            ),
        );
        object(
            !is_distilled && *sampler != Sampler::Euler,
            format!(
                "the sampler {} leaves the pictures of a {label} blurred: take euler, or add an LCM-LoRA",
                sampler.value()
            ),
        );
        object(
            is_distilled && *steps > MOST_DISTILLED,
            format!(
                "steps {steps} takes longer and gains nothing: a {label} was made for 1 to {MOST_DISTILLED}"
            ),
        );
        object(
            matches!(self, Self::EmbeddedLcm | Self::Lcm) && *sampler == Sampler::Euler,
            format!("the sampler euler is not what a {label} was made for: take lcm"),
        );
        object(
            matches!(self, Self::Turbo | Self::Sdxs) && *guidance > 1.0,
            format!("guidance {guidance} costs a second pass and burns: a {label} was made without, take 1"),
        );
        object(
            matches!(self, Self::Lcm | Self::Tcd) && *guidance > MOST_LCM_GUIDANCE,
            format!("guidance {guidance} burns the pictures of a {label}: take 1 to 2"),
        );
        found
    }

    /// Why a negative prompt that `settings` have is not read.
    pub fn unread_negative(self, settings: &Settings) -> Option<String> {
        let why = match self {
            Self::EmbeddedLcm => "this model takes its guidance as an input",
            _ if settings.guidance <= 1.0 => "guidance is not above 1",
            _ => return None,
        };
        (!settings.negative.trim().is_empty()).then(|| format!("the negative prompt is not read: {why}"))
    }
}

/// Which of `loras` distil a model that is distilled already, and what to do about it.
pub(crate) fn misplaced_loras(
    unet: &UnetConfig,
    scheduler: &SchedulerConfig,
    loras: &[LoraFile],
) -> Vec<String> {
    let base = Family::base(unet, scheduler);
    let used = loras.iter().filter(|lora| base != Family::Undistilled && lora.weight != 0.0);
    used.filter_map(|lora| {
        let kind = distillation(&lora.path)?.label();
        let (path, base) = (lora.path.display(), base.label());
        Some(format!("{path} makes a {kind} of a model, and this is a {base} already: leave one of them out"))
    })
    .collect()
}

/// What a LoRA makes of a model, by its path.
fn distillation(path: &Path) -> Option<Family> {
    let path = path.to_string_lossy().to_lowercase().replace('_', "-");
    let words = |part: &str| path.split(['/', '\\']).any(|name| name.contains(part));
    match () {
        () if words("hyper-sd") || words("tcd") => Some(Family::Tcd),
        () if words("lcm") => Some(Family::Lcm),
        () => None,
    }
}

#[cfg(test)]
mod tests;
