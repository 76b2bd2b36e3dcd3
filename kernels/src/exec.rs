//! Running plans: weights packed and uploaded, buffers and bind groups prebuilt, to be replayed
//! alone or together in one submission.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::thread;

use crate::buffer::{Buffer, GUARD_BYTES, read_buffer};
use crate::error::{KernelError, shape_error};
use crate::gpu::Gpu;
use crate::pipelines::{self, Pipeline};
use crate::plan::{Dispatch, Operand, Plan, Storage};
use crate::shader::Reflection;
use crate::submit::Submission;
use crate::weight::WeightSource;
use crate::weight_cache::Placed;

pub use crate::buffer::GpuTensor;
pub use crate::weight_cache::WeightCache;

/// A dispatch with everything that it binds.
pub(crate) struct Step {
    pipeline: Arc<Pipeline>,
    bind_group: wgpu::BindGroup,
    immediates: Vec<u32>,
    grid: [u32; 3],
}

impl Step {
    /// Records the dispatch.
    pub(crate) fn encode(&self, pass: &mut wgpu::ComputePass) {
        pass.set_pipeline(&self.pipeline.compiled);
        pass.set_bind_group(0, &self.bind_group, &[]);
        if !self.immediates.is_empty() {
            pass.set_immediates(0, bytemuck::cast_slice(&self.immediates));
        }
        pass.dispatch_workgroups(self.grid[0], self.grid[1], self.grid[2]);
    }
}

/// What a dispatch does at least.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Work {
    /// Floating-point operations.
    pub(crate) flops: u64,
    /// Bytes of everything that it binds.
    pub(crate) bytes: u64,
}

/// A plan prepared on a device.
pub struct Executable {
    gpu: Gpu,
    plan: Plan,
    /// What each dispatch computes and moves, for profiles.
    work: Vec<Work>,
    steps: Vec<Step>,
    slots: Vec<Arc<Buffer>>,
    tensors: HashMap<u32, GpuTensor>,
}

impl Executable {
    /// Uploads weights, allocates tensors and compiles kernels, those that the device's tuning names. Inputs that
    /// are not among `externals` get a zeroed buffer of their own.
    ///
    /// # Errors
    /// What the weight source reports; [`KernelError::Shape`] or [`KernelError::DType`] when an
    /// external does not fit its input; [`KernelError::Compile`]; [`KernelError::OutOfMemory`].
    pub fn new(
        gpu: &Gpu,
        plan: Plan,
        source: &dyn WeightSource,
        cache: &WeightCache,
        externals: &[(&str, GpuTensor)],
    ) -> Result<Self, KernelError> {
        let plan = plan.tuned(&gpu.tuning());
        let tensors = bind_tensors(gpu, &plan, externals)?;
        let slots = cache.slots.take(gpu, &plan.memory.slot_bytes)?;
        let weights = load(gpu, &plan, source, cache)?;
        let work = plan.dispatches.iter().enumerate();
        let work = work.map(|(ix, d)| Work { flops: d.flops, bytes: plan.dispatch_bytes(ix) }).collect();
        let mut executable = Self { gpu: gpu.clone(), plan, work, steps: Vec::new(), slots, tensors };
        let dispatches = std::mem::take(&mut executable.plan.dispatches);
        for dispatch in &dispatches {
            let step = executable.prepare(dispatch, &weights)?;
            executable.steps.push(step);
        }
        executable.plan.dispatches = dispatches;
        Ok(executable)
    }
    /// The same on the same tensors with other weights: what `cache` does not hold comes from `source`. For changing
    /// weights between two runs, beside those that go on with the old ones.
    ///
    /// # Errors
    /// What the weight source reports; [`KernelError::OutOfMemory`].
    pub fn with_weights(&self, source: &dyn WeightSource, cache: &WeightCache) -> Result<Self, KernelError> {
        let weights = cache.load(&self.gpu, &self.plan.weights, source)?;
        let mut executable = Self {
            gpu: self.gpu.clone(),
            plan: self.plan.clone(),
            work: self.work.clone(),
            steps: Vec::new(),
            slots: self.slots.clone(),
            tensors: self.tensors.clone(),
        };
        let prepare = |dispatch| self.prepare(dispatch, &weights);
        executable.steps = self.plan.dispatches.iter().map(prepare).collect::<Result<_, _>>()?;
        Ok(executable)
    }
    /// An input or output by name.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when the plan has none of that name.
    pub fn tensor(&self, name: &str) -> Result<GpuTensor, KernelError> {
        let found = self.plan.named(name).and_then(|(id, _)| self.tensors.get(&id));
        found
            .cloned()
            .ok_or_else(|| shape_error("executable", format!("an input or output called `{name}`"), "none"))
    }
    /// Encodes one compute pass and submits it, without waiting.
    ///
    /// # Errors
    /// [`KernelError::DeviceLost`], [`KernelError::OutOfMemory`] or [`KernelError::Device`] when
    /// something went wrong since the last call.
    pub fn run(&self) -> Result<(), KernelError> {
        let mut submission = Submission::new(&self.gpu);
        submission.run(self)?;
        submission.submit().map(|_| ())
    }
    /// The dispatches, in order.
    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }
    /// What each dispatch does.
    pub(crate) fn work(&self) -> &[Work] {
        &self.work
    }
    /// The plan that this runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
    /// Fills every slot, output and guard area with the word `pattern` (a NaN, in tests), so that
    /// a read of something unwritten or a write out of bounds shows.
    ///
    /// # Errors
    /// [`KernelError::DeviceLost`], [`KernelError::OutOfMemory`], [`KernelError::Device`].
    pub fn poison(&self, pattern: u32) -> Result<(), KernelError> {
        let fill = |buffer: &Buffer, from: u64| {
            let words = vec![pattern; ((buffer.size() - from) / 4) as usize];
            self.gpu.upload(buffer, from, bytemuck::cast_slice(&words))
        };
        for slot in &self.slots {
            fill(slot, 0)?;
        }
        for (id, tensor) in &self.tensors {
            match self.plan.values[*id as usize].storage {
                Storage::Output(_) => fill(&tensor.buffer, 0)?,
                _ => fill(&tensor.buffer, tensor.buffer.size() - GUARD_BYTES)?,
            }
        }
        Ok(())
    }
    /// Whether the words behind every tensor still hold `pattern`.
    ///
    /// # Errors
    /// [`KernelError::DeviceLost`], [`KernelError::Device`] when reading back fails.
    pub fn guards_intact(&self, pattern: u32) -> Result<bool, KernelError> {
        for buffer in self.slots.iter().map(|slot| &**slot).chain(self.tensors.values().map(|t| &t.buffer)) {
            let bytes = read_buffer(&self.gpu, buffer, buffer.size() - GUARD_BYTES, GUARD_BYTES)?;
            if bytes.chunks_exact(4).any(|w| w != pattern.to_le_bytes()) {
                return Ok(false);
            }
        }
        Ok(true)
    }
    fn prepare(&self, dispatch: &Dispatch, weights: &[Placed]) -> Result<Step, KernelError> {
        let pipeline = pipelines::pipeline(&self.gpu, &dispatch.variant)?;
        check_interface(dispatch, &pipeline.reflection)?;
        let mut entries = Vec::with_capacity(dispatch.bindings.len());
        for info in &pipeline.reflection.bindings {
            let bound = dispatch.bindings.iter().find(|(name, _, _)| *name == info.name);
            let Some((_, operand, _)) = bound else { continue };
            let (buffer, offset, bytes) = match operand {
                Operand::Weight(ix) => {
                    let Placed { buffer, offset } = &weights[*ix as usize];
                    (buffer, *offset, self.plan.weights[*ix as usize].bytes())
                }
                Operand::Tensor(id) => self.storage(*id)?,
            };
            let size = wgpu::BufferSize::new(bytes.max(16).next_multiple_of(16));
            let resource = wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size });
            entries.push(wgpu::BindGroupEntry { binding: info.binding, resource });
        }
        let bind_group = self.gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(&dispatch.label),
            layout: &pipeline.layout,
            entries: &entries,
        });
        Ok(Step { pipeline, bind_group, immediates: dispatch.immediates.clone(), grid: dispatch.grid })
    }
    /// The buffer of a value, the bytes before it there, and its own.
    fn storage(&self, id: u32) -> Result<(&Buffer, u64, u64), KernelError> {
        let bytes = self.plan.values[id as usize].bytes();
        if let Some(tensor) = self.tensors.get(&id) {
            return Ok((&tensor.buffer, 0, bytes));
        }
        let place = self.plan.memory.place_of[id as usize];
        place
            .map(|place| (&*self.slots[place.slot as usize], place.offset, bytes))
            .ok_or_else(|| shape_error("plan", "a slot", format!("%{id}")))
    }
}

/// The weights of a plan, while its kernels are compiled beside: files that must come from a disk leave the CPU time
/// for it, and most CPUs have more cores than either uses.
fn load(
    gpu: &Gpu,
    plan: &Plan,
    source: &dyn WeightSource,
    cache: &WeightCache,
) -> Result<Vec<Placed>, KernelError> {
    let compile = || {
        let begun = gpu.meters().now();
        pipelines::compile_all(gpu, plan.dispatches.iter().map(|d| &d.variant))?;
        gpu.meters().count_compilation(begun);
        Ok(())
    };
    thread::scope(|scope| {
        let compiled = scope.spawn(compile);
        let begun = gpu.meters().now();
        let weights = cache.load(gpu, &plan.weights, source)?;
        gpu.meters().count_weights(begun);
        compiled.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(weights)
    })
}

/// Buffers of a plan's inputs, outputs and counters, by tensor id.
fn bind_tensors(
    gpu: &Gpu,
    plan: &Plan,
    externals: &[(&str, GpuTensor)],
) -> Result<HashMap<u32, GpuTensor>, KernelError> {
    let mut tensors = HashMap::new();
    for (name, tensor) in externals {
        let Some((id, value)) = plan.named(name) else {
            return Err(shape_error("externals", "a name of the plan", name));
        };
        if value.shape != tensor.shape {
            return Err(shape_error(name, value.shape, tensor.shape));
        }
        if value.dtype != tensor.dtype {
            let (expected, got) = (value.dtype.to_string(), tensor.dtype.to_string());
            return Err(KernelError::DType { op: (*name).into(), expected, got });
        }
        tensors.insert(id, tensor.clone());
    }
    for (id, value) in plan.values.iter().enumerate() {
        let id = id as u32;
        let name = match &value.storage {
            Storage::Input(name) | Storage::Output(name) => name,
            Storage::Counters => "counters",
            Storage::Slot => continue,
        };
        if let Entry::Vacant(free) = tensors.entry(id) {
            free.insert(GpuTensor::named(gpu, name, value.shape, value.dtype)?);
        }
    }
    Ok(tensors)
}

/// The op's bindings and immediates against what the shader declares: a difference is our bug.
fn check_interface(dispatch: &Dispatch, reflection: &Reflection) -> Result<(), KernelError> {
    let mut bound: Vec<(&str, bool)> = dispatch.bindings.iter().map(|(n, _, w)| (*n, *w)).collect();
    let mut declared: Vec<(&str, bool)> =
        reflection.bindings.iter().map(|b| (b.name.as_str(), b.writable)).collect();
    bound.sort_unstable();
    declared.sort_unstable();
    let bytes = dispatch.immediates.len() as u32 * 4;
    if bound == declared && bytes == reflection.immediate_bytes {
        return Ok(());
    }
    let message = format!(
        "the op binds {bound:?} and {bytes} immediate bytes, the shader declares {declared:?} and {}",
        reflection.immediate_bytes
    );
    Err(KernelError::Compile { variant: dispatch.variant.to_string(), message })
}
