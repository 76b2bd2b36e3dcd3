//! The engine: a model on a device, and pictures through it.

use std::sync::Arc;

use dreamglass_kernels::exec::{Executable, GpuTensor};
use dreamglass_kernels::gpu::Gpu;
use dreamglass_kernels::{DType, KernelError, Shape};

use crate::error::EngineError;
use crate::family::{Family, misplaced_loras};
use crate::frame::{Picture, Size};
use crate::networks::{Networks, WeightStorage};
use crate::plans::{self, Source};
use crate::prompt_memory::{PromptMemory, PromptStore};
use crate::schedule::{Schedule, Step, guidance_embedding, step_factors};
use crate::settings::Settings;
use crate::stream::noise::gaussian;
use crate::text::Tokens;
use crate::weights::{LoraFile, ModelFiles};

/// How a model is loaded.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Storage type of weights and activations, f16 or f32; latents are f32 always.
    pub dtype: DType,
    /// Another storage of the weights.
    pub weights: WeightStorage,
    /// Another place for the autoencoder, such as a TAESD folder.
    pub vae: Option<ModelFiles>,
    /// LoRAs that are fused into the UNet's and the text encoder's weights.
    pub loras: Vec<LoraFile>,
    /// Where embeddings of prompts are kept between runs of the program, if anywhere.
    pub prompts: Option<Arc<dyn PromptStore>>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        let (dtype, weights) = (DType::F16, WeightStorage::default());
        Self { dtype, weights, vae: None, loras: Vec::new(), prompts: None }
    }
}

/// A model on a device. Plans, weights and conditioning are kept between pictures; only what a
/// changed setting needs is redone.
pub struct Engine {
    pub(crate) gpu: Gpu,
    pub(crate) networks: Arc<Networks>,
    pub(crate) dtype: DType,
    unused: Vec<String>,
    family: Family,
    misplaced_loras: Vec<String>,
    pub(crate) memory: Option<PromptMemory>,
    /// Loaded when a prompt wants it.
    text: Option<Executable>,
    prompt: Prompt,
    negative: Option<Prompt>,
    time: Executable,
    /// Timestep and guidance that the time embeddings were computed for.
    time_of: Option<(f64, f32)>,
    stages: Option<Stages>,
}

/// Keys and values of one prompt.
struct Prompt {
    executable: Executable,
    /// The prompt that they were computed for.
    of: Option<String>,
}

/// The plans of one size, source and kind of guidance.
struct Stages {
    size: Size,
    source: Source,
    guided: bool,
    begin: Executable,
    denoise: Executable,
    carry: Executable,
    end: Executable,
    /// Seed of the noise in `begin`.
    seed: Option<u64>,
}

/// Where noise comes from: stream 0 is the first sample's, stream k that of step k.
#[derive(Clone, Copy)]
pub(crate) enum NoiseSource<'a> {
    Seed(u64),
    Given(&'a [Vec<f32>]),
}

impl Engine {
    /// Loads a model in diffusers' layout (`unet`, `vae`, `text_encoder`, `tokenizer`,
    /// `scheduler`), or from a file that stands for one. Weights go to the device when the first picture needs them.
    ///
    /// # Errors
    /// [`EngineError`] naming the file, field or weight.
    pub fn load(gpu: &Gpu, files: &ModelFiles, options: &EngineOptions) -> Result<Self, EngineError> {
        let EngineOptions { dtype, weights, vae, loras, prompts } = options;
        if !matches!(dtype, DType::F16 | DType::F32) {
            let (op, expected, got) = ("engine".into(), "f16 or f32".into(), dtype.to_string());
            return Err(KernelError::DType { op, expected, got }.into());
        }
        let networks = Networks::open(files, vae.as_ref(), loras)?.stored(*weights);
        let family = Family::of(&networks.unet.config, &networks.scheduler, loras);
        let misplaced_loras = misplaced_loras(&networks.unet.config, &networks.scheduler, loras);
        let target = gpu.target();
        let mut unused = networks.check_weights(target, *dtype)?;
        unused
            .extend([Some(files), vae.as_ref()].into_iter().flatten().flat_map(ModelFiles::strays).cloned());
        let time = plans::time(target, &networks.unet.config, 1, "", *dtype)?;
        let time = networks.unet.prepare(gpu, time, &[])?;
        let prompt = Prompt::new(gpu, &networks, "", *dtype, &[])?;
        let memory = prompts.as_ref();
        let memory = memory.and_then(|store| PromptMemory::new(Arc::clone(store), gpu, &networks, *dtype));
        Ok(Self {
            gpu: gpu.clone(),
            networks: Arc::new(networks),
            dtype: *dtype,
            unused,
            family,
            misplaced_loras,
            memory,
            text: None,
            prompt,
            negative: None,
            time,
            time_of: None,
            stages: None,
        })
    }

    /// Tensors of the model's files that nothing reads, by network and name: of a model that is what its configs say,
    /// hardly any.
    pub fn unused_weights(&self) -> &[String] {
        &self.unused
    }
    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }
    /// Pixels along the side of one latent cell: sizes must be multiples of it.
    pub fn factor(&self) -> u32 {
        self.networks.vae.config.factor()
    }
    /// Whether the autoencoder is a large one, an `AutoencoderKL`.
    pub fn has_large_autoencoder(&self) -> bool {
        self.networks.vae.is_large()
    }
    /// Factor from the autoencoder's latents to those that are denoised.
    pub fn scaling_factor(&self) -> f64 {
        self.networks.vae.config.scaling_factor
    }
    /// The side of the square pictures that the model was trained at, where its config says.
    pub fn native_side(&self) -> Option<u32> {
        self.networks.unet.config.sample_size.map(|cells| cells * self.factor())
    }
    /// How the model makes pictures, with its LoRAs.
    pub fn family(&self) -> Family {
        self.family
    }
    /// Why LoRAs that the model was loaded with do not go with it.
    pub fn misplaced_loras(&self) -> &[String] {
        &self.misplaced_loras
    }
    /// Tokens of `prompt` as the model reads them.
    ///
    /// # Errors
    /// [`EngineError::Prompt`] when it is too long to be read.
    pub fn tokenize(&self, prompt: &str) -> Result<Tokens, EngineError> {
        self.networks.tokenizer.encode(prompt)
    }
    /// The schedule of `settings` for this model.
    ///
    /// # Errors
    /// [`EngineError::Schedule`].
    pub fn schedule(&self, settings: &Settings) -> Result<Schedule, EngineError> {
        Schedule::new(&self.networks.scheduler, settings.schedule())
    }

    /// Turns `picture` into another of `settings.size` and waits for it.
    ///
    /// # Errors
    /// [`EngineError::Frame`], [`EngineError::Schedule`], [`EngineError::Prompt`] for the settings;
    /// [`EngineError::Kernel`] when the device fails.
    pub fn img2img(&mut self, picture: &Picture, settings: &Settings) -> Result<Picture, EngineError> {
        let words = self.submit(picture, settings)?.read_u32()?;
        self.gpu.check()?;
        Picture::from_words(settings.size, &words)
    }

    /// Queues a picture and returns where it will be: RGBA8 words `[1,H,W,1]` on the device, valid
    /// until the next call.
    ///
    /// # Errors
    /// As [`Engine::img2img`].
    pub fn submit(&mut self, picture: &Picture, settings: &Settings) -> Result<GpuTensor, EngineError> {
        let (size, orientation) = (picture.size(), settings.orientation);
        let source = Source::Pixels { size, region: settings.region(size), orientation };
        let schedule = self.prepare(source, settings)?;
        self.begin_tensor(plans::PIXELS)?.write_u32(&picture.words())?;
        self.run(&schedule, settings, NoiseSource::Seed(settings.seed), |_| Ok(()))?;
        self.end_tensor(plans::PIXELS)
    }

    /// Checks settings and brings plans and prompts up to date.
    pub(crate) fn prepare(&mut self, source: Source, settings: &Settings) -> Result<Schedule, EngineError> {
        settings.check(self.factor())?;
        let schedule = self.schedule(settings)?;
        let guided = self.is_guided(settings);
        self.set_prompts(settings, guided)?;
        let current = self
            .stages
            .as_ref()
            .is_some_and(|s| s.size == settings.size && s.source == source && s.guided == guided);
        if !current {
            // The old buffers go before the new ones are made.
            self.stages = None;
            self.stages = Some(self.build(settings.size, source, guided)?);
        }
        Ok(schedule)
    }

    /// Whether a second pass with the negative prompt is needed.
    fn is_guided(&self, settings: &Settings) -> bool {
        settings.guidance > 1.0 && self.networks.unet.config.time_cond_proj_dim.is_none()
    }

    fn set_prompts(&mut self, settings: &Settings, guided: bool) -> Result<(), EngineError> {
        if guided && self.negative.is_none() {
            let (sources, prefix) = ([&self.prompt.executable], plans::NEGATIVE);
            self.negative = Some(Prompt::new(&self.gpu, &self.networks, prefix, self.dtype, &sources)?);
        }
        if self.prompt.of.as_deref() != Some(&settings.prompt) {
            self.embed(&settings.prompt)?;
            self.prompt.set(&settings.prompt)?;
        }
        let negative = self.negative.as_ref().filter(|_| guided);
        if negative.is_some_and(|negative| negative.of.as_deref() != Some(&settings.negative)) {
            self.embed(&settings.negative)?;
            if let Some(negative) = &mut self.negative {
                negative.set(&settings.negative)?;
            }
        }
        Ok(())
    }

    /// Brings the embeddings of `prompt` to where prompts read them.
    fn embed(&mut self, prompt: &str) -> Result<(), EngineError> {
        let ids = self.networks.tokenizer.encode(prompt)?.ids;
        if let Some(embeddings) = self.memory.as_ref().and_then(|memory| memory.find(&ids)) {
            return Ok(self.prompt.executable.tensor(plans::TEXT_EMBEDDINGS)?.write_f32(&embeddings)?);
        }
        let text = match self.text.take() {
            Some(text) => text,
            None => self.text_encoder()?,
        };
        let text = self.text.insert(text);
        text.tensor(plans::IDS)?.write_u32(&ids)?;
        text.run()?;
        if let Some(memory) = &self.memory {
            memory.keep(&ids, &text.tensor(plans::TEXT_EMBEDDINGS)?.read_f32()?);
        }
        Ok(())
    }

    /// The text encoder, writing where prompts read.
    fn text_encoder(&self) -> Result<Executable, EngineError> {
        let Self { gpu, networks, dtype, .. } = self;
        let (text, tokens) = (&networks.text, networks.tokenizer.length() as u32);
        let plan = plans::text(gpu.target(), &text.config, text.prefix(), [1, tokens], *dtype)?;
        text.prepare(gpu, plan, &[&self.prompt.executable])
    }

    fn build(&self, size: Size, source: Source, guided: bool) -> Result<Stages, EngineError> {
        let Self { gpu, networks, dtype, .. } = self;
        let (target, vae) = (gpu.target(), &networks.vae);
        let shape = self.latents_shape(size);
        let tokens = networks.tokenizer.length() as u32;
        let begin = plans::begin(target, &vae.config, size, source, *dtype)?;
        let begin = vae.prepare(gpu, begin, &[])?;
        let denoise = plans::denoise(target, &networks.unet.config, shape, tokens, guided, *dtype)?;
        let mut sources = vec![&begin, &self.time, &self.prompt.executable];
        sources.extend(self.negative.as_ref().map(|n| &n.executable));
        let denoise = networks.unet.prepare(gpu, denoise, &sources)?;
        let carry = networks.unet.prepare(gpu, plans::carry(target, shape)?, &[&denoise])?;
        let end = plans::end(target, &vae.config, shape, vae.config.scaling_factor as f32, *dtype)?;
        let end = vae.prepare(gpu, end, &[&denoise])?;
        Ok(Stages { size, source, guided, begin, denoise, carry, end, seed: None })
    }

    /// Shape of the latents of a picture of `size`.
    pub(crate) fn latents_shape(&self, size: Size) -> Shape {
        let factor = self.factor();
        Shape::new(1, size.height / factor, size.width / factor, self.networks.vae.config.latent_channels)
    }

    /// Runs all stages on the source that was written; `after_step` sees the denoising executable
    /// after each step.
    pub(crate) fn run(
        &mut self,
        schedule: &Schedule,
        settings: &Settings,
        noise: NoiseSource<'_>,
        mut after_step: impl FnMut(&Executable) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let guidance = self.is_guided(settings).then_some(f64::from(settings.guidance));
        self.start(schedule, noise)?;
        for (k, step) in schedule.steps.iter().enumerate() {
            self.set_time(step.timestep, settings.guidance)?;
            let stages = self.stages()?;
            if k > 0 {
                stages.carry.run()?;
            }
            stages.write_step(step, guidance, noise, k)?;
            stages.denoise.run()?;
            after_step(&stages.denoise)?;
        }
        Ok(self.stages()?.end.run()?)
    }

    /// Encodes the source and adds the first noise.
    fn start(&mut self, schedule: &Schedule, noise: NoiseSource<'_>) -> Result<(), EngineError> {
        let scale = self.networks.vae.config.scaling_factor;
        let factors = [schedule.start[0] * scale, schedule.start[1]].map(|f| f as f32);
        let stages = self.stages.as_mut().ok_or_else(not_prepared)?;
        let tensor = stages.begin.tensor(plans::NOISE)?;
        match noise {
            NoiseSource::Seed(seed) if stages.seed == Some(seed) => {}
            NoiseSource::Seed(seed) => {
                tensor.write_f32(&noise.values(0, &tensor)?)?;
                stages.seed = Some(seed);
            }
            NoiseSource::Given(_) => {
                tensor.write_f32(&noise.values(0, &tensor)?)?;
                stages.seed = None;
            }
        }
        stages.begin.tensor(plans::START)?.write_f32(&factors)?;
        Ok(stages.begin.run()?)
    }

    /// Recomputes the time embeddings when timestep or guidance embedding changed.
    fn set_time(&mut self, timestep: f64, guidance: f32) -> Result<(), EngineError> {
        if self.time_of == Some((timestep, guidance)) {
            return Ok(());
        }
        self.time_of = None;
        self.time.tensor(plans::TIMESTEP)?.write_f32(&[timestep as f32])?;
        if let Some(dim) = self.networks.unet.config.time_cond_proj_dim {
            let embedding = guidance_embedding(f64::from(guidance), dim);
            self.time.tensor(plans::GUIDANCE)?.write_f32(&embedding)?;
        }
        self.time.run()?;
        self.time_of = Some((timestep, guidance));
        Ok(())
    }

    fn stages(&self) -> Result<&Stages, EngineError> {
        self.stages.as_ref().ok_or_else(not_prepared)
    }
    /// A tensor of the stage that encodes.
    pub(crate) fn begin_tensor(&self, name: &str) -> Result<GpuTensor, EngineError> {
        Ok(self.stages()?.begin.tensor(name)?)
    }
    /// A tensor of the stage that decodes.
    pub(crate) fn end_tensor(&self, name: &str) -> Result<GpuTensor, EngineError> {
        Ok(self.stages()?.end.tensor(name)?)
    }
}

impl Stages {
    /// Writes the numbers of step `k` (from 0) and its noise where it adds some.
    fn write_step(
        &self,
        step: &Step,
        guidance: Option<f64>,
        noise: NoiseSource<'_>,
        k: usize,
    ) -> Result<(), EngineError> {
        self.denoise.tensor(plans::INPUT)?.write_f32(&[step.input as f32])?;
        self.denoise.tensor(plans::STEP)?.write_f32(&step_factors(step, guidance))?;
        if step.next[2] != 0.0 {
            let tensor = self.denoise.tensor(plans::STEP_NOISE)?;
            tensor.write_f32(&noise.values(k + 1, &tensor)?)?;
        }
        Ok(())
    }
}

impl Prompt {
    /// An executable that reads embeddings where `sources` do.
    fn new(
        gpu: &Gpu,
        networks: &Networks,
        prefix: &str,
        dtype: DType,
        sources: &[&Executable],
    ) -> Result<Self, EngineError> {
        let tokens = networks.tokenizer.length() as u32;
        let shape = Shape::tokens(1, tokens, networks.text.config.hidden_size);
        let plan = plans::prompt(gpu.target(), &networks.unet.config, shape, prefix, dtype)?;
        Ok(Self { executable: networks.unet.prepare(gpu, plan, sources)?, of: None })
    }
    /// Computes keys and values of the embeddings that are there, those of `prompt`.
    fn set(&mut self, prompt: &str) -> Result<(), EngineError> {
        self.of = None;
        self.executable.run()?;
        self.of = Some(prompt.into());
        Ok(())
    }
}

impl NoiseSource<'_> {
    /// The values of `stream` for `tensor`.
    fn values(self, stream: usize, tensor: &GpuTensor) -> Result<Vec<f32>, EngineError> {
        let n = tensor.shape.elements() as usize;
        match self {
            Self::Seed(seed) => Ok(gaussian(seed, stream as u64, n)),
            Self::Given(noises) => noises.get(stream).filter(|v| v.len() == n).cloned().ok_or_else(|| {
                crate::frame::error(format!("noise {stream} is missing or does not have {n} values"))
            }),
        }
    }
}

fn not_prepared() -> EngineError {
    crate::frame::error("no plan was prepared")
}
