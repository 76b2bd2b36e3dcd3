//! The networks of one model: configs, checkpoints and packed weights, checked against each other.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use dreamglass_kernels::exec::{Executable, GpuTensor, WeightCache};
use dreamglass_kernels::gpu::Gpu;
use dreamglass_kernels::plan::Storage;
use dreamglass_kernels::weight::Weight;
use dreamglass_kernels::{DType, Plan, Shape};

use crate::error::EngineError;
use crate::frame::Size;
use crate::model::config::{AutoencoderLayers, KlLayers};
use crate::model::{AutoencoderConfig, SchedulerConfig, TextConfig, UnetConfig};
use crate::plans::{self, Source};
use crate::text::Tokenizer;
use crate::weights::{self, Checkpoint, LoraFile, ModelFiles, Stored, Target};

/// How the weights of a network's products are stored on the device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WeightStorage {
    /// In the storage type of activations.
    #[default]
    AsActivations,
    /// As bytes with one scale for each output channel: half the memory of f16, at a loss that shows in numbers more
    /// than in pictures. Norms, biases, tables, and the first and last product of a network stay as they are.
    Int8,
}

impl WeightStorage {
    /// `plan` with its weights stored so.
    pub(crate) fn of(self, plan: Plan) -> Plan {
        match self {
            Self::AsActivations => plan,
            Self::Int8 => plan.with_int8_weights(),
        }
    }
}

/// One network of a model: what it is, its weights, and those of them that are on the device, which clones share.
#[derive(Clone)]
pub struct Network<C> {
    pub(crate) config: C,
    checkpoint: Checkpoint,
    cache: WeightCache,
    storage: WeightStorage,
}

impl Network<UnetConfig> {
    /// Opens `unet/` of a model.
    ///
    /// # Errors
    /// [`EngineError`] naming the file or field.
    pub fn open(files: &ModelFiles) -> Result<Self, EngineError> {
        Self::open_in(files, "unet", UnetConfig::parse)
    }
    /// Fuses a LoRA into weights that are read from here on. It is left as it was where the LoRA is refused.
    ///
    /// # Errors
    /// [`EngineError::Io`]; [`EngineError::Checkpoint`] naming the file and key that does not fit.
    pub fn fuse(&mut self, lora: &LoraFile) -> Result<(), EngineError> {
        weights::fuse(lora, self.checkpoint.next_lora(), &mut [(Target::Unet, &mut self.checkpoint)])
    }
}

impl Network<AutoencoderConfig> {
    /// Opens `vae/` of a model, or a folder that is an autoencoder itself.
    ///
    /// # Errors
    /// [`EngineError`] naming the file or field.
    pub fn open(files: &ModelFiles) -> Result<Self, EngineError> {
        let folder = if files.open("vae/config.json")?.is_some() { "vae" } else { "." };
        let mut network = Self::open_in(files, folder, AutoencoderConfig::parse)?;
        if let AutoencoderLayers::Kl(layers) = &network.config.layers {
            adapt(&mut network.checkpoint, layers, network.config.latent_channels)?;
        }
        Ok(network)
    }
    /// Whether it is a large one, an `AutoencoderKL`.
    pub fn is_large(&self) -> bool {
        matches!(self.config.layers, AutoencoderLayers::Kl(_))
    }
}

/// What diffusers called the projections of an autoencoder's attention up to 0.17, as published files have them, and
/// what it calls them now.
const PROJECTIONS: [(&str, &str); 4] =
    [("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")];

/// Gives the weights of an `AutoencoderKL` the names that its graph has, and leaves out what only the variance of the
/// latents needs.
fn adapt(checkpoint: &mut Checkpoint, layers: &KlLayers, latent_channels: u32) -> Result<(), EngineError> {
    for half in ["encoder", "decoder"] {
        let attention = format!("{half}.mid_block.attentions.0");
        if checkpoint.contains(&format!("{attention}.query.weight")) {
            PROJECTIONS.iter().for_each(|(old, new)| {
                checkpoint.rename(format!("{attention}.{old}"), format!("{attention}.{new}"));
            });
        }
    }
    checkpoint.halve(if layers.quant_conv { "quant_conv" } else { "encoder.conv_out" }, latent_channels)
}

impl Network<TextConfig> {
    /// Opens `text_encoder/` of a model.
    ///
    /// # Errors
    /// [`EngineError`] naming the file or field.
    pub fn open(files: &ModelFiles) -> Result<Self, EngineError> {
        Self::open_in(files, "text_encoder", TextConfig::parse)
    }
    /// What the weight names start with: checkpoints of transformers before 5 say `text_model.`.
    pub(crate) fn prefix(&self) -> &'static str {
        let nested = self.checkpoint.contains("text_model.embeddings.token_embedding.weight");
        if nested { "text_model." } else { "" }
    }
    /// All that its output depends on, but for the input and the device; none where nothing tells its weights from
    /// others.
    pub(crate) fn identity(&self) -> Option<String> {
        Some(format!("{:?} {:?} {:?}", self.checkpoint.stamps()?, self.config, self.storage))
    }
}

impl<C> Network<C> {
    /// The network's config.
    pub fn config(&self) -> &C {
        &self.config
    }
    /// The network with its weights stored so; weights that are on the device already stay for plans that use them.
    #[must_use]
    pub fn stored(mut self, storage: WeightStorage) -> Self {
        self.storage = storage;
        self
    }
    /// What its files hold, by the type it is stored in there.
    pub fn on_disk(&self) -> Vec<Stored> {
        self.checkpoint.stored()
    }
    fn open_in(
        files: &ModelFiles,
        folder: &str,
        parse: impl FnOnce(&str, &[u8]) -> Result<C, EngineError>,
    ) -> Result<Self, EngineError> {
        let name = format!("{folder}/config.json");
        let config = parse(&files.path(&name), &files.require(&name)?)?;
        let checkpoint = Checkpoint::open(files, folder)?;
        let storage = WeightStorage::default();
        Ok(Self { config, checkpoint, cache: WeightCache::default(), storage })
    }
    /// The same with other weights of its LoRAs, sharing what of it does not change.
    fn with_lora_weights(&self, weights: &[f32]) -> Self
    where
        C: Clone,
    {
        let checkpoint = self.checkpoint.with_lora_weights(weights);
        let cache = self.cache.only(|weight| is_same(weight, &self.checkpoint, &checkpoint));
        Self { checkpoint, cache, ..self.clone() }
    }
    /// Whether `other`, which differs in its LoRAs' weights only, is the same.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.checkpoint.names().all(|name| self.checkpoint.is_like(&other.checkpoint, name))
    }
    /// `executable` of a network like this one with this one's weights, on the same tensors.
    pub(crate) fn reweigh(&self, executable: &Executable) -> Result<Executable, EngineError> {
        Ok(executable.with_weights(&self.checkpoint, &self.cache)?)
    }
    /// Makes `plan` ready to run. Inputs and outputs that are named like an input or output of
    /// `sources` share its buffer. Weights are checked before the first is read.
    pub(crate) fn prepare(
        &self,
        gpu: &Gpu,
        plan: Plan,
        sources: &[&Executable],
    ) -> Result<Executable, EngineError> {
        self.prepare_with(gpu, plan, sources, &[])
    }
    /// The same, with tensors of other names; what the plan does not have is not used.
    pub(crate) fn prepare_with(
        &self,
        gpu: &Gpu,
        plan: Plan,
        sources: &[&Executable],
        tensors: &[(&str, GpuTensor)],
    ) -> Result<Executable, EngineError> {
        self.checkpoint.check(&plan)?;
        let plan = self.storage.of(plan);
        let mut externals = externals(&plan, sources)?;
        let given = tensors.iter().filter(|(name, _)| plan.named(name).is_some());
        externals.extend(given.map(|(name, tensor)| (name.to_string(), tensor.clone())));
        let externals: Vec<_> = externals.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
        Ok(Executable::new(gpu, plan, &self.checkpoint, &self.cache, &externals)?)
    }
}

/// Whether `weight` has the same values in two checkpoints that differ in their LoRAs' weights only.
fn is_same(weight: &Weight, a: &Checkpoint, b: &Checkpoint) -> bool {
    let params = weight.values.params();
    params.iter().flat_map(|param| &param.parts).all(|(name, _)| a.is_like(b, name))
}

/// The inputs and outputs of `plan` that one of `sources` has under the same name.
fn externals(plan: &Plan, sources: &[&Executable]) -> Result<Vec<(String, GpuTensor)>, EngineError> {
    let mut found = Vec::new();
    for value in &plan.values {
        let (Storage::Input(name) | Storage::Output(name)) = &value.storage else { continue };
        if let Some(source) = sources.iter().find(|s| s.plan().named(name).is_some()) {
            found.push((name.clone(), source.tensor(name)?));
        }
    }
    Ok(found)
}

/// Every network of a model.
pub(crate) struct Networks {
    pub unet: Network<UnetConfig>,
    pub vae: Network<AutoencoderConfig>,
    pub text: Network<TextConfig>,
    pub scheduler: SchedulerConfig,
    pub tokenizer: Arc<Tokenizer>,
    /// The LoRAs in them, with the weights that they have.
    pub loras: Vec<LoraFile>,
    variants: Variants,
}

/// Those with other weights of the LoRAs that somebody uses.
#[derive(Clone, Default)]
struct Variants(Arc<Mutex<Vec<Weak<Networks>>>>);

impl Networks {
    /// Opens a model in diffusers' layout, its `vae` from elsewhere if given, with `loras` fused into it.
    pub fn open(
        files: &ModelFiles,
        vae: Option<&ModelFiles>,
        loras: &[LoraFile],
    ) -> Result<Self, EngineError> {
        let scheduler = "scheduler/scheduler_config.json";
        let scheduler = SchedulerConfig::parse(&files.path(scheduler), &files.require(scheduler)?)?;
        let mut unet = Network::<UnetConfig>::open(files)?;
        let mut vae = Network::<AutoencoderConfig>::open(vae.unwrap_or(files))?;
        let mut text = Network::<TextConfig>::open(files)?;
        for (ix, lora) in loras.iter().enumerate() {
            let networks = &mut [(Target::Unet, &mut unet.checkpoint), (Target::Text, &mut text.checkpoint)];
            weights::fuse(lora, ix, networks)?;
        }
        // One network runs after the other.
        (vae.cache, text.cache) = (unet.cache.beside(), unet.cache.beside());
        let tokenizer = Arc::new(Tokenizer::open(files, text.config.max_tokens, text.config.vocab_size)?);
        let (loras, variants) = (loras.to_vec(), Variants::default());
        let networks = Self { unet, vae, text, scheduler, tokenizer, loras, variants };
        networks.check(files)?;
        Ok(networks)
    }

    /// The weights of the LoRAs.
    pub fn lora_weights(&self) -> impl Iterator<Item = f32> {
        self.loras.iter().map(|lora| lora.weight)
    }
    /// The same networks with these weights of their LoRAs: those that somebody uses, or new ones, which share what
    /// does not change. Nothing is read before plans need it.
    pub fn with_lora_weights(self: &Arc<Self>, weights: &[f32]) -> Arc<Self> {
        let has_them = |networks: &Arc<Self>| networks.lora_weights().eq(weights.iter().copied());
        if has_them(self) {
            return Arc::clone(self);
        }
        let mut variants = self.variants.0.lock().unwrap_or_else(PoisonError::into_inner);
        variants.retain(|networks| networks.strong_count() > 0);
        if !variants.iter().any(|networks| networks.as_ptr() == Arc::as_ptr(self)) {
            variants.push(Arc::downgrade(self));
        }
        if let Some(found) = variants.iter().filter_map(Weak::upgrade).find(has_them) {
            return found;
        }
        let loras = self.loras.iter().zip(weights).map(|(lora, &weight)| LoraFile { weight, ..lora.clone() });
        let networks = Arc::new(Self {
            unet: self.unet.with_lora_weights(weights),
            vae: self.vae.clone(),
            text: self.text.with_lora_weights(weights),
            scheduler: self.scheduler.clone(),
            tokenizer: Arc::clone(&self.tokenizer),
            loras: loras.collect(),
            variants: self.variants.clone(),
        });
        variants.push(Arc::downgrade(&networks));
        networks
    }
    /// Frees what of the weights in device memory `other` does not share, as soon as no plan uses it: whoever comes
    /// back to these networks reads it anew.
    pub fn give_way_to(&self, other: &Self) {
        self.unet.cache.retain(|weight| is_same(weight, &self.unet.checkpoint, &other.unet.checkpoint));
        self.text.cache.retain(|weight| is_same(weight, &self.text.checkpoint, &other.text.checkpoint));
    }

    /// Checks that every weight is there in the right shape, without reading any. Returns the tensors that nothing
    /// reads, by network and name. Weights do not depend on the picture's size, so plans of the smallest one name
    /// them all.
    pub fn check_weights(
        &self,
        target: dreamglass_kernels::Target,
        dtype: DType,
    ) -> Result<Vec<String>, EngineError> {
        let (unet, vae) = (&self.unet.config, &self.vae.config);
        let size = Size::new(vae.factor(), vae.factor());
        let shape = Shape::new(1, 1, 1, vae.latent_channels);
        let text = Shape::tokens(1, 1, unet.cross_attention_dim[0]);
        let of_vae = [
            plans::begin(target, vae, size, Source::Tensor, dtype)?,
            plans::end(target, vae, shape, 1.0, dtype)?,
        ];
        let of_unet = [
            plans::denoise(target, unet, shape, 1, false, dtype)?,
            plans::prompt(target, unet, text, "", dtype)?,
            plans::time(target, unet, 1, "", dtype)?,
        ];
        let of_text = [plans::text(target, &self.text.config, self.text.prefix(), [1, 1], dtype)?];
        let networks = [
            ("unet", &self.unet.checkpoint, &of_unet[..]),
            ("vae", &self.vae.checkpoint, &of_vae[..]),
            ("text_encoder", &self.text.checkpoint, &of_text[..]),
        ];
        let mut unused = Vec::new();
        for (network, checkpoint, plans) in networks {
            plans.iter().try_for_each(|plan| checkpoint.check(plan))?;
            unused.extend(checkpoint.unused_by(plans).into_iter().map(|name| format!("{network}: {name}")));
        }
        Ok(unused)
    }

    /// The networks with their weights stored so.
    pub fn stored(self, storage: WeightStorage) -> Self {
        Self {
            unet: self.unet.stored(storage),
            vae: self.vae.stored(storage),
            text: self.text.stored(storage),
            ..self
        }
    }

    /// Checks that the networks fit each other.
    fn check(&self, files: &ModelFiles) -> Result<(), EngineError> {
        let unet = &self.unet.config;
        let latents = self.vae.config.latent_channels;
        let error = |field: &str, value: u32, expected: String| {
            let (file, field) = (files.path("unet/config.json"), field.into());
            Err(EngineError::Config { file, field, value: value.to_string(), expected })
        };
        for (field, channels) in [("in_channels", unet.in_channels), ("out_channels", unet.out_channels)] {
            if channels != latents {
                return error(field, channels, format!("{latents}, the autoencoder's latent_channels"));
            }
        }
        let hidden = self.text.config.hidden_size;
        match unet.cross_attention_dim.iter().find(|&&dim| dim != hidden) {
            Some(&dim) => {
                error("cross_attention_dim", dim, format!("{hidden}, the text encoder's hidden_size"))
            }
            None => Ok(()),
        }
    }
}
