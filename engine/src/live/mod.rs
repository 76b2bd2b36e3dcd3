//! A stream on a device: [`Stream`]'s commands done with plans, read-backs and tickets.
//!
//! [`Live`] has no thread and no clock. Its owner pushes frames, calls [`Live::drive`] whenever
//! something may have happened, does the [`Work`] that comes back beside it, and takes
//! [`LiveOutput`]s. A frame costs writes of what changed, one submission and no wait; it allocates
//! no buffer and compiles nothing.

mod reads;
mod reweighing;
mod setup;
mod stages;
mod text;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use dreamglass_kernels::exec::{Executable, GpuTensor};
use dreamglass_kernels::gpu::Gpu;
use dreamglass_kernels::profile::{Detail, Profiler};
use dreamglass_kernels::readback::ReadbackRing;
use dreamglass_kernels::submit::{Submission, SubmissionTicket};
use dreamglass_kernels::{KernelError, Plan};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::family::{Defaults, Family};
use crate::frame::{Picture, Size};
use crate::params::Params;
use crate::planes::Planes;
use crate::plans::{self, live as names};
use crate::stream::{self, Command, Counters, Frame, Job, Layout, Output, Shown, Stream};
use crate::weights::LoraFile;
use reads::Reads;
use reweighing::Reweighing;
pub use reweighing::{Reweighed, Reweigher};
pub use setup::MAX_LIVE_STEPS;
pub(crate) use stages::DISPLAYS;
use stages::Ground;
pub use stages::{Builder, Stages};
use text::Texts;
pub use text::{TextDone, TextWork};

/// Short side of results where neither the parameters nor the model say one.
const DEFAULT_SIDE: u32 = 512;

/// What the owner of a [`Live`] does beside it.
pub enum Work {
    /// Make plans on another thread, then [`Live::install`].
    Build(Builder),
    /// Fuse LoRAs on another thread, then [`Live::reweigh`].
    Reweigh(Reweigher),
    /// Do what prompts need on another thread, then [`Live::hear_text`].
    Text(TextWork),
    /// Wait for the device on another thread, then [`Live::drive`].
    Wait(SubmissionTicket),
}

/// A picture to show.
#[derive(Debug, Clone)]
pub struct LiveOutput {
    /// Which frame's, and when.
    pub output: Output,
    /// Size of the picture on show.
    pub size: Size,
    /// The picture on the device: RGBA8 words `[1,H,W,1]`, overwritten three pictures later. None
    /// where the last one is shown again.
    pub pixels: Option<GpuTensor>,
    /// The picture on the host, where it is read back.
    pub picture: Option<Arc<Picture>>,
    /// The picture for a video encoder, where planes are read back.
    pub planes: Option<Arc<Planes>>,
}

/// Where the stream stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Status {
    /// What became of the frames.
    pub counters: Counters,
    /// Whether plans are being made, LoRAs fused, or the text encoder loaded.
    pub is_preparing: bool,
    /// Plans in use; none before the first are there.
    pub layout: Option<Layout>,
    /// Frames by which outputs lag.
    pub lag: usize,
    /// How long a job takes.
    pub job_length: Option<Duration>,
    /// Whether no frame waits or is under way.
    pub is_idle: bool,
}

struct Running {
    job: u64,
    ticket: SubmissionTicket,
    size: Size,
    pixels: Option<GpuTensor>,
    is_read_back: [bool; 2],
}

/// A frame that is uploaded and compared.
struct Measuring {
    frame: u64,
    ticket: SubmissionTicket,
}

/// A stream of one model on one device.
pub struct Live {
    ground: Ground,
    params: Params,
    source: Option<Size>,
    family: Family,
    objections: Vec<String>,
    /// The model's LoRAs as it was loaded, and the weights that the parameters give them.
    loras: Vec<LoraFile>,
    lora_weights: Vec<f32>,
    reweighing: Reweighing,
    side: u32,
    texts: Texts,
    text_work: Vec<TextWork>,
    stream: Option<Stream<Picture>>,
    stages: Option<Stages>,
    arrive: Option<(names::Arrival, Executable)>,
    similarity: ReadbackRing,
    measuring: Option<Measuring>,
    running: VecDeque<Running>,
    pictures: Reads,
    planes: Reads,
    profiler: Option<(Profiler, Detail)>,
    outputs: VecDeque<LiveOutput>,
    troubles: VecDeque<String>,
}

impl Live {
    /// A stream of the engine's model. Nothing is compiled before the size of the result is known:
    /// from the parameters or the first frame.
    ///
    /// # Errors
    /// [`EngineError`] of the parameters; [`EngineError::Kernel`] of the device.
    pub fn new(engine: &Engine, params: Params) -> Result<Self, EngineError> {
        let (gpu, dtype) = (engine.gpu.clone(), engine.dtype);
        let lora_weights = reweighing::weights(&params, &engine.networks.loras)?;
        let networks = engine.networks.with_lora_weights(&lora_weights);
        let texts = Texts::new(&gpu, &networks, dtype, engine.memory.clone());
        let [prompt, negative] = ["", plans::NEGATIVE].map(|prefix| texts.prompt(&networks, prefix));
        let ground =
            Ground { prompt: Arc::new(prompt?), negative: Arc::new(negative?), gpu, networks, dtype };
        let similarity = ReadbackRing::new(&ground.gpu, 16, 2)?;
        let mut live = Self {
            ground,
            source: None,
            family: engine.family(),
            objections: Vec::new(),
            loras: engine.networks.loras.clone(),
            lora_weights,
            reweighing: Reweighing::Idle,
            side: engine.native_side().unwrap_or(DEFAULT_SIDE),
            params: params.clone(),
            texts,
            text_work: Vec::new(),
            stream: None,
            stages: None,
            arrive: None,
            similarity,
            measuring: None,
            running: VecDeque::new(),
            pictures: Reads::default(),
            planes: Reads::default(),
            profiler: None,
            outputs: VecDeque::new(),
            troubles: VecDeque::new(),
        };
        live.set(params)?;
        Ok(live)
    }
    /// The parameters in effect, or on their way to it.
    pub fn params(&self) -> &Params {
        &self.params
    }
    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.ground.gpu
    }
    /// Sets all parameters. What needs other plans takes effect when they are made; on an error
    /// nothing changes.
    ///
    /// # Errors
    /// [`EngineError::Parameter`] for a value out of range; [`EngineError::Frame`],
    /// [`EngineError::Schedule`] for values that do not go together.
    pub fn set(&mut self, params: Params) -> Result<(), EngineError> {
        params.check()?;
        let lora_weights = reweighing::weights(&params, &self.loras)?;
        let Some(size) = self.result_size(&params) else {
            // Checked with a size that always fits.
            self.setup(&params, Size::new(self.side, self.side).natural(self.side, self.factor()))?;
            (self.params, self.lora_weights) = (params, lora_weights);
            return Ok(());
        };
        let setup = self.setup(&params, size)?;
        match &mut self.stream {
            Some(stream) => {
                stream.set(setup);
                stream.set_prompts(setup::prompts(&params), &params.negative);
            }
            None => self.stream = Some(Stream::new(setup, setup::prompts(&params), &params.negative)),
        }
        (self.params, self.lora_weights) = (params, lora_weights);
        self.object(size);
        Ok(())
    }
    /// What is used where the parameters say nothing.
    fn defaults(&self) -> Defaults {
        let defaults = self.family.defaults();
        Defaults { steps: defaults.steps.min(MAX_LIVE_STEPS as u32), ..defaults }
    }
    /// Tells what of the parameters does not go with the model, once.
    fn object(&mut self, size: Size) {
        let objections = self.family.objections(&self.params.settings(size, self.defaults()));
        let new = objections.iter().filter(|text| !self.objections.contains(text));
        self.troubles.extend(new.cloned());
        self.objections = objections;
    }
    /// Whether pictures are read back to the host, for sinks that are not on the device.
    pub fn set_read_back(&mut self, reads_back: bool) {
        self.pictures.wanted = reads_back;
    }
    /// Whether pictures are converted and read back as [`Planes`], for video encoders. There are none for
    /// sizes that the conversion does not take: widths that are no multiple of 8, odd heights.
    pub fn set_planes(&mut self, wanted: bool) {
        self.planes.wanted = wanted;
    }
    /// Whether other streams use the device, too: each then has one job on the queue, so that they take
    /// turns and none waits for two of another.
    pub fn set_shared(&mut self, is_shared: bool) {
        if let Some(stream) = &mut self.stream {
            stream.set_in_flight(if is_shared { 1 } else { stream::IN_FLIGHT });
        }
    }
    /// Measures the device's time of every job and comparison from now on, or none any more. Gives
    /// back what measured until now.
    pub fn set_profiler(&mut self, profiler: Option<(Profiler, Detail)>) -> Option<(Profiler, Detail)> {
        std::mem::replace(&mut self.profiler, profiler)
    }
    /// The profiler that was set.
    pub fn profiler(&mut self) -> Option<&mut Profiler> {
        self.profiler.as_mut().map(|(profiler, _)| profiler)
    }
    /// A frame came.
    ///
    /// # Errors
    /// [`EngineError::Frame`] when the parameters do not fit its size.
    pub fn push(&mut self, frame: Frame<Picture>) -> Result<(), EngineError> {
        let size = frame.picture.size();
        setup::check_source(size)?;
        if self.source != Some(size) {
            self.source = Some(size);
            self.set(self.params.clone())?;
        }
        if let Some(stream) = &mut self.stream {
            stream.push(frame);
        }
        Ok(())
    }
    /// Looks what is done at `now` and starts nothing: for an owner that shows what is done before the
    /// device gets more to do.
    ///
    /// # Errors
    /// As [`Live::drive`].
    pub fn look(&mut self, now: Duration) -> Result<(), EngineError> {
        match self.collect(now) {
            Ok(()) => Ok(()),
            Err(error) => self.fail(error, now),
        }
    }
    /// Looks what is done at `now` and starts what can be started. Never waits.
    ///
    /// # Errors
    /// [`EngineError::Kernel`] with [`KernelError::DeviceLost`]; lesser trouble is told by
    /// [`Live::next_trouble`], and the stream goes on.
    pub fn drive(&mut self, now: Duration) -> Result<Vec<Work>, EngineError> {
        let mut work = Vec::new();
        if let Err(error) = self.collect(now).and_then(|()| self.serve(now, &mut work)) {
            self.fail(error, now)?;
        }
        if let Some(stream) = &mut self.stream {
            while let Some(output) = stream.next_output() {
                let Output { shown: Shown::Again, .. } = output else { continue };
                let size = stream.active().map_or(Size::new(0, 0), |a| a.layout.size);
                self.outputs.push_back(LiveOutput {
                    output,
                    size,
                    pixels: None,
                    picture: None,
                    planes: None,
                });
            }
        }
        Ok(work)
    }
    /// Plans are made, or cannot be.
    pub fn install(&mut self, layout: Layout, stages: Result<Stages, EngineError>) {
        let Some(stream) = &mut self.stream else { return };
        match stages {
            Ok(stages) => {
                stream.prepared(layout);
                // What is not wanted any more is dropped here.
                if stream.active().is_some_and(|a| a.layout == layout) {
                    self.stages = Some(stages);
                    self.arrive = None;
                    self.measuring = None;
                }
            }
            Err(error) => {
                let Size { width, height } = layout.size;
                self.troubles.push_back(format!("{width}x{height}, {} steps: {error}", layout.rows));
                stream.not_prepared(layout);
            }
        }
    }
    /// What a frame runs in the plans that are in use: for tuning. None before the first are made.
    pub fn plans(&self) -> impl Iterator<Item = &Plan> {
        let stages = self.stages.iter();
        stages
            .flat_map(|stages| [&stages.encode, &*stages.weighed.steps, &stages.decode])
            .map(Executable::plan)
    }
    /// When [`Live::drive`] has something to do though nothing happens.
    pub fn wake_at(&self) -> Option<Duration> {
        self.stream.as_ref().and_then(Stream::wake_at)
    }
    /// The next picture to show.
    pub fn next_output(&mut self) -> Option<LiveOutput> {
        self.outputs.pop_front()
    }
    /// What went wrong without ending the stream.
    pub fn next_trouble(&mut self) -> Option<String> {
        self.troubles.pop_front()
    }
    /// Where the stream stands.
    pub fn status(&self) -> Status {
        let stream = self.stream.as_ref();
        Status {
            counters: stream.map_or_else(Counters::default, Stream::counters),
            is_preparing: stream.is_none_or(Stream::is_preparing)
                || self.reweighing.is_making()
                || self.texts.is_loading(),
            layout: stream.and_then(Stream::active).map(|a| a.layout),
            lag: stream.map_or(0, Stream::lag),
            job_length: stream.and_then(Stream::job_length),
            is_idle: stream.is_none_or(Stream::is_idle),
        }
    }
    /// The clean latents of the last job `[1,h,w,C]`, waiting for the device; for comparing with
    /// other implementations.
    ///
    /// # Errors
    /// [`EngineError::Kernel`]; [`EngineError::Frame`] before the first plans are made.
    pub fn read_latents(&self) -> Result<Vec<f32>, EngineError> {
        let stages = self.stages()?;
        let rows = stages.weighed.steps.tensor(plans::NEXT)?.read_f32()?;
        let row = rows.len() / stages.layout.slots();
        Ok(rows[rows.len() - row..].to_vec())
    }

    fn factor(&self) -> u32 {
        self.ground.networks.vae.config.factor()
    }
    /// Size of the result: what the parameters say, else the shape of the turned source.
    fn result_size(&self, params: &Params) -> Option<Size> {
        params.size.or_else(|| {
            let source = self.turned(params, self.source?);
            Some(source.natural(self.side, self.factor()))
        })
    }
    fn turned(&self, params: &Params, source: Size) -> Size {
        if params.is_on_side() { source.turned() } else { source }
    }
    fn setup(&self, params: &Params, size: Size) -> Result<crate::stream::Setup, EngineError> {
        let networks = &self.ground.networks;
        let model = setup::Model {
            scheduler: &networks.scheduler,
            unet: &networks.unet.config,
            scaling_factor: networks.vae.config.scaling_factor,
            defaults: self.defaults(),
            factor: self.factor(),
        };
        setup::setup(params, size, &model)
    }
    fn stages(&self) -> Result<&Stages, EngineError> {
        self.stages.as_ref().ok_or_else(|| crate::frame::error("no plans are made yet"))
    }

    /// Takes what the device is done with.
    fn collect(&mut self, now: Duration) -> Result<(), EngineError> {
        self.collect_texts()?;
        let Some(stream) = &mut self.stream else { return Ok(()) };
        if let Some(Measuring { frame, ticket }) = &self.measuring
            && ticket.is_done()?
        {
            let frame = *frame;
            let read = |tag: u64, bytes: &[u8]| (tag, bytemuck::pod_read_unaligned::<f32>(&bytes[..4]));
            let mut similarity = 0.0;
            // Those of frames that new plans or an error cut off may still come first.
            while let Some((tag, value)) = self.similarity.poll_with(read)? {
                if tag == frame {
                    similarity = f64::from(value);
                }
            }
            self.measuring = None;
            stream.measured(frame, similarity);
        }
        while let Some(running) = self.running.front() {
            if !running.ticket.is_done()? {
                break;
            }
            let Some(running) = self.running.pop_front() else { break };
            self.finish(running, now)?;
        }
        Ok(())
    }
    fn finish(&mut self, running: Running, now: Duration) -> Result<(), EngineError> {
        let Running { job, size, pixels, is_read_back: [has_picture, has_planes], .. } = running;
        let picture = if has_picture { self.pictures.take(job)? } else { None };
        let picture = picture.map(|bytes| Picture::new(size, bytes)).transpose()?.map(Arc::new);
        let planes = if has_planes { self.planes.take(job)? } else { None };
        let planes = planes.map(|bytes| Planes::new(size, bytes)).transpose()?.map(Arc::new);
        let Some(stream) = &mut self.stream else { return Ok(()) };
        stream.finished(job, now);
        while let Some(output) = stream.next_output() {
            let mut shown = LiveOutput { output, size, pixels: None, picture: None, planes: None };
            if output.shown == Shown::Job(job) {
                (shown.pixels, shown.picture, shown.planes) =
                    (pixels.clone(), picture.clone(), planes.clone());
            }
            self.outputs.push_back(shown);
        }
        Ok(())
    }
    /// Does what the stream wants.
    fn serve(&mut self, now: Duration, work: &mut Vec<Work>) -> Result<(), EngineError> {
        while let Some(command) = self.stream.as_mut().and_then(|s| s.poll(now)) {
            match command {
                Command::Prepare(layout) => {
                    work.push(Work::Build(Builder { ground: self.ground.clone(), layout }));
                }
                Command::Encode { text, is_negative } => self.encode(&text, is_negative, work)?,
                Command::Measure(frame) => self.measure(&frame, work)?,
                Command::Run(job) => self.run(job, work)?,
            }
        }
        work.extend(self.reweigher().map(Work::Reweigh));
        self.serve_texts(work)
    }
    fn measure(&mut self, frame: &Frame<Picture>, work: &mut Vec<Work>) -> Result<(), EngineError> {
        self.upload(&frame.picture)?;
        let mut submission = Submission::new(&self.ground.gpu);
        let (Some(stages), Some((_, arrive))) = (&self.stages, &self.arrive) else { return Ok(()) };
        if let Some((profiler, detail)) = &mut self.profiler {
            submission.profile(profiler, *detail)?;
        }
        submission.stage("resize");
        submission.run(arrive)?;
        submission.stage("compare");
        submission.run(&stages.compare)?;
        submission.copy(&stages.compare.tensor(names::SIMILARITY)?, &mut self.similarity, frame.id)?;
        let ticket = submission.submit()?;
        work.push(Work::Wait(ticket.clone()));
        self.measuring = Some(Measuring { frame: frame.id, ticket });
        Ok(())
    }
    /// Writes a source picture, and brings the plan that resizes it up to date.
    fn upload(&mut self, picture: &Picture) -> Result<(), EngineError> {
        let Some(stages) = &self.stages else { return Ok(()) };
        let source = picture.size();
        let size = stages.layout.size;
        let orientation = self.params.orientation();
        let target = if orientation.is_on_side() { size.turned() } else { size };
        let region = self.params.fit.region(source, target);
        let arrival = names::Arrival { source, region, orientation, size };
        if self.arrive.as_ref().is_none_or(|(known, _)| *known != arrival) {
            self.arrive = None;
            let Ground { gpu, networks, .. } = &self.ground;
            let plan = names::arrive(gpu.target(), arrival)?;
            self.arrive = Some((arrival, networks.vae.prepare(gpu, plan, &[&stages.encode])?));
        }
        if let Some((_, arrive)) = &self.arrive {
            arrive.tensor(plans::PIXELS)?.write_words(picture.rgba())?;
        }
        Ok(())
    }
    fn run(&mut self, job: Job<Picture>, work: &mut Vec<Work>) -> Result<(), EngineError> {
        if let Some(frame) = &job.frame {
            self.upload(&frame.picture)?;
        }
        let pixels = u64::from(job.layout.size.width) * u64::from(job.layout.size.height);
        self.pictures.prepare(&self.ground.gpu, pixels * 4)?;
        self.planes.prepare(&self.ground.gpu, pixels * 3 / 2)?;
        let Self { ground, stages: Some(stages), arrive: Some((_, arrive)), .. } = self else {
            return Err(crate::frame::error("a job came before its plans"));
        };
        let mut submission = Submission::new(&ground.gpu);
        if let Some((profiler, detail)) = &mut self.profiler {
            submission.profile(profiler, *detail)?;
        }
        stages.write(&job)?;
        condition(&mut submission, ground, stages, &job)?;
        // As the stream compares frames now: the parameters may wait for their plans.
        let is_filtered = self.stream.as_ref().and_then(Stream::active).is_some_and(|a| a.filter.is_some());
        let mut stage = |name: &str, executable: &Executable| {
            submission.stage(name);
            submission.run(executable)
        };
        if job.frame.is_some() {
            stage("resize", arrive)?;
        }
        if is_filtered {
            stage("remember", &stages.remember)?;
        }
        stage("encode", &stages.encode)?;
        stage("denoise", &stages.weighed.steps)?;
        let mut pixels = None;
        let mut is_read_back = [false; 2];
        if job.shows.is_some() {
            let display = (job.id % DISPLAYS as u64) as usize;
            let show = &stages.shows[display];
            stage("decode", &stages.decode)?;
            stage("show", show)?;
            let planes = stages.planes.get(display).filter(|_| self.planes.wanted);
            if let Some(planes) = planes {
                stage("planes", planes)?;
                is_read_back[1] =
                    self.planes.copy(&mut submission, &planes.tensor(names::PLANES)?, job.id)?;
            }
            let tensor = show.tensor(plans::PIXELS)?;
            is_read_back[0] = self.pictures.copy(&mut submission, &tensor, job.id)?;
            pixels = Some(tensor);
        }
        let ticket = submission.submit()?;
        work.push(Work::Wait(ticket.clone()));
        self.running.push_back(Running { job: job.id, ticket, size: job.layout.size, pixels, is_read_back });
        Ok(())
    }
    /// Everything in flight is lost; the stream goes on unless the device is.
    fn fail(&mut self, error: EngineError, now: Duration) -> Result<(), EngineError> {
        if matches!(error, EngineError::Kernel(KernelError::DeviceLost { .. })) {
            return Err(error);
        }
        self.troubles.push_back(error.to_string());
        self.measuring = None;
        self.running.clear();
        self.texts.abandon();
        if let Some(stream) = &mut self.stream {
            stream.abandon(now);
        }
        Ok(())
    }
}

/// Records what a new prompt or new times need before the frame.
fn condition(
    submission: &mut Submission,
    ground: &Ground,
    stages: &Stages,
    job: &Job<Picture>,
) -> Result<(), EngineError> {
    for (embeddings, prompt) in [(&job.prompt, &ground.prompt), (&job.negative, &ground.negative)] {
        if let Some(embeddings) = embeddings {
            prompt.tensor(plans::TEXT_EMBEDDINGS)?.write_f32(embeddings)?;
            submission.stage("prompt");
            submission.run(prompt)?;
        }
    }
    if job.tables.is_some() {
        submission.stage("time");
        stages.times().try_for_each(|time| submission.run(time))?;
    }
    Ok(())
}
