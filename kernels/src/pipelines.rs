//! Compiled kernels: one for each variant, compiled at most once per device, several at a time, and kept from one
//! run of the program to the next where the driver hands them out.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::error::KernelError;
use crate::gpu::Gpu;
use crate::plan::Variant;
use crate::shader::{self, Reflection};
use crate::submit;

/// Threads that compile at once: drivers gain little from more.
const THREADS: usize = 4;

/// A compiled kernel.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) compiled: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
    pub(crate) reflection: Reflection,
}

/// Where compiled kernels are kept between runs of a program. What is loaded must be what was saved under the same
/// key: the driver trusts it.
pub trait PipelineStore: fmt::Debug + Send + Sync {
    /// What was last saved under `key`, if it is there and whole.
    fn load(&self, key: &str) -> Option<Vec<u8>>;
    /// Keeps `data` under `key`, a name of letters, digits, dots and underscores; `data` replaces what was there.
    fn save(&self, key: &str, data: &[u8]);
}

/// A store, and what the driver made of it.
pub(crate) struct Kept {
    store: Arc<dyn PipelineStore>,
    key: String,
    pub(crate) cache: wgpu::PipelineCache,
    /// Whether something was there to begin with.
    pub(crate) is_warm: bool,
}

impl Kept {
    /// The cache of such a device with what `store` has of it; none where the driver hands nothing out.
    pub(crate) fn new(
        device: &wgpu::Device,
        info: &wgpu::AdapterInfo,
        store: Arc<dyn PipelineStore>,
    ) -> Option<Self> {
        let has_cache = device.features().contains(wgpu::Features::PIPELINE_CACHE);
        let key = wgpu::util::pipeline_cache_key(info).filter(|_| has_cache)?;
        // Another driver or other kernels make other pipelines.
        let mut hasher = DefaultHasher::new();
        (&info.driver, &info.driver_info, shader::sources()).hash(&mut hasher);
        let key = format!("{key}_{:016x}", hasher.finish());
        let data = store.load(&key);
        let descriptor =
            wgpu::PipelineCacheDescriptor { label: Some("kept"), data: data.as_deref(), fallback: true };
        // SAFETY: the store returns what was saved under this key, which names driver and kernels, and the driver
        // checks that it is its own; with `fallback`, what it does not take is left out.
        let cache = unsafe { device.create_pipeline_cache(&descriptor) };
        Some(Self { store, key, cache, is_warm: data.is_some() })
    }
    /// Hands everything compiled so far to the store.
    pub(crate) fn save(&self) {
        if let Some(data) = self.cache.get_data() {
            self.store.save(&self.key, &data);
        }
    }
}

/// Compiles what is not compiled yet, several at a time.
///
/// # Errors
/// [`KernelError::Compile`] of the first variant in order that does not compile.
pub(crate) fn compile_all<'a>(
    gpu: &Gpu,
    variants: impl Iterator<Item = &'a Variant>,
) -> Result<(), KernelError> {
    let mut seen = HashSet::new();
    let missing: Vec<&Variant> = {
        let pipelines = gpu.pipelines().lock().unwrap_or_else(PoisonError::into_inner);
        variants.filter(|v| !pipelines.contains_key(*v) && seen.insert(*v)).collect()
    };
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let work = || {
        while let Some((ix, variant)) = {
            let ix = next.fetch_add(1, Ordering::Relaxed);
            missing.get(ix).map(|variant| (ix, *variant))
        } {
            match pipeline(gpu, variant) {
                Ok(pipeline) if gpu.summary().is_software => submit::begin(gpu, &pipeline),
                Ok(_) => {}
                Err(error) => failures.lock().unwrap_or_else(PoisonError::into_inner).push((ix, error)),
            }
        }
    };
    thread::scope(|scope| {
        // This thread is one of them.
        for _ in 1..missing.len().min(THREADS) {
            scope.spawn(work);
        }
        work();
    });
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    match failures.into_iter().min_by_key(|(ix, _)| *ix) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

/// The compiled kernel of a variant.
///
/// # Errors
/// [`KernelError::Compile`].
pub(crate) fn pipeline(gpu: &Gpu, variant: &Variant) -> Result<Arc<Pipeline>, KernelError> {
    let all = || gpu.pipelines().lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pipeline) = all().get(variant) {
        return Ok(Arc::clone(pipeline));
    }
    // Others go on meanwhile. Where two compile the same, the first to be done is kept.
    let compiled = Arc::new(compile(gpu, variant)?);
    let mut pipelines = all();
    let pipeline = pipelines.entry(variant.clone()).or_insert_with(|| {
        gpu.meters().count_pipeline();
        compiled
    });
    Ok(Arc::clone(pipeline))
}

/// Renders, checks and compiles a variant.
fn compile(gpu: &Gpu, variant: &Variant) -> Result<Pipeline, KernelError> {
    let wgsl = shader::render(variant)?;
    let (module, reflection) = shader::reflect(variant, &wgsl)?;
    let device = gpu.device();
    let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let source = wgpu::ShaderSource::Naga(Cow::Owned(module));
    let descriptor = wgpu::ShaderModuleDescriptor { label: Some(variant.stem), source };
    let module = if gpu.runtime_checks() {
        device.create_shader_module(descriptor)
    } else {
        // SAFETY: kernels index within the shapes that their op checked when recording, and the
        // same kernels are tested with checks on, poisoned buffers and guard words.
        unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
    };
    let entries: Vec<wgpu::BindGroupLayoutEntry> = reflection.bindings.iter().map(layout_entry).collect();
    let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: Some(variant.stem),
        entries: &entries,
    });
    let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(variant.stem),
        bind_group_layouts: &[Some(&layout)],
        immediate_size: reflection.immediate_bytes,
    });
    let compiled = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(variant.stem),
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions {
            zero_initialize_workgroup_memory: false,
            ..Default::default()
        },
        cache: gpu.pipeline_cache(),
    });
    match pollster::block_on(scope.pop()) {
        Some(error) => Err(KernelError::Compile { variant: variant.to_string(), message: error.to_string() }),
        None => Ok(Pipeline { compiled, layout, reflection }),
    }
}

fn layout_entry(info: &shader::BindingInfo) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding: info.binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Storage { read_only: !info.writable },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    }
}
