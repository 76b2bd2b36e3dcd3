//! A stream with a virtual clock, and what is pushed into it.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use dreamglass_engine::live::{Builder, LiveOutput, Reweigher, Work};
use dreamglass_engine::stream::Frame;
use dreamglass_engine::{Engine, EngineOptions, Live, Params, Picture, Size};
use dreamglass_kernels::DType;
use dreamglass_kernels::gpu::{Gpu, GpuOptions};

use crate::case::Case;

/// A LCM model that predicts noise, with two UNet levels.
pub const LCM: &str = "img2img_lcm_guided";
/// A LCM model that predicts velocity.
pub const VELOCITY: &str = "img2img_lcm_velocity";
/// An Euler model.
pub const EULER: &str = "img2img_euler_guided";

/// Longest that the device may take for what one frame starts, compilation included: far past what
/// a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(120);

/// The default adapter. Tests share it, and with it the kernels that are compiled.
pub fn gpu() -> Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(own_gpu).clone()
}

/// The default adapter with counters of its own.
pub fn own_gpu() -> Gpu {
    Gpu::open(&GpuOptions::default()).unwrap()
}

/// A golden's model in f32.
pub fn engine(gpu: &Gpu, name: &str) -> Engine {
    let options = EngineOptions { dtype: DType::F32, ..Default::default() };
    Engine::load(gpu, &Case::open(name).files(), &options).unwrap()
}

/// Parameters of small pictures.
pub fn params(size: Size) -> Params {
    Params {
        prompt: "a watercolour harbour".into(),
        negative: "grey photograph".into(),
        size: Some(size),
        steps: Some(1),
        strength: Some(0.7),
        seed: 3,
        ..Params::default()
    }
}

/// The same with that many steps at that strength.
pub fn params_of_steps(size: Size, steps: u32, strength: f64) -> Params {
    Params { steps: Some(steps), strength: Some(strength), ..params(size) }
}

/// Frame `at` of a moving clip: waves that travel, so that every frame differs from the others.
pub fn moving(size: Size, at: u64) -> Picture {
    let phase = at as f64 * 0.7;
    let byte = |wave: f64| (127.5 + 120.0 * wave.sin()).round() as u8;
    let pixel = |i: u32| {
        let (x, y) = (f64::from(i % size.width), f64::from(i / size.width));
        [byte(0.31 * x + phase), byte(0.23 * y - phase), byte(0.17 * (x + y) + 2.0 * phase), 255]
    };
    Picture::new(size, (0..size.width * size.height).flat_map(pixel).collect()).unwrap()
}

/// A picture's colours in [−1, 1].
pub fn colours(picture: &Picture) -> Vec<f32> {
    let colour = |&byte: &u8| (f64::from(byte) / 127.5 - 1.0) as f32;
    picture.rgba().chunks_exact(4).flat_map(|p| p[..3].iter().map(colour)).collect()
}

/// `‖a − b‖ / ‖b‖`; infinite when lengths differ or a value is not finite.
pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    if a.len() != b.len() || a.iter().chain(b).any(|v| !v.is_finite()) {
        return f64::INFINITY;
    }
    let square: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    (square / b.iter().map(|b| b * b).sum::<f64>()).sqrt()
}

pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// A stream and its owner.
pub struct World {
    pub live: Live,
    pub now: Duration,
    pub shown: Vec<LiveOutput>,
    pub troubles: Vec<String>,
    /// Whether plans stay unmade until [`World::build`].
    pub holds_builds: bool,
    held: Vec<Builder>,
    held_reweigher: Option<Reweigher>,
    frames: u64,
}

impl World {
    pub fn new(engine: &Engine, params: Params) -> Self {
        let mut live = Live::new(engine, params).unwrap();
        live.set_read_back(true);
        Self {
            live,
            now: Duration::ZERO,
            shown: Vec::new(),
            troubles: Vec::new(),
            holds_builds: false,
            held: Vec::new(),
            held_reweigher: None,
            frames: 0,
        }
    }
    /// Changes parameters that go together.
    pub fn set(&mut self, change: impl FnOnce(&mut Params)) {
        let mut params = self.live.params().clone();
        change(&mut params);
        self.live.set(params).unwrap();
    }
    /// Pushes a frame and returns its number.
    pub fn push(&mut self, picture: Picture) -> u64 {
        let id = self.frames;
        self.frames += 1;
        self.live.push(Frame { id, captured_at: self.now, picture }).unwrap();
        id
    }
    /// Looks once at what the device did.
    pub fn turn(&mut self) {
        self.now += Duration::from_millis(1);
        for work in self.live.drive(self.now).unwrap() {
            match work {
                Work::Build(builder) => self.held.push(builder),
                Work::Reweigh(reweigher) => self.held_reweigher = Some(reweigher),
                Work::Text(text) => self.live.hear_text(text.run()),
                Work::Wait(_) => {}
            }
        }
        if !self.holds_builds {
            self.build();
        }
        self.shown.extend(std::iter::from_fn(|| self.live.next_output()));
        self.troubles.extend(std::iter::from_fn(|| self.live.next_trouble()));
    }
    /// Makes the plans and fuses the LoRAs that the stream waits for.
    pub fn build(&mut self) {
        if let Some(reweigher) = self.held_reweigher.take() {
            self.live.reweigh(reweigher.fuse());
        }
        for builder in std::mem::take(&mut self.held) {
            let layout = builder.layout();
            self.live.install(layout, builder.build());
        }
    }
    /// Turns until `is_done`.
    pub fn until(&mut self, what: &str, is_done: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !is_done(self) {
            self.turn();
            assert!(began.elapsed() < PATIENCE, "{what}: {:?}, {:?}", self.live.status(), self.troubles);
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    /// Whether every frame that was pushed is through, or waits in the batch for others.
    pub fn is_idle(&self) -> bool {
        let status = self.live.status();
        let counters = status.counters;
        let taken = counters.dropped + counters.processed + counters.skipped;
        // A frame that an error cut off while it was measured was never processed.
        let gone = counters.dropped + counters.skipped + counters.shown + counters.flushed + counters.failed;
        let is_running = status.layout.is_none_or(|layout| status.lag + 1 > layout.slots());
        let waits_for_plans = status.is_preparing && !self.holds_builds;
        !is_running && !waits_for_plans && [taken, gone].contains(&counters.received)
    }
    /// Pushes a frame and turns until its job is done; what came out since.
    pub fn show(&mut self, picture: Picture) -> Vec<LiveOutput> {
        let before = self.shown.len();
        self.push(picture);
        // Plans that a change asked for are only known to be wanted after a turn.
        self.turn();
        self.until("a frame", Self::is_idle);
        self.shown[before..].to_vec()
    }
    /// The last job's clean latents.
    pub fn latents(&self) -> Vec<f64> {
        wide(&self.live.read_latents().unwrap())
    }
}

/// The picture of the only output.
pub fn only(shown: &[LiveOutput]) -> Picture {
    let [output] = shown else { panic!("{} outputs instead of one", shown.len()) };
    output.picture.as_deref().unwrap().clone()
}
