//! From arguments to an engine and its settings.

use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result};
use dreamglass_engine::kernels::DType;
use dreamglass_engine::kernels::gpu::{AdapterChoice, Gpu, GpuOptions};
use dreamglass_engine::{Engine, EngineOptions, Fit, ModelFiles, Sampler, Settings, Size, StrengthRule};

use crate::cli::{EngineArgs, FitName, Precision, Rule, SamplerName, StyleArgs};
use crate::failure::bad_input;
use crate::model::Looks;

/// Longest prompt file that is read, in bytes: hundreds of times what any text encoder reads.
const MAX_PROMPT_BYTES: usize = 64 << 10;

/// Short side of the result where neither the user nor the model says one.
const DEFAULT_SIDE: u32 = 512;

/// Longest side of a result whose size follows the source, in short sides.
const MAX_ASPECT: u32 = 4;

/// Style arguments with everything that can be checked before a device is opened.
pub struct Style<'a> {
    arguments: &'a StyleArgs,
    looks: Looks,
    prompt: String,
    negative: String,
}

impl<'a> Style<'a> {
    /// Reads the prompts and looks of a model.
    pub fn new(arguments: &'a StyleArgs, files: &ModelFiles) -> Result<Self> {
        let looks = Looks::open(files)?;
        let prompt = match &arguments.prompt {
            Some(text) => text_or_file("--prompt", text)?,
            None => looks.prompt(arguments.look.as_deref())?.to_string(),
        };
        if prompt.trim().is_empty() {
            return Err(bad_input(
                "the prompt is empty: say what the result shows, or leave --prompt out for the default look",
            ));
        }
        let negative = arguments.negative.as_deref().map(|t| text_or_file("--negative", t)).transpose()?;
        Ok(Self { arguments, looks, prompt, negative: negative.unwrap_or_default() })
    }

    /// The settings for sources of size `source`, checked against the model.
    pub fn settings(&self, engine: &Engine, source: Size) -> Result<Settings> {
        let Self { arguments: a, looks, prompt, negative } = self;
        let defaults = Settings::default();
        let side = engine.native_side().unwrap_or(DEFAULT_SIDE);
        let settings = Settings {
            prompt: prompt.clone(),
            negative: negative.clone(),
            steps: a.steps.or(looks.steps).unwrap_or(defaults.steps),
            strength: a.strength.or(looks.strength).unwrap_or(defaults.strength),
            guidance: a.guidance,
            seed: a.seed,
            size: a.size.unwrap_or_else(|| natural_size(source, side, engine.factor())),
            sampler: a.sampler.map_or_else(|| engine.native_sampler(), sampler),
            strength_rule: rule(a.strength_rule),
            fit: match a.fit {
                FitName::Crop => Fit::Crop,
                FitName::Stretch => Fit::Stretch,
            },
        };
        settings.check(engine.factor())?;
        engine.schedule(&settings)?;
        let cut = engine.tokenize(prompt)?.cut;
        if cut > 0 {
            tracing::warn!("the prompt is longer than the model reads: its last {cut} tokens are ignored");
        }
        Ok(settings)
    }
}

/// The engine's sampler of that name.
pub fn sampler(name: SamplerName) -> Sampler {
    match name {
        SamplerName::Lcm => Sampler::Lcm,
        SamplerName::Euler => Sampler::Euler,
    }
}

/// The engine's strength rule of that name.
pub fn rule(name: Rule) -> StrengthRule {
    match name {
        Rule::Lcm => StrengthRule::Lcm,
        Rule::Img2img => StrengthRule::Img2Img,
    }
}

/// Opens the device and loads the model for pictures.
pub fn engine(arguments: &EngineArgs, files: &ModelFiles) -> Result<Engine> {
    let EngineArgs { place, dtype: precision } = arguments;
    let gpu = open_gpu(&place.adapter)?;
    // CPU adapters unpack halves in software: no faster, and twice as long to compile.
    let native = if gpu.summary().is_software { Precision::F32 } else { Precision::F16 };
    let options = EngineOptions { dtype: dtype(precision.unwrap_or(native)), ..Default::default() };
    Engine::load(&gpu, files, &options).with_context(|| format!("model {}", place.model.display()))
}

/// Opens the device.
pub fn open_gpu(adapter: &AdapterChoice) -> Result<Gpu> {
    let options = GpuOptions { adapter: adapter.clone(), ..Default::default() };
    let gpu = Gpu::open(&options).context("cannot open a device (`dreamglass devices` lists them)")?;
    tracing::info!("device: {} ({})", gpu.summary().name, gpu.summary().backend);
    Ok(gpu)
}

/// The engine's storage type of that name.
pub fn dtype(precision: Precision) -> DType {
    match precision {
        Precision::F16 => DType::F16,
        Precision::F32 => DType::F32,
    }
}

/// `text` itself, or the contents of FILE for `@FILE`.
fn text_or_file(option: &str, text: &str) -> Result<String> {
    let Some(path) = text.strip_prefix('@') else { return Ok(text.into()) };
    let mut contents = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_PROMPT_BYTES as u64 + 1).read_to_end(&mut contents))
        .map_err(|e| bad_input(format!("{option}: {path}: {e}")))?;
    if contents.len() > MAX_PROMPT_BYTES {
        return Err(bad_input(format!("{option}: {path} is longer than {MAX_PROMPT_BYTES} bytes")));
    }
    String::from_utf8(contents).map_err(|_| bad_input(format!("{option}: {path} is not UTF-8 text")))
}

/// The shape of `source` with the short side `side`, in multiples of `factor`.
fn natural_size(source: Size, side: u32, factor: u32) -> Size {
    let (short, long) = (source.width.min(source.height), source.width.max(source.height));
    let ratio = f64::from(long) / f64::from(short.max(1));
    let whole = |pixels: f64| ((pixels / f64::from(factor)).round() as u32).max(1) * factor;
    let short = whole(f64::from(side));
    let long = whole(f64::from(side) * ratio).clamp(short, MAX_ASPECT * short);
    if source.width < source.height { Size::new(short, long) } else { Size::new(long, short) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_natural_size_keeps_the_shape_of_its_source() {
        let size = |w, h| natural_size(Size::new(w, h), 256, 8);
        assert_eq!(size(640, 480), Size::new(344, 256));
        assert_eq!(size(480, 640), Size::new(256, 344));
        assert_eq!(size(100, 100), Size::new(256, 256));
        assert_eq!(size(8000, 1), Size::new(1024, 256));
    }
}
