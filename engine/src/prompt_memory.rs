//! Embeddings of prompts, kept from one run of a program to the next: a start with a prompt that was encoded before
//! reads no text encoder.
//!
//! What is kept is found again for the same tokens, files (by path, length and time of change), config, storage,
//! adapter, driver and kernels only. Nothing is kept of a text encoder with LoRAs in it, nor of one that is part of the
//! program.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use dreamglass_kernels::DType;
use dreamglass_kernels::gpu::Gpu;

use crate::networks::Networks;

/// Where embeddings are kept between runs of a program.
pub trait PromptStore: fmt::Debug + Send + Sync {
    /// What was last saved under `key`, if it is there and whole.
    fn load(&self, key: &str) -> Option<Vec<u8>>;
    /// Keeps `data` under `key`, sixteen hexadecimal digits; `data` replaces what was there.
    fn save(&self, key: &str, data: &[u8]);
}

/// What is kept of one text encoder on one device.
#[derive(Debug, Clone)]
pub(crate) struct PromptMemory {
    store: Arc<dyn PromptStore>,
    /// All that embeddings depend on but the tokens.
    encoder: Arc<str>,
    /// Values of one prompt's embeddings.
    values: usize,
}

impl PromptMemory {
    /// What `store` keeps of the text encoder of `networks`; none where nothing tells that its files are the same.
    pub fn new(store: Arc<dyn PromptStore>, gpu: &Gpu, networks: &Networks, dtype: DType) -> Option<Self> {
        let text = networks.text.identity()?;
        let encoder = format!("{text} {dtype} {} {:?}", gpu.tuning_key(), gpu.tuning());
        let values = networks.tokenizer.length() * networks.text.config.hidden_size as usize;
        Some(Self { store, encoder: encoder.into(), values })
    }
    /// The embeddings `[T·hidden_size]` of a prompt of these tokens, if they are kept.
    pub fn find(&self, ids: &[u32]) -> Option<Vec<f32>> {
        let data = self.store.load(&self.key(ids))?;
        if data.len() != self.values * size_of::<f32>() {
            return None;
        }
        let embeddings: Vec<f32> = bytemuck::pod_collect_to_vec(&data);
        embeddings.iter().all(|v| v.is_finite()).then_some(embeddings)
    }
    /// Keeps the embeddings of a prompt of these tokens.
    pub fn keep(&self, ids: &[u32], embeddings: &[f32]) {
        if embeddings.len() == self.values {
            self.store.save(&self.key(ids), bytemuck::cast_slice(embeddings));
        }
    }
    fn key(&self, ids: &[u32]) -> String {
        let mut hasher = DefaultHasher::new();
        (&self.encoder, ids).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}
