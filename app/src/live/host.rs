//! A device and the model on it, for all streams.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use dreamglass_engine::{Engine, EngineOptions, Gpu, Live, LoraFile, ModelFiles, Params};

use crate::config;

/// Opens a device.
pub type Opener = Box<dyn Fn() -> Result<Gpu> + Send + Sync>;

/// A device that streams share, with a model that is loaded when the first one needs it. One that is
/// lost is opened anew once, whichever stream finds it first.
pub struct Host {
    state: Mutex<State>,
    reopen: Opener,
    files: ModelFiles,
    options: EngineOptions,
    streams: AtomicUsize,
}

struct State {
    gpu: Gpu,
    generation: u64,
    engine: Option<Engine>,
}

/// Counts a stream as long as it is there.
pub struct Guest(Arc<Host>);

impl Host {
    /// The model in `files` for `gpu`; `reopen` finds another device when that one is lost.
    pub fn new(gpu: Gpu, reopen: Opener, files: ModelFiles, options: EngineOptions) -> Arc<Self> {
        let state = Mutex::new(State { gpu, generation: 0, engine: None });
        Arc::new(Self { state, reopen, files, options, streams: AtomicUsize::new(0) })
    }
    /// The LoRAs that the model is loaded with.
    pub fn loras(&self) -> &[LoraFile] {
        &self.options.loras
    }
    /// The device in use.
    pub fn gpu(&self) -> Gpu {
        self.state().gpu.clone()
    }
    /// A stream of the model, and the generation of the device that it is on.
    pub fn live(&self, params: Params) -> Result<(Live, u64)> {
        let mut state = self.state();
        if state.engine.is_none() {
            let engine = Engine::load(&state.gpu, &self.files, &self.options)?;
            config::warn_of(&engine, &self.options);
            state.engine = Some(engine);
        }
        let generation = state.generation;
        let engine = state.engine.as_ref().context("the model was just loaded")?;
        Ok((Live::new(engine, params)?, generation))
    }
    /// Opens another device in the place of the one of `generation`, unless another stream has.
    pub fn renew(&self, generation: u64) -> Result<()> {
        let mut state = self.state();
        if state.generation == generation {
            state.engine = None;
            state.gpu = (self.reopen)().context("the device was lost")?;
            state.generation += 1;
        }
        Ok(())
    }
    /// Counts a stream until the guest is dropped.
    pub fn enter(self: &Arc<Self>) -> Guest {
        self.streams.fetch_add(1, Ordering::SeqCst);
        Guest(Arc::clone(self))
    }
    /// Whether several streams share the device.
    pub fn is_shared(&self) -> bool {
        self.streams.load(Ordering::SeqCst) > 1
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::SeqCst);
    }
}
