//! Prompts encoded beside the stream.

use std::collections::VecDeque;
use std::sync::Arc;

use dreamglass_kernels::exec::{Executable, GpuTensor};
use dreamglass_kernels::gpu::Gpu;
use dreamglass_kernels::readback::ReadbackRing;
use dreamglass_kernels::submit::{Submission, SubmissionTicket};
use dreamglass_kernels::{DType, KernelError};

use crate::error::EngineError;
use crate::networks::Networks;
use crate::plans;
use crate::text::Tokenizer;

/// Texts in flight: the prompt and the negative prompt, and as many that an error cut off.
const IN_FLIGHT: usize = 4;

/// The text encoder of a stream.
pub(super) struct Texts {
    gpu: Gpu,
    encoder: Arc<Executable>,
    embeddings: GpuTensor,
    ring: ReadbackRing,
    waiting: VecDeque<Waiting>,
    started: u64,
    bytes: Vec<u8>,
}

/// A text that is being encoded.
struct Waiting {
    /// Its read-back's.
    tag: u64,
    text: String,
    is_negative: bool,
}

/// A text that is encoded.
pub(super) struct Encoded {
    pub text: String,
    pub is_negative: bool,
    pub embeddings: Vec<f32>,
}

impl Texts {
    pub fn new(gpu: &Gpu, networks: &Networks, dtype: DType) -> Result<Self, EngineError> {
        let text = &networks.text;
        let tokens = networks.tokenizer.length() as u32;
        let plan = plans::text(gpu.target(), &text.config, text.prefix(), [1, tokens], dtype)?;
        let encoder = Arc::new(text.prepare(gpu, plan, &[])?);
        let embeddings = encoder.tensor(plans::TEXT_EMBEDDINGS)?;
        let ring = ReadbackRing::new(gpu, embeddings.shape.bytes(embeddings.dtype), IN_FLIGHT)?;
        let (waiting, bytes) = (VecDeque::new(), Vec::new());
        Ok(Self { gpu: gpu.clone(), encoder, embeddings, ring, waiting, started: 0, bytes })
    }
    /// From embeddings to the keys and values called `prefix`.
    pub fn prompt(
        &self,
        gpu: &Gpu,
        networks: &Networks,
        prefix: &str,
        dtype: DType,
    ) -> Result<Executable, EngineError> {
        let config = &networks.unet.config;
        let plan = plans::prompt(gpu.target(), config, self.embeddings.shape, prefix, dtype)?;
        networks.unet.prepare(gpu, plan, &[])
    }
    /// Starts encoding `text`.
    pub fn encode(
        &mut self,
        tokenizer: &Tokenizer,
        text: &str,
        is_negative: bool,
    ) -> Result<SubmissionTicket, EngineError> {
        let tokens = tokenizer.encode(text)?;
        self.encoder.tensor(plans::IDS)?.write_u32(&tokens.ids)?;
        let mut submission = Submission::new(&self.gpu);
        submission.run(&self.encoder)?;
        let tag = self.started;
        self.started += 1;
        if !submission.copy(&self.embeddings, &mut self.ring, tag)? {
            return Err(KernelError::Device { message: "too many texts are being encoded".into() }.into());
        }
        self.waiting.push_back(Waiting { tag, text: text.into(), is_negative });
        Ok(submission.submit()?)
    }
    /// The next text that is encoded, in the order in which they were started.
    pub fn poll(&mut self) -> Result<Option<Encoded>, EngineError> {
        if self.ring.in_flight() == 0 {
            return Ok(None);
        }
        while let Some(read) = self.ring.poll_into(&mut self.bytes)? {
            // What an error cut off is waited for no more.
            if self.waiting.front().is_none_or(|w| w.tag != read) {
                continue;
            }
            let embeddings = self.embeddings.values(&self.bytes)?;
            let encoded = self.waiting.pop_front();
            return Ok(encoded.map(|Waiting { text, is_negative, .. }| Encoded {
                text,
                is_negative,
                embeddings,
            }));
        }
        Ok(None)
    }
    /// Another encoder on the same tensors; what is being encoded is forgotten.
    pub fn replace(&mut self, encoder: Arc<Executable>) {
        self.encoder = encoder;
        self.abandon();
    }
    /// The encoder in use.
    pub fn encoder(&self) -> &Arc<Executable> {
        &self.encoder
    }
    /// Forgets what is being encoded.
    pub fn abandon(&mut self) {
        self.waiting.clear();
    }
}
