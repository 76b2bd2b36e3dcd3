//! From arguments to an engine and its parameters.

use anyhow::{Context, Result};
use dreamglass_engine::kernels::gpu::{AdapterChoice, Gpu, GpuOptions};
use dreamglass_engine::kernels::{DType, Tier};
use dreamglass_engine::{Engine, EngineOptions, ModelFiles, Params, Settings, Size, WeightStorage};

use crate::cli::{EngineArgs, Precision, StyleArgs, Weights};
use crate::disk_cache::DiskCache;
use crate::failure::bad_input;
use crate::model::Looks;
use crate::preset::{self, Configuration, Preset};
use crate::tuning_file::TuningFile;
use crate::workers;

/// Short side of the result where neither the user nor the model says one.
const DEFAULT_SIDE: u32 = 512;

/// Parameters with everything that can be checked before a device is opened.
#[derive(Debug)]
pub struct Style {
    /// The model's looks.
    pub looks: Looks,
    /// The parameters.
    pub params: Params,
}

impl Style {
    /// Layers of parameters, the later before the earlier: defaults, the model's, a preset, the
    /// configuration, options and environment.
    pub fn new<const STREAM: bool>(
        arguments: &StyleArgs<STREAM>,
        configuration: &Configuration,
        files: &ModelFiles,
    ) -> Result<Self> {
        Self::with(arguments, configuration, Looks::open(files)?)
    }
    /// The same without a configuration, and with any prompt where neither the user nor the model says one.
    pub fn for_measuring<const STREAM: bool>(
        arguments: &StyleArgs<STREAM>,
        files: &ModelFiles,
    ) -> Result<Self> {
        Self::with(arguments, &Configuration::default(), Looks::open(files)?.or_any())
    }
    fn with<const STREAM: bool>(
        arguments: &StyleArgs<STREAM>,
        configuration: &Configuration,
        looks: Looks,
    ) -> Result<Self> {
        let mut params = Params::default();
        let mut look = None;
        if let Some(name) = arguments.preset.as_deref().or(configuration.preset.as_deref()) {
            let file = Preset::open(name)?;
            preset::apply(&mut params, &file.parameters, &format!("preset {}", name.display()))?;
            look = file.look;
        }
        if configuration.look.is_some() {
            look.clone_from(&configuration.look);
            params.prompt.clear();
        }
        preset::apply(&mut params, &configuration.parameters, "the configuration")?;
        for (name, value) in &arguments.parameters.0 {
            params.set(name, value)?;
        }
        let is_said = |name: &str| arguments.parameters.0.iter().any(|(n, _)| *n == name);
        if arguments.look.is_some() || (params.prompt.is_empty() && !is_said("prompt")) {
            params.prompt = looks.prompt(arguments.look.as_deref().or(look.as_deref()))?.to_string();
        }
        if params.prompt.trim().is_empty() {
            return Err(bad_input(
                "the prompt is empty: say what the result shows, or leave --prompt out for the default look",
            ));
        }
        looks.complete(&mut params);
        Ok(Self { looks, params })
    }

    /// The settings of a single picture from a source of size `source`, checked against the model.
    pub fn settings(&self, engine: &Engine, source: Size) -> Result<Settings> {
        let side = engine.native_side().unwrap_or(DEFAULT_SIDE);
        let turned = if self.params.is_on_side() { source.turned() } else { source };
        let settings =
            self.params.settings(turned.natural(side, engine.factor()), engine.family().defaults());
        settings.check(engine.factor())?;
        engine.schedule(&settings)?;
        warn_of_cut(engine, &settings.prompt)?;
        let family = engine.family();
        let objections = family.objections(&settings).into_iter().chain(family.unread_negative(&settings));
        objections.for_each(|text| tracing::warn!("{text}"));
        Ok(settings)
    }
}

/// Says when a model does not read all of a prompt.
pub fn warn_of_cut(engine: &Engine, prompt: &str) -> Result<()> {
    let cut = engine.tokenize(prompt)?.cut;
    if cut > 0 {
        tracing::warn!("the prompt is longer than the model reads: its last {cut} tokens are ignored");
    }
    Ok(())
}

/// Opens the device and loads the model for pictures.
pub fn engine(arguments: &EngineArgs, files: &ModelFiles) -> Result<Engine> {
    load(&open_gpu(&arguments.place.adapter())?, arguments, files)
}

/// Loads the model on an open device.
pub fn load(gpu: &Gpu, arguments: &EngineArgs, files: &ModelFiles) -> Result<Engine> {
    let options = options(arguments)?;
    let engine = Engine::load(gpu, files, &options)
        .with_context(|| format!("model {}", arguments.place.model().display()))?;
    warn_of(&engine, &options);
    Ok(engine)
}

/// Says what is slow about a model, which tensors of its files are not read, as its configs may be those of another, and
/// which LoRAs do not go with it.
pub fn warn_of(engine: &Engine, options: &EngineOptions) {
    if engine.has_large_autoencoder() && options.vae.is_none() {
        tracing::warn!(
            "the model's autoencoder is a large one (AutoencoderKL), which takes most of the time: --vae with a tiny one, \
             such as TAESD's, is many times faster"
        );
    }
    engine.misplaced_loras().iter().for_each(|text| tracing::warn!("{text}"));
    // Counts of positions that transformers saved up to 4.30, and a projection that only whole CLIP models use.
    let is_known = |name: &str| name.ends_with("position_ids") || name.ends_with("text_projection.weight");
    let unused: Vec<&String> = engine.unused_weights().iter().filter(|name| !is_known(name)).collect();
    if let [first, ..] = unused[..] {
        tracing::warn!(
            "the model's files hold {} tensors that its configs have no place for, such as `{first}`",
            unused.len()
        );
    }
}

/// How a model is loaded.
pub fn options(arguments: &EngineArgs) -> Result<EngineOptions> {
    let vae = arguments.vae.as_deref().map(ModelFiles::at).transpose().context("--vae")?;
    let (dtype, weights) = (dtype(arguments.dtype), weights(arguments.weights));
    let (loras, prompts) = (arguments.loras.clone(), DiskCache::prompts());
    Ok(EngineOptions { dtype, weights, vae, loras, prompts })
}

/// Opens the device, with what is kept of compiled kernels and of tuning.
pub fn open_gpu(adapter: &AdapterChoice) -> Result<Gpu> {
    open_gpu_as(adapter, None)
}

/// The same, with kernels of `tier` instead of the adapter's own.
pub fn open_gpu_as(adapter: &AdapterChoice, tier: Option<Tier>) -> Result<Gpu> {
    let options = GpuOptions { adapter: adapter.clone(), tier, ..Default::default() };
    let before = workers::threads();
    let gpu = Gpu::open_with(&options, DiskCache::kernels())
        .context("cannot open a device (`dreamglass devices` lists them)")?;
    tracing::info!("device: {} ({})", gpu.summary().name, gpu.summary().backend);
    if gpu.summary().is_software && workers::spread(&before) {
        tracing::info!("each of its threads has a processor of its own");
    }
    if gpu.is_warm() {
        tracing::info!("kernels of an earlier run were found");
    }
    if let Some(file) = TuningFile::load(&gpu) {
        tracing::info!("kernels of {} classes are tuned", file.classes.len());
        gpu.set_tuning(file.tuning());
    }
    match gpu.matrices() {
        Ok(matrices) => {
            tracing::info!("products of f16 use matrix units, {0}x{0} at a time", matrices.fragment)
        }
        Err(why) => tracing::info!("products use no matrix units: {why}"),
    }
    Ok(gpu)
}

/// The engine's storage type of that name.
pub fn dtype(precision: Precision) -> DType {
    match precision {
        Precision::F16 => DType::F16,
        Precision::F32 => DType::F32,
    }
}

/// The engine's storage of weights of that name.
pub fn weights(weights: Weights) -> WeightStorage {
    match weights {
        Weights::Same => WeightStorage::AsActivations,
        Weights::Int8 => WeightStorage::Int8,
    }
}
