//! Adapters and the device: choice, capabilities, limits, loss.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::choice::Tuning;
use crate::counters::{Clocks, Counters, Meters};
use crate::error::KernelError;
use crate::matrices;
use crate::pipelines::{Kept, Pipeline, PipelineStore};
use crate::plan::Variant;
use crate::shader;
use crate::target::{Matrices, Target, Tier};
use crate::upload::Uploads;

/// How long a wait takes before the device counts as lost.
const WAIT_TIMEOUT: Duration = Duration::from_secs(600);

/// Which adapter to open.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AdapterChoice {
    /// The first of [`adapters`]: discrete GPUs first, software adapters last.
    #[default]
    Auto,
    /// By its index in [`adapters`].
    Index(usize),
    /// By a part of its name, ignoring case.
    Name(String),
}

/// How to open a device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GpuOptions {
    /// Which adapter.
    pub adapter: AdapterChoice,
    /// Whether shaders check their indices, loops and divisions: on in tests, off when shipped.
    pub runtime_checks: bool,
    /// Kernel family to use instead of the adapter's own.
    pub tier: Option<Tier>,
    /// Whether products leave the adapter's matrix units alone.
    pub without_matrices: bool,
}

/// What is known of an adapter before it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterSummary {
    /// Position in [`adapters`].
    pub index: usize,
    /// The driver's name for it.
    pub name: String,
    /// Graphics interface, such as `vulkan`.
    pub backend: String,
    /// Kind, such as `DiscreteGpu` or `Cpu`.
    pub device_type: String,
    /// Driver name and version.
    pub driver: String,
    /// Whether it runs on the CPU.
    pub is_software: bool,
    /// Whether shaders have a native half type (storage is packed either way).
    pub has_f16: bool,
    /// Smallest and largest subgroup; zeros where there are none.
    pub subgroup_sizes: [u32; 2],
    /// Kernel family it gets.
    pub tier: Tier,
    /// Largest buffer in bytes.
    pub max_buffer_bytes: u64,
    /// Largest storage binding in bytes.
    pub max_binding_bytes: u64,
}

struct Inner {
    instance: wgpu::Instance,
    adapter: wgpu::Adapter,
    device: wgpu::Device,
    queue: wgpu::Queue,
    summary: AdapterSummary,
    target: Target,
    matrices: Result<Matrices, String>,
    runtime_checks: bool,
    failure: Arc<Mutex<Option<KernelError>>>,
    kept: Option<Kept>,
    pipelines: Mutex<HashMap<Variant, Arc<Pipeline>>>,
    tuning: Mutex<Arc<Tuning>>,
    uploads: Uploads,
    meters: Arc<Meters>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let pipelines = self.pipelines.get_mut().unwrap_or_else(PoisonError::into_inner);
        // A lost device has nothing to hand out.
        let is_lost = self.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if let Some(kept) = self.kept.as_ref().filter(|_| !is_lost && !pipelines.is_empty()) {
            kept.save();
        }
    }
}

/// An open device. Clones share it.
#[derive(Clone)]
pub struct Gpu(Arc<Inner>);

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Gpu").field(&self.0.summary).finish()
    }
}

/// Every adapter that can compute, software adapters last.
pub fn adapters() -> Vec<AdapterSummary> {
    enumerate().1.iter().enumerate().map(|(ix, adapter)| summarise(ix, adapter)).collect()
}

fn enumerate() -> (wgpu::Instance, Vec<wgpu::Adapter>) {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::PRIMARY;
    if !cfg!(debug_assertions) {
        descriptor.flags = wgpu::InstanceFlags::empty();
    }
    let instance = wgpu::Instance::new(descriptor);
    let mut adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
    adapters.retain(|a| a.features().contains(wgpu::Features::IMMEDIATES));
    adapters.sort_by_key(|a| match a.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    });
    (instance, adapters)
}

fn summarise(index: usize, adapter: &wgpu::Adapter) -> AdapterSummary {
    let (info, features, limits) = (adapter.get_info(), adapter.features(), adapter.limits());
    let has_subgroups = features.contains(wgpu::Features::SUBGROUP);
    let subgroup_sizes =
        if has_subgroups { [info.subgroup_min_size, info.subgroup_max_size] } else { [0, 0] };
    let is_software = info.device_type == wgpu::DeviceType::Cpu;
    let has_fixed_lanes = subgroup_sizes[0] == subgroup_sizes[1] && matches!(subgroup_sizes[0], 4 | 8 | 16);
    AdapterSummary {
        index,
        name: info.name,
        backend: info.backend.to_string(),
        device_type: format!("{:?}", info.device_type),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
        is_software,
        has_f16: features.contains(wgpu::Features::SHADER_F16),
        subgroup_sizes,
        tier: if is_software && has_fixed_lanes { Tier::Lane } else { Tier::Tile },
        max_buffer_bytes: limits.max_buffer_size,
        max_binding_bytes: limits.max_storage_buffer_binding_size,
    }
}

/// What a device is asked for where its adapter has it.
fn features(with_matrices: bool) -> wgpu::Features {
    let mut wanted = wgpu::Features::IMMEDIATES
        | wgpu::Features::SUBGROUP
        | wgpu::Features::PIPELINE_CACHE
        | wgpu::Features::TIMESTAMP_QUERY
        | wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES;
    if with_matrices {
        wanted |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16;
    }
    wanted
}

fn choose(list: &[AdapterSummary], choice: &AdapterChoice) -> Result<usize, KernelError> {
    let names = || {
        let all: Vec<String> =
            list.iter().map(|a| format!("{}: {} ({})", a.index, a.name, a.backend)).collect();
        if all.is_empty() { "there is none".to_string() } else { format!("there are {}", all.join(", ")) }
    };
    let found = match choice {
        AdapterChoice::Auto => (!list.is_empty()).then_some(0),
        AdapterChoice::Index(ix) => (*ix < list.len()).then_some(*ix),
        AdapterChoice::Name(name) => {
            let name = name.to_lowercase();
            list.iter().position(|a| a.name.to_lowercase().contains(&name))
        }
    };
    found.ok_or_else(|| {
        let wanted = match choice {
            AdapterChoice::Auto => "any adapter with Vulkan, Metal or DX12".to_string(),
            AdapterChoice::Index(ix) => format!("adapter {ix}"),
            AdapterChoice::Name(name) => format!("an adapter whose name contains `{name}`"),
        };
        KernelError::NoAdapter { message: format!("no adapter found: wanted {wanted}, {}", names()) }
    })
}

/// What kernels are recorded for on such an adapter.
fn target(summary: &AdapterSummary, limits: &wgpu::Limits, matrices: Option<Matrices>) -> Target {
    Target {
        tier: summary.tier,
        lanes: if summary.subgroup_sizes[0] == summary.subgroup_sizes[1] {
            summary.subgroup_sizes[0]
        } else {
            0
        },
        max_binding_bytes: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
        max_workgroups: limits.max_compute_workgroups_per_dimension,
        max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
        max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
        matrices,
    }
}

impl Gpu {
    /// Opens an adapter with all it offers of what kernels use.
    ///
    /// # Errors
    /// [`KernelError::NoAdapter`] when none fits the choice, [`KernelError::Unsupported`] when it
    /// cannot run the tier asked for, [`KernelError::Device`] when the driver refuses.
    pub fn open(options: &GpuOptions) -> Result<Self, KernelError> {
        Self::open_with(options, None)
    }
    /// The same, with compiled kernels from `store`; new ones are handed there when the device is closed.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(
        options: &GpuOptions,
        store: Option<Arc<dyn PipelineStore>>,
    ) -> Result<Self, KernelError> {
        let gpu = Self::open_once(options, store.clone())?;
        if gpu.0.matrices.is_err() {
            return Ok(gpu);
        }
        match matrices::self_test(&gpu) {
            Ok(()) => Ok(gpu),
            Err(why) => {
                drop(gpu);
                let without = GpuOptions { without_matrices: true, ..options.clone() };
                let mut gpu = Self::open_once(&without, store)?;
                // Nobody else has it yet.
                if let Some(inner) = Arc::get_mut(&mut gpu.0) {
                    inner.matrices = Err(why.to_string());
                }
                Ok(gpu)
            }
        }
    }
    /// The device as the driver describes it; what its matrix units compute is not looked at.
    fn open_once(options: &GpuOptions, store: Option<Arc<dyn PipelineStore>>) -> Result<Self, KernelError> {
        let (instance, mut adapters) = enumerate();
        let list: Vec<AdapterSummary> = adapters.iter().enumerate().map(|(i, a)| summarise(i, a)).collect();
        let index = choose(&list, &options.adapter)?;
        let (adapter, mut summary) = (adapters.swap_remove(index), list[index].clone());
        if let Some(tier) = options.tier {
            if tier == Tier::Lane && !matches!(summary.subgroup_sizes, [4, 4] | [8, 8] | [16, 16]) {
                let what = format!(
                    "the lane tier needs fixed subgroups of 4, 8 or 16, got {:?}",
                    summary.subgroup_sizes
                );
                return Err(KernelError::Unsupported { op: summary.name, what });
            }
            summary.tier = tier;
        }
        let matrices = matrices::offered(&adapter, &summary, options);
        let features = adapter.features() & features(matrices.is_ok());
        let mut limits = adapter.limits();
        limits.max_immediate_size = limits.max_immediate_size.min(128);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("dreamglass"),
            required_features: features,
            required_limits: limits.clone(),
            experimental_features: matrices::experimental(matrices.is_ok()),
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|e| KernelError::Device { message: format!("{}: {e}", summary.name) })?;
        let failure = watch(&device);
        let target = target(&summary, &limits, matrices.as_ref().ok().copied());
        let runtime_checks = options.runtime_checks;
        let kept = store.and_then(|store| Kept::new(&device, &adapter.get_info(), store));
        Ok(Self(Arc::new(Inner {
            instance,
            adapter,
            device,
            queue,
            summary,
            target,
            matrices,
            runtime_checks,
            failure,
            kept,
            pipelines: Mutex::default(),
            tuning: Mutex::default(),
            uploads: Uploads::default(),
            meters: Arc::default(),
        })))
    }
    /// The driver's cache of compiled kernels, where it hands one out and a store was given.
    pub(crate) fn pipeline_cache(&self) -> Option<&wgpu::PipelineCache> {
        self.0.kept.as_ref().map(|kept| &kept.cache)
    }
    /// Whether kernels compiled in an earlier run were found.
    pub fn is_warm(&self) -> bool {
        self.0.kept.as_ref().is_some_and(|kept| kept.is_warm)
    }
    /// The matrix units that products of f16 use, or why they use none.
    ///
    /// # Errors
    /// A sentence for a log: what is missing, or what they computed wrong.
    pub fn matrices(&self) -> Result<Matrices, &str> {
        self.0.matrices.as_ref().copied().map_err(String::as_str)
    }
    /// What was opened.
    pub fn summary(&self) -> &AdapterSummary {
        &self.0.summary
    }
    /// Bytes of the adapter's own memory, where its driver says: the heaps that Vulkan calls local to the device.
    pub fn memory_bytes(&self) -> Option<u64> {
        #[cfg(any(target_os = "linux", target_os = "windows"))]
        {
            // SAFETY: the handles are read only, and their adapter outlives them.
            let heaps = unsafe {
                let adapter = self.0.adapter.as_hal::<wgpu::hal::api::Vulkan>()?;
                let instance = adapter.shared_instance().raw_instance();
                instance.get_physical_device_memory_properties(adapter.raw_physical_device())
            };
            // VK_MEMORY_HEAP_DEVICE_LOCAL_BIT.
            let is_local = |flags: u32| flags & 1 != 0;
            let heaps = heaps.memory_heaps.iter().take(heaps.memory_heap_count as usize);
            Some(heaps.filter(|heap| is_local(heap.flags.as_raw())).map(|heap| heap.size).sum())
                .filter(|bytes| *bytes > 0)
        }
        #[cfg(not(any(target_os = "linux", target_os = "windows")))]
        None
    }
    /// Whether `other` is this very device. wgpu's own comparison does not tell devices of different
    /// instances apart.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
    /// What plans for this device are recorded for.
    pub fn target(&self) -> Target {
        self.0.target
    }
    /// The first thing that went wrong on the device since the last call, if anything did. A lost
    /// device stays lost.
    ///
    /// # Errors
    /// [`KernelError::DeviceLost`], [`KernelError::OutOfMemory`] or [`KernelError::Device`].
    pub fn check(&self) -> Result<(), KernelError> {
        let mut failure = self.0.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match &*failure {
            None => Ok(()),
            Some(lost @ KernelError::DeviceLost { .. }) => Err(lost.clone()),
            Some(_) => Err(failure.take().unwrap_or(KernelError::Device { message: String::new() })),
        }
    }
    /// What the device has done since it was opened.
    pub fn counters(&self) -> Counters {
        self.0.meters.read()
    }
    /// Blocks until everything written and submitted so far is done.
    ///
    /// # Errors
    /// [`KernelError::DeviceLost`], also when the device takes longer than ten minutes;
    /// [`KernelError::OutOfMemory`] or [`KernelError::Device`] when something went wrong since the
    /// last call.
    pub fn wait(&self) -> Result<(), KernelError> {
        self.0.uploads.flush(&self.0.queue);
        self.wait_for(None)
    }
    /// Blocks until `submission` and all before it are done; until all are, without one.
    pub(crate) fn wait_for(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<(), KernelError> {
        self.check()?;
        self.0.meters.count_wait();
        let wait = wgpu::PollType::Wait { submission_index: submission, timeout: Some(WAIT_TIMEOUT) };
        self.0
            .device
            .poll(wait)
            .map_err(|e| KernelError::DeviceLost { reason: format!("waiting for the device: {e}") })?;
        self.check()
    }
    /// Lets callbacks of finished work run, without waiting for any.
    pub(crate) fn poll(&self) -> Result<(), KernelError> {
        self.check()?;
        let polled = self.0.device.poll(wgpu::PollType::Poll);
        polled.map_err(|e| KernelError::DeviceLost { reason: format!("asking the device: {e}") })?;
        self.check()
    }
    /// Copies `bytes` to `buffer` from byte `offset` on, before what is submitted next. Both are multiples of four.
    ///
    /// # Errors
    /// [`KernelError::OutOfMemory`], [`KernelError::Device`], [`KernelError::DeviceLost`].
    pub(crate) fn upload(&self, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) -> Result<(), KernelError> {
        self.0.uploads.write(self, buffer, offset, bytes)?;
        self.check()
    }
    /// Whether weights are written to where kernels read them: on CPU adapters. Tiles there stand for a GPU, and their
    /// weights go the way that they go on one.
    pub(crate) fn has_host_memory(&self) -> bool {
        let summary = self.summary();
        summary.is_software && summary.tier == Tier::Lane
    }
    /// Submits one command buffer.
    pub(crate) fn submit(&self, commands: wgpu::CommandBuffer) -> wgpu::SubmissionIndex {
        self.0.meters.count_submission();
        self.0.uploads.submit(&self.0.queue, commands)
    }
    /// The counters to add to.
    pub(crate) fn meters(&self) -> &Arc<Meters> {
        &self.0.meters
    }
    /// The wgpu instance that the device was opened from: a window's surface must come from it, for
    /// the device to present there. It was made without a display handle, which Vulkan, Metal and
    /// DX12 do without; the window passes its own when the surface is made.
    pub fn instance(&self) -> &wgpu::Instance {
        &self.0.instance
    }
    /// The wgpu adapter that was opened: it knows which formats and present modes a surface has here.
    /// Adapters are chosen without a window, so a sink asks it whether it can present to its surface
    /// at all.
    pub fn adapter(&self) -> &wgpu::Adapter {
        &self.0.adapter
    }
    /// The wgpu device, for sinks that present from the GPU. What they submit themselves does not show
    /// in [`Self::counters`].
    pub fn device(&self) -> &wgpu::Device {
        &self.0.device
    }
    /// The wgpu queue, for sinks that present from the GPU.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.0.queue
    }
    /// Kernels compiled so far, shared by every plan on this device.
    pub(crate) fn pipelines(&self) -> &Mutex<HashMap<Variant, Arc<Pipeline>>> {
        &self.0.pipelines
    }
    /// Gives the device clocks, for the times in [`Self::counters`]. The first ones stay.
    pub fn set_clocks(&self, clocks: Clocks) {
        self.0.meters.set_clocks(clocks);
    }
    /// Which candidates plans are prepared with.
    pub fn tuning(&self) -> Arc<Tuning> {
        Arc::clone(&self.0.tuning.lock().unwrap_or_else(PoisonError::into_inner))
    }
    /// Prepares plans with the candidates of `tuning` from here on; those that are prepared stay as they are.
    pub fn set_tuning(&self, tuning: Tuning) {
        *self.0.tuning.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(tuning);
    }
    /// Names the adapter, its driver and the kernels, by letters, digits, dots and underscores: what a tuning holds
    /// for.
    pub fn tuning_key(&self) -> String {
        let AdapterSummary { name, backend, driver, .. } = self.summary();
        let mut hasher = DefaultHasher::new();
        (name, backend, driver, shader::sources(), self.target()).hash(&mut hasher);
        let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        let name: String = name.chars().map(word).take(40).collect();
        format!("{name}_{:016x}", hasher.finish())
    }
    /// Whether shaders are compiled with runtime checks.
    pub fn runtime_checks(&self) -> bool {
        self.0.runtime_checks
    }
}

/// Collects what the driver reports outside calls.
fn watch(device: &wgpu::Device) -> Arc<Mutex<Option<KernelError>>> {
    let failure = Arc::new(Mutex::new(None));
    let on_lost = Arc::clone(&failure);
    device.set_device_lost_callback(move |reason, message| {
        let mut slot = on_lost.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some(KernelError::DeviceLost { reason: format!("{reason:?}: {message}") });
    });
    let on_error = Arc::clone(&failure);
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        let mut slot = on_error.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert_with(|| from_wgpu(error, "an operation", 0));
    }));
    failure
}

/// Translates a wgpu error; `what` and `bytes` describe what was being done.
pub(crate) fn from_wgpu(error: wgpu::Error, what: &str, bytes: u64) -> KernelError {
    match error {
        wgpu::Error::OutOfMemory { .. } => KernelError::OutOfMemory { what: what.into(), bytes },
        other => KernelError::Device { message: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_that_fits_nothing_names_what_there_is() {
        let message = |choice| choose(&[], &choice).map_err(|e| e.to_string());
        assert!(
            message(AdapterChoice::Index(3)).is_err_and(|m| m.contains("adapter 3") && m.contains("none"))
        );
        assert!(message(AdapterChoice::Name("rtx".into())).is_err_and(|m| m.contains("rtx")));
    }
}
