//! Prompts encoded beside the stream: remembered from an earlier run, or by the text encoder, which is loaded when a
//! prompt wants it, or when the first picture is on show.

use std::collections::VecDeque;
use std::sync::Arc;

use dreamglass_kernels::exec::{Executable, GpuTensor};
use dreamglass_kernels::gpu::Gpu;
use dreamglass_kernels::readback::ReadbackRing;
use dreamglass_kernels::submit::{Submission, SubmissionTicket};
use dreamglass_kernels::{DType, KernelError, Shape};

use super::{Live, Work};
use crate::error::EngineError;
use crate::networks::Networks;
use crate::plans;
use crate::prompt_memory::PromptMemory;

/// Texts in flight: the prompt and the negative prompt, and as many that an error cut off.
const IN_FLIGHT: usize = 4;

/// The prompts of a stream on their way to embeddings.
pub(super) struct Texts {
    gpu: Gpu,
    dtype: DType,
    /// Of one text's embeddings.
    shape: Shape,
    memory: Option<PromptMemory>,
    encoder: Option<TextEncoder>,
    is_loading: bool,
    /// Whether it could not be had: it is not loaded before a prompt wants it.
    is_refused: bool,
    /// Texts that wait for the encoder; whether they are negative.
    held: VecDeque<(String, bool)>,
    waiting: VecDeque<Waiting>,
    started: u64,
    bytes: Vec<u8>,
}

/// A text encoder that is ready to run.
pub struct TextEncoder {
    networks: Arc<Networks>,
    executable: Arc<Executable>,
    embeddings: GpuTensor,
    ring: ReadbackRing,
}

/// What is done for prompts beside the stream, on any thread; see [`Live::hear_text`].
pub enum TextWork {
    /// The text encoder is to be loaded.
    Load(TextLoader),
    /// Embeddings are to be kept.
    Keep(TextKeeper),
}

/// What came of a [`TextWork`].
pub struct TextDone(Option<Result<TextEncoder, EngineError>>);

/// A text encoder to be loaded.
pub struct TextLoader {
    gpu: Gpu,
    networks: Arc<Networks>,
    dtype: DType,
}

/// Embeddings to be kept for the program's next run.
pub struct TextKeeper {
    memory: PromptMemory,
    ids: Vec<u32>,
    embeddings: Vec<f32>,
}

impl TextWork {
    /// Does it. Loading takes as long as reading the text encoder's files.
    pub fn run(self) -> TextDone {
        TextDone(match self {
            Self::Load(loader) => Some(loader.load()),
            Self::Keep(TextKeeper { memory, ids, embeddings }) => {
                memory.keep(&ids, &embeddings);
                None
            }
        })
    }
}

impl TextLoader {
    fn load(self) -> Result<TextEncoder, EngineError> {
        let Self { gpu, networks, dtype } = self;
        let text = &networks.text;
        let tokens = networks.tokenizer.length() as u32;
        let plan = plans::text(gpu.target(), &text.config, text.prefix(), [1, tokens], dtype)?;
        let executable = Arc::new(text.prepare(&gpu, plan, &[])?);
        let embeddings = executable.tensor(plans::TEXT_EMBEDDINGS)?;
        let ring = ReadbackRing::new(&gpu, embeddings.shape.bytes(embeddings.dtype), IN_FLIGHT)?;
        Ok(TextEncoder { networks, executable, embeddings, ring })
    }
}

/// A text that is being encoded.
struct Waiting {
    /// Its read-back's.
    tag: u64,
    text: String,
    is_negative: bool,
    ids: Vec<u32>,
}

/// A text that is encoded.
struct Encoded {
    text: String,
    is_negative: bool,
    ids: Vec<u32>,
    embeddings: Vec<f32>,
}

/// How a text comes to its embeddings.
enum Encoding {
    /// They are remembered.
    Known(Vec<f32>),
    /// The encoder is at it.
    Started(SubmissionTicket),
    /// There is no encoder yet.
    Held,
}

impl Texts {
    pub fn new(gpu: &Gpu, networks: &Networks, dtype: DType, memory: Option<PromptMemory>) -> Self {
        let tokens = networks.tokenizer.length() as u32;
        Self {
            gpu: gpu.clone(),
            dtype,
            shape: Shape::tokens(1, tokens, networks.text.config.hidden_size),
            memory,
            encoder: None,
            is_loading: false,
            is_refused: false,
            held: VecDeque::new(),
            waiting: VecDeque::new(),
            started: 0,
            bytes: Vec::new(),
        }
    }
    /// From embeddings to the keys and values called `prefix`.
    pub fn prompt(&self, networks: &Networks, prefix: &str) -> Result<Executable, EngineError> {
        let config = &networks.unet.config;
        let plan = plans::prompt(self.gpu.target(), config, self.shape, prefix, self.dtype)?;
        networks.unet.prepare(&self.gpu, plan, &[])
    }
    /// Starts encoding `text`.
    fn encode(
        &mut self,
        networks: &Networks,
        text: &str,
        is_negative: bool,
    ) -> Result<Encoding, EngineError> {
        let ids = networks.tokenizer.encode(text)?.ids;
        let Some(TextEncoder { executable, embeddings, ring, .. }) = &mut self.encoder else {
            // Looked for here only: an encoder that is loaded is no slower than a disk may be, and frames flow.
            if let Some(embeddings) = self.memory.as_ref().and_then(|memory| memory.find(&ids)) {
                return Ok(Encoding::Known(embeddings));
            }
            self.held.push_back((text.into(), is_negative));
            return Ok(Encoding::Held);
        };
        executable.tensor(plans::IDS)?.write_u32(&ids)?;
        let mut submission = Submission::new(&self.gpu);
        submission.run(executable)?;
        let tag = self.started;
        self.started += 1;
        if !submission.copy(embeddings, ring, tag)? {
            return Err(KernelError::Device { message: "too many texts are being encoded".into() }.into());
        }
        self.waiting.push_back(Waiting { tag, text: text.into(), is_negative, ids });
        Ok(Encoding::Started(submission.submit()?))
    }
    /// The next text that is encoded, in the order in which they were started.
    fn poll(&mut self) -> Result<Option<Encoded>, EngineError> {
        let Some(TextEncoder { embeddings, ring, .. }) = &mut self.encoder else { return Ok(None) };
        if ring.in_flight() == 0 {
            return Ok(None);
        }
        while let Some(read) = ring.poll_into(&mut self.bytes)? {
            // What an error cut off is waited for no more.
            if self.waiting.front().is_none_or(|w| w.tag != read) {
                continue;
            }
            let embeddings = embeddings.values(&self.bytes)?;
            let encoded = self.waiting.pop_front();
            return Ok(encoded.map(|Waiting { text, is_negative, ids, .. }| Encoded {
                text,
                is_negative,
                ids,
                embeddings,
            }));
        }
        Ok(None)
    }
    /// The encoder of other networks, on the same tensors; where there is none, it is loaded when it is due. What is
    /// being encoded is forgotten.
    pub fn replace(&mut self, networks: &Arc<Networks>, executable: Option<Arc<Executable>>) {
        let encoder = self.encoder.take();
        self.encoder = encoder.zip(executable).map(|(encoder, executable)| TextEncoder {
            networks: Arc::clone(networks),
            executable,
            ..encoder
        });
        self.abandon();
    }
    /// The encoder in use, if it is loaded.
    pub fn encoder(&self) -> Option<&Arc<Executable>> {
        self.encoder.as_ref().map(|encoder| &encoder.executable)
    }
    /// Whether the encoder is being loaded.
    pub fn is_loading(&self) -> bool {
        self.is_loading
    }
    /// Forgets what is being encoded.
    pub fn abandon(&mut self) {
        self.waiting.clear();
        self.held.clear();
    }
}

impl Live {
    /// Takes what the text encoder is done with; what is to be kept of it.
    pub(super) fn collect_texts(&mut self) -> Result<(), EngineError> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let Some(Encoded { text, is_negative, ids, embeddings }) = self.texts.poll()? else { return Ok(()) };
        if let Some(memory) = self.texts.memory.clone() {
            let keeper = TextKeeper { memory, ids, embeddings: embeddings.clone() };
            self.text_work.push(TextWork::Keep(keeper));
        }
        stream.encoded(&text, is_negative, embeddings);
        Ok(())
    }
    /// Starts to encode a text that the stream wants.
    pub(super) fn encode(
        &mut self,
        text: &str,
        is_negative: bool,
        work: &mut Vec<Work>,
    ) -> Result<(), EngineError> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        match self.texts.encode(&self.ground.networks, text, is_negative) {
            Ok(Encoding::Started(ticket)) => work.push(Work::Wait(ticket)),
            Ok(Encoding::Known(embeddings)) => stream.encoded(text, is_negative, embeddings),
            Ok(Encoding::Held) => {}
            Err(error @ EngineError::Prompt { .. }) => {
                self.troubles.push_back(error.to_string());
                stream.not_encoded(text, is_negative);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
    /// Goes on with texts that waited for the encoder, and has it loaded where that is due.
    pub(super) fn serve_texts(&mut self, work: &mut Vec<Work>) -> Result<(), EngineError> {
        if self.texts.encoder.is_some() {
            while let Some((text, is_negative)) = self.texts.held.pop_front() {
                self.encode(&text, is_negative, work)?;
            }
        }
        let has_shown = self.stream.as_ref().is_some_and(|stream| stream.counters().shown > 0);
        let is_wanted = !self.texts.held.is_empty() || (has_shown && !self.texts.is_refused);
        if is_wanted && !self.texts.is_loading && self.texts.encoder.is_none() {
            self.texts.is_loading = true;
            let super::Ground { gpu, networks, dtype, .. } = self.ground.clone();
            self.text_work.push(TextWork::Load(TextLoader { gpu, networks, dtype }));
        }
        work.extend(self.text_work.drain(..).map(Work::Text));
        Ok(())
    }
    /// Something was done for prompts, or cannot be: then those that wait for it are given up.
    pub fn hear_text(&mut self, done: TextDone) {
        let Some(loaded) = done.0 else { return };
        if !std::mem::take(&mut self.texts.is_loading) {
            // It was loaded for another stream, whose device may be lost.
            return;
        }
        self.texts.is_refused = loaded.is_err();
        match loaded {
            // LoRAs may have got other weights meanwhile: then it is loaded anew.
            Ok(encoder) => {
                let is_current = encoder.networks.text.is_like(&self.ground.networks.text);
                self.texts.encoder = is_current.then_some(encoder);
            }
            Err(error) => {
                self.troubles.push_back(format!("text encoder: {error}"));
                let held = std::mem::take(&mut self.texts.held);
                let Some(stream) = &mut self.stream else { return };
                held.iter().for_each(|(text, is_negative)| stream.not_encoded(text, *is_negative));
            }
        }
    }
}
