//! Prompts encoded beside the stream.

use std::collections::VecDeque;

use dreamglass_kernels::exec::{Executable, GpuTensor};
use dreamglass_kernels::gpu::Gpu;
use dreamglass_kernels::readback::ReadbackRing;
use dreamglass_kernels::submit::{Submission, SubmissionTicket};
use dreamglass_kernels::{DType, KernelError};

use crate::error::EngineError;
use crate::networks::Networks;
use crate::plans;
use crate::text::Tokenizer;

/// Texts in flight: the prompt and the negative prompt.
const IN_FLIGHT: usize = 2;

/// The text encoder of a stream.
pub(super) struct Texts {
    gpu: Gpu,
    encoder: Executable,
    embeddings: GpuTensor,
    ring: ReadbackRing,
    waiting: VecDeque<(String, bool)>,
    bytes: Vec<u8>,
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
        let encoder = text.prepare(gpu, plan, &[])?;
        let embeddings = encoder.tensor(plans::TEXT_EMBEDDINGS)?;
        let ring = ReadbackRing::new(gpu, embeddings.shape.bytes(embeddings.dtype), IN_FLIGHT)?;
        Ok(Self { gpu: gpu.clone(), encoder, embeddings, ring, waiting: VecDeque::new(), bytes: Vec::new() })
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
        if !submission.copy(&self.embeddings, &mut self.ring, 0)? {
            return Err(KernelError::Device { message: "too many texts are being encoded".into() }.into());
        }
        self.waiting.push_back((text.into(), is_negative));
        Ok(submission.submit()?)
    }
    /// The next text that is encoded, in the order in which they were started.
    pub fn poll(&mut self) -> Result<Option<Encoded>, EngineError> {
        if self.waiting.is_empty() || self.ring.poll_into(&mut self.bytes)?.is_none() {
            return Ok(None);
        }
        let embeddings = self.embeddings.values(&self.bytes)?;
        let encoded = self.waiting.pop_front();
        Ok(encoded.map(|(text, is_negative)| Encoded { text, is_negative, embeddings }))
    }
}
