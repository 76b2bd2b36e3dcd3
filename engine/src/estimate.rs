//! What a model takes on a device, from its configs alone: nothing is loaded and no device is needed.

use std::collections::{HashMap, HashSet};

use dreamglass_kernels::ops::Orientation;
use dreamglass_kernels::plan::{Dispatch, Plan, Storage};
use dreamglass_kernels::weight::Weight;
use dreamglass_kernels::{DType, KernelError, Shape, Target};

use crate::error::EngineError;
use crate::family::Family;
use crate::frame::Size;
use crate::live::{DISPLAYS, MAX_LIVE_STEPS};
use crate::model::{AutoencoderConfig, SchedulerConfig, TextConfig, UnetConfig};
use crate::networks::WeightStorage;
use crate::params::{Batching, GuidanceMode, Params};
use crate::plans::{self, live};
use crate::schedule::Schedule;
use crate::stream::Layout;

/// The configs of a model.
#[derive(Debug, Clone, Copy)]
pub struct Configs<'a> {
    /// The UNet's.
    pub unet: &'a UnetConfig,
    /// The autoencoder's.
    pub vae: &'a AutoencoderConfig,
    /// The text encoder's.
    pub text: &'a TextConfig,
    /// The scheduler's.
    pub scheduler: &'a SchedulerConfig,
    /// What suits it.
    pub family: Family,
}

/// One dispatch of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Task {
    /// Stem of its kernel.
    pub kernel: &'static str,
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes of what it binds.
    pub bytes: u64,
    /// How often it runs for a frame.
    pub times: u32,
}

/// What a stream's frame takes.
#[derive(Debug, Clone)]
pub struct Estimate {
    /// Size of the result.
    pub size: Size,
    /// Steps of a frame.
    pub steps: u32,
    /// Whether a stream takes so many; single pictures and videos do.
    pub is_live: bool,
    /// How guidance is done.
    pub guidance: GuidanceMode,
    /// Bytes of weights on the device.
    pub weight_bytes: u64,
    /// Bytes of tensors that live within a plan; plans share them.
    pub slot_bytes: u64,
    /// Bytes of tensors that stay between plans and frames.
    pub tensor_bytes: u64,
    /// Everything that runs for a frame, in order.
    pub tasks: Vec<Task>,
    /// The largest binding in bytes.
    pub largest_binding: u64,
}

impl Estimate {
    /// What frames of a stream with `params` take on `target`; without a size in them, of the model's own.
    ///
    /// # Errors
    /// [`EngineError::Frame`], [`EngineError::Schedule`] for the parameters; [`EngineError::Kernel`] naming the binding
    /// that is too large for the target.
    pub fn new(
        model: &Configs<'_>,
        target: Target,
        params: &Params,
        dtype: DType,
        weights: WeightStorage,
    ) -> Result<Self, EngineError> {
        let (layout, steps) = layout(model, params)?;
        let is_live = steps as usize <= MAX_LIVE_STEPS;
        let repeats = if is_live { 1 } else { steps };
        let mut sum = Sum { storage: weights, ..Sum::default() };
        record(model, target, &layout, dtype, repeats, &mut sum)?;
        Ok(Self {
            size: layout.size,
            steps,
            is_live,
            guidance: layout.guidance,
            weight_bytes: sum.weights,
            slot_bytes: sum.slots.iter().sum(),
            tensor_bytes: sum.tensors,
            tasks: sum.tasks,
            largest_binding: sum.largest,
        })
    }
    /// Bytes on the device.
    pub fn bytes(&self) -> u64 {
        self.weight_bytes + self.slot_bytes + self.tensor_bytes
    }
    /// Floating-point operations of a frame.
    pub fn flops(&self) -> u64 {
        self.tasks.iter().map(|task| task.flops * u64::from(task.times)).sum()
    }
}

/// The plans that `params` need, and the steps of a frame; more than a stream takes are one step many times.
fn layout(model: &Configs<'_>, params: &Params) -> Result<(Layout, u32), EngineError> {
    let factor = model.vae.factor();
    let side = model.unet.sample_size.map_or(512, |cells| cells * factor);
    let settings = params.settings(Size::new(side, side), model.family.defaults());
    settings.check(factor)?;
    let steps = Schedule::new(model.scheduler, settings.schedule())?.steps.len() as u32;
    let rows = if steps as usize <= MAX_LIVE_STEPS { steps } else { 1 };
    let is_guided = settings.guidance > 1.0 && model.unet.time_cond_proj_dim.is_none();
    let guidance = if is_guided { params.guidance_mode } else { GuidanceMode::None };
    let batching = if rows == 1 { Batching::Latency } else { params.batching };
    let is_smoothed = params.smoothing > 0.0;
    Ok((Layout { size: settings.size, rows, batching, guidance, is_smoothed }, steps))
}

/// Counts the plans in the order that a stream prepares them in.
fn record(
    model: &Configs<'_>,
    target: Target,
    layout: &Layout,
    dtype: DType,
    repeats: u32,
    sum: &mut Sum,
) -> Result<(), KernelError> {
    let Configs { unet, vae, text, .. } = *model;
    let (size, factor, tokens) = (layout.size, vae.factor(), text.max_tokens);
    let shape = Shape::new(1, size.height / factor, size.width / factor, vae.latent_channels);
    let picture = Shape::new(1, size.height, size.width, 3);
    let embeddings = Shape::tokens(1, tokens, unet.cross_attention_dim[0]);
    sum.add("text", plans::text(target, text, "", [1, tokens], dtype)?, 0);
    sum.add("unet", plans::time(target, unet, 1, "", dtype)?, 0);
    // The engine's own prompt, and the stream's two.
    for _ in 0..3 {
        sum.add("unet", plans::prompt(target, unet, embeddings, "", dtype)?, 0);
    }
    let (source, region, orientation) = (size, [0.0, 0.0, 1.0, 1.0], Orientation::default());
    sum.add("vae", live::arrive(target, live::Arrival { source, region, orientation, size })?, 1);
    sum.add("vae", plans::encode(target, vae, picture, dtype)?, 1);
    sum.add("vae", live::remember(target, size)?, 0);
    for k in 0..layout.rows {
        sum.add("unet", plans::time(target, unet, 1, &live::step_prefix(k), dtype)?, 0);
    }
    sum.add("unet", live::steps(target, unet, layout, shape, tokens, dtype)?, repeats);
    let slots = layout.slots() as u32;
    sum.add("vae", live::decode(target, vae, shape, slots, layout.is_smoothed, dtype)?, 1);
    for display in 0..DISPLAYS {
        sum.add("vae", live::show(target, size, layout.is_smoothed)?, u32::from(display == 0));
    }
    Ok(())
}

/// What plans take together.
#[derive(Default)]
struct Sum {
    storage: WeightStorage,
    /// Weights that were counted, by network.
    known: HashMap<&'static str, HashSet<Weight>>,
    weights: u64,
    /// Buffers that plans share, the largest first.
    slots: Vec<u64>,
    /// Tensors that were counted.
    named: HashSet<String>,
    tensors: u64,
    tasks: Vec<Task>,
    largest: u64,
}

impl Sum {
    /// Adds a plan of `network` that runs so many times for a frame.
    fn add(&mut self, network: &'static str, plan: Plan, times: u32) {
        let plan = self.storage.of(plan);
        let known = self.known.entry(network).or_default();
        for weight in &plan.weights {
            self.largest = self.largest.max(weight.bytes());
            if known.insert(weight.clone()) {
                self.weights += weight.bytes();
            }
        }
        for value in &plan.values {
            self.largest = self.largest.max(value.bytes());
            // What a plan reads is there where an earlier one wrote it; samples go round in one buffer.
            let is_new = match &value.storage {
                Storage::Output(name) => {
                    self.named.insert(name.clone());
                    true
                }
                Storage::Input(name)
                    if [live::PREVIOUS, live::RESIDUAL_PREVIOUS].contains(&name.as_str()) =>
                {
                    false
                }
                Storage::Input(name) => self.named.insert(name.clone()),
                Storage::Slot | Storage::Counters => false,
            };
            if is_new {
                self.tensors += value.bytes();
            }
        }
        let mut sizes = plan.memory.slot_bytes.clone();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        // As the kernels' pool does.
        for (rank, size) in sizes.into_iter().enumerate() {
            if self.slots.get(rank).is_none_or(|slot| *slot < size) {
                self.slots.insert(rank, size);
            }
        }
        if times > 0 {
            let task = |(ix, dispatch): (usize, &Dispatch)| Task {
                kernel: dispatch.variant.stem,
                flops: dispatch.flops,
                bytes: plan.dispatch_bytes(ix),
                times,
            };
            self.tasks.extend(plan.dispatches.iter().enumerate().map(task));
        }
    }
}
