//! What one layout needs on the device.

use std::sync::Arc;

use dreamglass_kernels::exec::{Executable, GpuTensor};
use dreamglass_kernels::gpu::Gpu;
use dreamglass_kernels::{DType, Shape};

use crate::error::EngineError;
use crate::frame::{Picture, Size};
use crate::networks::Networks;
use crate::params::Batching;
use crate::plans::{self, live as names};
use crate::schedule::guidance_embedding;
use crate::stream::blend::NoiseMix;
use crate::stream::tables::Tables;
use crate::stream::{Job, Layout};

/// Pictures that may be shown or under way at once: that on show, two in flight, and one that a
/// window may still be reading.
pub(crate) const DISPLAYS: usize = 4;

/// Plans that read a LoRA's weights, of one layout.
#[derive(Clone)]
pub(super) struct Weighed {
    pub steps: Arc<Executable>,
    pub times: Vec<Times>,
    /// The networks whose weights these are.
    pub networks: Arc<Networks>,
}

/// What plans are made from; it can go to another thread.
#[derive(Clone)]
pub(super) struct Ground {
    pub gpu: Gpu,
    pub networks: Arc<Networks>,
    pub dtype: DType,
    pub prompt: Arc<Executable>,
    pub negative: Arc<Executable>,
}

impl Times {
    /// The same of other weights.
    pub fn with(&self, executable: Arc<Executable>) -> Self {
        Self { executable, rows: self.rows.clone() }
    }
}

/// Plans to be made beside the stream, on any thread; see [`crate::Live::install`].
pub struct Builder {
    pub(super) ground: Ground,
    pub(super) layout: Layout,
}

/// Time embeddings of some rows of the batch.
#[derive(Clone)]
pub(super) struct Times {
    pub executable: Arc<Executable>,
    rows: std::ops::Range<usize>,
}

/// Plans of one layout, ready to run.
pub struct Stages {
    pub(super) layout: Layout,
    pub(super) encode: Executable,
    pub(super) weighed: Weighed,
    pub(super) decode: Executable,
    pub(super) shows: Vec<Executable>,
    /// Of each display; none where the size has no planes.
    pub(super) planes: Vec<Executable>,
    pub(super) compare: Executable,
    pub(super) remember: Executable,
    guidance_dim: Option<u32>,
}

impl Builder {
    /// What it makes plans for.
    pub fn layout(&self) -> Layout {
        self.layout
    }
    /// Records, compiles and allocates. Takes as long as the driver's compiler.
    ///
    /// # Errors
    /// [`EngineError::Frame`] for the size, [`EngineError::Kernel`] of the device.
    pub fn build(self) -> Result<Stages, EngineError> {
        let Self { ground, layout } = self;
        let Ground { gpu, networks, dtype, prompt, negative } = &ground;
        let (target, dtype) = (gpu.target(), *dtype);
        let (unet, vae) = (&networks.unet, &networks.vae);
        layout.size.check(vae.config.factor())?;
        let shape = latents_shape(networks, &layout);
        let tokens = networks.tokenizer.length() as u32;
        let size = layout.size;
        let picture = Shape::new(1, size.height, size.width, 3);
        let encode = vae.prepare(gpu, plans::encode(target, &vae.config, picture, dtype)?, &[])?;
        let remember = vae.prepare(gpu, names::remember(target, size)?, &[&encode])?;
        let compare = vae.prepare(gpu, names::compare(target, size)?, &[&encode, &remember])?;
        let times = times(&ground, &layout)?;

        let steps = names::steps(target, &unet.config, &layout, shape, tokens, dtype)?;
        let slots = Shape { n: layout.slots() as u32, ..shape };
        let next = GpuTensor::new(gpu, slots, DType::F32)?;
        let residual = GpuTensor::new(gpu, slots, DType::F32)?;
        let shared = [
            (names::PREVIOUS, next.clone()),
            (plans::NEXT, next.clone()),
            (names::RESIDUAL_PREVIOUS, residual.clone()),
            (names::RESIDUAL_NEXT, residual),
        ];
        let mut sources = vec![&encode, &**prompt, &**negative];
        sources.extend(times.iter().map(|t| &*t.executable));
        let steps = unet.prepare_with(gpu, steps, &sources, &shared)?;

        let rows = slots.n;
        let decode = names::decode(target, &vae.config, shape, rows, layout.is_smoothed, dtype)?;
        let decode = vae.prepare(gpu, decode, &[&steps])?;
        let before = [(names::SMOOTHED_BEFORE, decode.tensor(names::SMOOTHED_BEFORE).ok())];
        let before: Vec<_> = before.into_iter().filter_map(|(name, t)| Some((name, t?))).collect();
        let show = || {
            let plan = names::show(target, size, layout.is_smoothed)?;
            vae.prepare_with(gpu, plan, &[&decode], &before)
        };
        let shows = (0..DISPLAYS).map(|_| show()).collect::<Result<Vec<_>, EngineError>>()?;
        let planes = planes(&ground, size, &shows)?;
        let guidance_dim = unet.config.time_cond_proj_dim;
        let weighed = Weighed { steps: Arc::new(steps), times, networks: Arc::clone(networks) };
        Ok(Stages { layout, encode, weighed, decode, shows, planes, compare, remember, guidance_dim })
    }
}

/// What converts each display for a video encoder, into planes that they have in common.
fn planes(ground: &Ground, size: Size, shows: &[Executable]) -> Result<Vec<Executable>, EngineError> {
    if !size.width.is_multiple_of(8) || !size.height.is_multiple_of(2) {
        return Ok(Vec::new());
    }
    let Ground { gpu, networks, .. } = ground;
    let plan = names::planes(gpu.target(), size)?;
    let mut shared = Vec::new();
    let mut prepared: Vec<Executable> = Vec::new();
    for show in shows {
        let executable = networks.vae.prepare_with(gpu, plan.clone(), &[show], &shared)?;
        shared = vec![(names::PLANES, executable.tensor(names::PLANES)?)];
        prepared.push(executable);
    }
    Ok(prepared)
}

/// Shape of one frame's latents.
fn latents_shape(networks: &Networks, layout: &Layout) -> Shape {
    let (size, factor) = (layout.size, networks.vae.config.factor());
    Shape::new(1, size.height / factor, size.width / factor, networks.vae.config.latent_channels)
}

/// The time embeddings that the steps of `layout` read.
fn times(ground: &Ground, layout: &Layout) -> Result<Vec<Times>, EngineError> {
    let Ground { gpu, networks, dtype, .. } = ground;
    let make = |rows: std::ops::Range<usize>, prefix: &str| {
        let config = &networks.unet.config;
        let plan = plans::time(gpu.target(), config, rows.len() as u32, prefix, *dtype)?;
        Ok(Times { executable: Arc::new(networks.unet.prepare(gpu, plan, &[])?), rows })
    };
    let rows = layout.rows as usize;
    if layout.batching == Batching::Latency {
        return (0..rows).map(|k| make(k..k + 1, &names::step_prefix(k as u32))).collect();
    }
    let mut all = vec![make(0..rows, "")?];
    if layout.guidance == crate::params::GuidanceMode::Initialize {
        all.push(make(0..1, names::FIRST)?);
    }
    Ok(all)
}

impl Stages {
    /// Writes new numbers. The time embeddings that [`Stages::times`] gives must run next.
    fn write_tables(&self, tables: &Tables) -> Result<(), EngineError> {
        let steps = &self.weighed.steps;
        steps.tensor(plans::INPUT)?.write_f32(&tables.input)?;
        steps.tensor(plans::STEP)?.write_f32(&tables.step)?;
        if self.layout.has_residual() {
            steps.tensor(names::RESIDUAL)?.write_f32(&tables.residual)?;
        }
        if let Some(columns) = self.layout.residual_columns() {
            let mut entry = match columns {
                2 => vec![1.0, 0.0],
                _ => vec![tables.initial[0], tables.initial[1], 0.0],
            };
            for _ in 1..tables.rows() {
                entry.extend((0..columns).map(|c| f32::from(c + 1 == columns)));
            }
            steps.tensor(names::RESIDUAL_ENTRY)?.write_f32(&entry)?;
        }
        for time in &self.weighed.times {
            let timesteps: Vec<f32> = tables.timesteps[time.rows.clone()].iter().map(|&t| t as f32).collect();
            time.executable.tensor(plans::TIMESTEP)?.write_f32(&timesteps)?;
            if let Some(dim) = self.guidance_dim {
                let embedding = guidance_embedding(tables.embedded_guidance.unwrap_or(1.0), dim);
                let rows = embedding.repeat(time.rows.len());
                time.executable.tensor(plans::GUIDANCE)?.write_f32(&rows)?;
            }
        }
        Ok(())
    }
    /// Writes what the device does not hold yet of what `job` reads.
    pub(super) fn write(&self, job: &Job<Picture>) -> Result<(), EngineError> {
        if let Some(tables) = &job.tables {
            self.write_tables(tables)?;
        }
        if let Some(entry) = &job.entry {
            self.weighed.steps.tensor(names::ENTRY)?.write_f32(entry)?;
        }
        if let Some(noise) = job.noise {
            self.write_noise(noise)?;
        }
        if let (Some(factors), true) = (job.smoothing, self.layout.is_smoothed) {
            self.decode.tensor(names::SMOOTHING)?.write_f32(&factors)?;
        }
        Ok(())
    }
    /// What computes the time embeddings.
    pub(super) fn times(&self) -> impl Iterator<Item = &Executable> {
        self.weighed.times.iter().map(|t| &*t.executable)
    }
    /// Writes the noise of every row.
    fn write_noise(&self, noise: NoiseMix) -> Result<(), EngineError> {
        let tensor = self.weighed.steps.tensor(plans::NOISE)?;
        let rows = tensor.shape.n as usize;
        let row = tensor.shape.elements() as usize / rows;
        let values: Vec<f32> = (0..rows).flat_map(|k| noise.values(k as u64, row)).collect();
        Ok(tensor.write_f32(&values)?)
    }
}
