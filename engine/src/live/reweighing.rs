//! Other weights of LoRAs while the stream goes on: fused anew beside it, taken over between two frames.
//!
//! Every change starts from the files, so that nothing adds up over hundreds of them. Plans, tensors and kernels stay;
//! only buffers of the weights that a LoRA changes are made anew, and the old ones are freed with the last frame that
//! uses them.

use std::sync::Arc;

use dreamglass_kernels::exec::Executable;

use super::Live;
use super::stages::{Ground, Times, Weighed};
use crate::error::EngineError;
use crate::params::Params;
use crate::weights::LoraFile;

/// Where a stream is with the weights of its LoRAs.
#[derive(Debug, Default)]
pub(super) enum Reweighing {
    /// Nothing is under way.
    #[default]
    Idle,
    /// Weights are being fused.
    Making,
    /// These could not be had: not tried again until others are wanted.
    Refused(Vec<f32>),
}

impl Reweighing {
    pub fn is_making(&self) -> bool {
        matches!(self, Self::Making)
    }
}

/// LoRAs to be fused anew beside the stream, on any thread; see [`Live::reweigh`].
pub struct Reweigher {
    ground: Ground,
    encoder: Option<Arc<Executable>>,
    weighed: Option<Weighed>,
    weights: Vec<f32>,
}

/// What a stream with other weights of its LoRAs runs.
pub struct Reweighed {
    ground: Ground,
    /// Another text encoder, where LoRAs are in the one that is loaded.
    encoder: Option<Arc<Executable>>,
    /// Whether prompts mean something else.
    has_texts: bool,
    /// Plans of a layout, and what they were before.
    weighed: Option<[Weighed; 2]>,
}

impl Reweigher {
    /// Fuses and uploads: takes as long as reading the changed weights does.
    ///
    /// # Errors
    /// [`EngineError::Kernel`] of the device, such as too little memory for both the old and the new weights;
    /// [`EngineError`] of the files.
    pub fn fuse(self) -> Result<Reweighed, EngineError> {
        let Self { mut ground, encoder: before, weighed, weights } = self;
        let networks = ground.networks.with_lora_weights(&weights);
        let unet = |executable: &Executable| networks.unet.reweigh(executable).map(Arc::new);
        let (mut encoder, mut has_texts) = (None, false);
        let weighed = weighed.map(|before| {
            let steps = unet(&before.steps)?;
            let times = before.times.iter().map(|time| Ok(time.with(unet(&time.executable)?)));
            let times = times.collect::<Result<Vec<Times>, EngineError>>()?;
            Ok::<_, EngineError>([Weighed { steps, times, networks: Arc::clone(&networks) }, before])
        });
        let weighed = weighed.transpose()?;
        if !Arc::ptr_eq(&networks, &ground.networks) {
            (ground.prompt, ground.negative) = (unet(&ground.prompt)?, unet(&ground.negative)?);
            has_texts = !networks.text.is_like(&ground.networks.text);
            if let (true, Some(before)) = (has_texts, before) {
                encoder = Some(Arc::new(networks.text.reweigh(&before)?));
            }
            ground.networks = networks;
        }
        Ok(Reweighed { ground, encoder, has_texts, weighed })
    }
}

/// The weights that `params` give `loras`.
///
/// # Errors
/// [`EngineError::Parameter`] for the weight of a LoRA that the model does not have.
pub(super) fn weights(params: &Params, loras: &[LoraFile]) -> Result<Vec<f32>, EngineError> {
    let given = params.lora_weights();
    if let Some(ix) = (loras.len()..given.len()).find(|&ix| given[ix].is_some()) {
        let expected = match loras.len() {
            0 => "auto: the model was loaded without LoRAs".into(),
            1 => "auto: the model was loaded with one LoRA".into(),
            n => format!("auto: the model was loaded with {n} LoRAs"),
        };
        let got = given[ix].unwrap_or_default().to_string();
        return Err(EngineError::Parameter { name: format!("lora_{}", ix + 1), expected, got });
    }
    let weight = |(ix, lora): (usize, &LoraFile)| {
        given.get(ix).copied().flatten().map_or(lora.weight, |weight| weight as f32)
    };
    Ok(loras.iter().enumerate().map(weight).collect())
}

impl Live {
    /// What is to be fused now, if anything is.
    pub(super) fn reweigher(&mut self) -> Option<Reweigher> {
        let is_preparing = self.stream.as_ref().is_some_and(crate::stream::Stream::is_preparing);
        let is_refused = match &self.reweighing {
            Reweighing::Idle => false,
            Reweighing::Making => return None,
            Reweighing::Refused(weights) => *weights == self.lora_weights,
        };
        // Plans that are being made have the weights of now.
        if is_preparing || is_refused {
            return None;
        }
        let Ground { networks, .. } = &self.ground;
        let weighed = self.stages.as_ref().map(|stages| stages.weighed.clone());
        let is_current = networks.lora_weights().eq(self.lora_weights.iter().copied())
            && weighed.as_ref().is_none_or(|weighed| Arc::ptr_eq(&weighed.networks, networks));
        if is_current {
            return None;
        }
        self.reweighing = Reweighing::Making;
        Some(Reweigher {
            ground: self.ground.clone(),
            encoder: self.texts.encoder().cloned(),
            weighed,
            weights: self.lora_weights.clone(),
        })
    }

    /// Weights are fused, or cannot be: then the stream goes on with those that it has.
    pub fn reweigh(&mut self, reweighed: Result<Reweighed, EngineError>) {
        self.reweighing = Reweighing::Idle;
        let Reweighed { ground, encoder, has_texts, weighed } = match reweighed {
            Ok(reweighed) => reweighed,
            Err(error) => {
                self.troubles.push_back(format!("LoRAs with other weights: {error}"));
                self.reweighing = Reweighing::Refused(self.lora_weights.clone());
                return;
            }
        };
        if has_texts {
            self.texts.replace(&ground.networks, encoder);
        }
        let before = std::mem::replace(&mut self.ground, ground);
        before.networks.give_way_to(&self.ground.networks);
        if let (Some([weighed, before]), Some(stages)) = (weighed, &mut self.stages) {
            before.networks.give_way_to(&self.ground.networks);
            // Other plans may have taken the place of those that this was made from: it is done anew for them.
            if Arc::ptr_eq(&stages.weighed.steps, &before.steps) {
                stages.weighed = weighed;
            }
        }
        if let Some(stream) = &mut self.stream {
            stream.reweighed(has_texts);
        }
    }
}
