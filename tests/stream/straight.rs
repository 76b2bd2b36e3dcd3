//! What a stream computes, written straight down in f64: algorithms.md, sections 1 to 7 and 9.
//!
//! Only the networks and the choice of timesteps are the engine's.

use dreamglass_engine::params::GuidanceMode;
use dreamglass_engine::stream::noise::gaussian;
use dreamglass_engine::{Engine, Params, Picture, Sampler, Size, UnetInputs};

use crate::world::{colours, wide};

/// One row of a UNet call.
struct Row<'a> {
    x: &'a [f64],
    step: usize,
    is_negative: bool,
}

/// A stream without frames, batches or devices.
pub struct Straight<'a> {
    engine: &'a Engine,
    size: Size,
    is_euler: bool,
    is_velocity: bool,
    mode: GuidanceMode,
    g: f64,
    delta: f64,
    feedback: f64,
    timesteps: Vec<f64>,
    /// α, β of each step.
    alpha: Vec<f64>,
    beta: Vec<f64>,
    /// Row k is added before step k.
    noise: Vec<Vec<f64>>,
    prompt: Vec<f32>,
    negative: Vec<f32>,
}

/// `√ᾱ_t` and `√(1 − ᾱ_t)`.
fn alpha_beta(t: f64) -> (f64, f64) {
    let (low, high) = (0.00085f64.sqrt(), 0.012f64.sqrt());
    let mut product = 1.0;
    for i in 0..=t as u32 {
        let b = (low + f64::from(i) * (high - low) / 999.0).powi(2);
        product *= 1.0 - b;
    }
    (product.sqrt(), (1.0 - product).sqrt())
}

impl<'a> Straight<'a> {
    pub fn new(engine: &'a Engine, params: &Params, is_velocity: bool) -> Self {
        let size = params.size.unwrap();
        let settings = params.settings(size, engine.family().defaults());
        let timesteps = engine.schedule(&settings).unwrap().timesteps();
        let (alpha, beta): (Vec<_>, Vec<_>) = timesteps.iter().map(|&t| alpha_beta(t)).unzip();
        let values = (size.width / 8 * size.height / 8 * 4) as usize;
        let noise = (0..timesteps.len() as u64).map(|k| wide(&gaussian(params.seed, k, values))).collect();
        let embed = |text: &str| engine.text_encode(&engine.tokenize(text).unwrap().ids, 1).unwrap();
        Self {
            engine,
            size,
            is_euler: settings.sampler == Sampler::Euler,
            is_velocity,
            mode: params.guidance_mode,
            g: params.guidance.unwrap_or(1.0),
            delta: params.guidance_delta,
            feedback: params.feedback,
            timesteps,
            alpha,
            beta,
            noise,
            prompt: embed(&params.prompt),
            negative: embed(&params.negative),
        }
    }
    /// Clean latents z of every picture.
    pub fn encode(&self, pictures: &[Picture]) -> Vec<Vec<f64>> {
        let all: Vec<f32> = pictures.iter().flat_map(colours).collect();
        let size = [pictures.len() as u32, self.size.height, self.size.width];
        let latents = wide(&self.engine.vae_encode(&all, size).unwrap());
        let scaled: Vec<f64> = latents.iter().map(|v| v * self.engine.scaling_factor()).collect();
        scaled.chunks_exact(scaled.len() / pictures.len()).map(<[f64]>::to_vec).collect()
    }
    /// The picture of clean latents, in about [−1, 1].
    pub fn decode(&self, latents: &[f64]) -> Vec<f64> {
        let scaled: Vec<f32> = latents.iter().map(|v| (v / self.engine.scaling_factor()) as f32).collect();
        let size = [1, self.size.height / 8, self.size.width / 8];
        wide(&self.engine.vae_decode(&scaled, size).unwrap())
    }
    fn sigma(&self, step: usize) -> f64 {
        self.beta[step] / self.alpha[step]
    }
    fn steps(&self) -> usize {
        self.timesteps.len()
    }

    /// ε of every row, in one call of the network.
    fn epsilon(&self, rows: &[Row<'_>]) -> Vec<Vec<f64>> {
        let mut sample = Vec::new();
        let mut timesteps = Vec::new();
        let mut texts = Vec::new();
        for row in rows {
            let sigma = self.sigma(row.step);
            let input = if self.is_euler { 1.0 / (sigma * sigma + 1.0).sqrt() } else { 1.0 };
            sample.extend(row.x.iter().map(|x| (x * input) as f32));
            timesteps.push(self.timesteps[row.step] as f32);
            texts.extend_from_slice(if row.is_negative { &self.negative } else { &self.prompt });
        }
        let size = [rows.len() as u32, self.size.height / 8, self.size.width / 8];
        let (sample, timesteps, text_embeddings) = (&sample, &timesteps, &texts);
        let inputs = UnetInputs { size, sample, timesteps, text_embeddings, guidance: None };
        let output = wide(&self.engine.unet(inputs).unwrap());
        let outputs = output.chunks_exact(output.len() / rows.len()).zip(rows);
        outputs.map(|(m, row)| self.as_noise(m, row)).collect()
    }
    /// The noise that output m of a row stands for: itself, or that of a velocity.
    fn as_noise(&self, m: &[f64], row: &Row<'_>) -> Vec<f64> {
        if !self.is_velocity {
            return m.to_vec();
        }
        let (a, b) = (self.alpha[row.step], self.beta[row.step]);
        row.x.iter().zip(m).map(|(x, v)| b * x + a * v).collect()
    }
    /// The first sample of a source.
    fn start(&self, z: &[f64]) -> Vec<f64> {
        let (a, b) = if self.is_euler { (1.0, self.sigma(0)) } else { (self.alpha[0], self.beta[0]) };
        z.iter().zip(&self.noise[0]).map(|(z, n)| a * z + b * n).collect()
    }
    /// x and s of the next step; after the last one, the clean latents and no s.
    fn advance(&self, i: usize, x: &[f64], s: &[f64], c: &[f64], u: Option<&[f64]>) -> [Vec<f64>; 2] {
        let is_last = i + 1 == self.steps();
        let mut next = Vec::new();
        let mut next_s = Vec::new();
        for j in 0..x.len() {
            let unguided = match self.mode {
                GuidanceMode::None => c[j],
                GuidanceMode::Full => u.unwrap()[j],
                GuidanceMode::SelfNegative | GuidanceMode::Initialize => self.delta * s[j],
            };
            let epsilon = unguided + self.g * (c[j] - unguided);
            let noise = if is_last { 0.0 } else { self.noise[i + 1][j] };
            let (to, of_s) = if self.is_euler {
                self.euler(i, x[j], s[j], epsilon)
            } else {
                self.lcm(i, x[j], s[j], epsilon, noise)
            };
            next.push(to);
            next_s.push(of_s);
        }
        [next, next_s]
    }
    fn lcm(&self, i: usize, x: f64, s: f64, epsilon: f64, noise: f64) -> (f64, f64) {
        let (a, b) = (self.alpha[i], self.beta[i]);
        let tau = 10.0 * self.timesteps[i];
        let c_skip = 0.25 / (tau * tau + 0.25);
        let c_out = tau / (tau * tau + 0.25).sqrt();
        let x0 = (x - b * epsilon) / a;
        let d = c_out * x0 + c_skip * x;
        if i + 1 == self.steps() {
            return (d, 0.0);
        }
        let (a_next, b_next) = (self.alpha[i + 1], self.beta[i + 1]);
        (a_next * d + b_next * noise, noise + (a_next / b_next) * (b / a) * (s - epsilon))
    }
    fn euler(&self, i: usize, x: f64, s: f64, epsilon: f64) -> (f64, f64) {
        let sigma = self.sigma(i);
        if i + 1 == self.steps() {
            return (x - sigma * epsilon, 0.0);
        }
        let next_sigma = self.sigma(i + 1);
        let next = x + (next_sigma - sigma) * epsilon;
        // s = (x − z)/σ, for the z that s was made from.
        let z = x - sigma * s;
        (next, (next - z) / next_sigma)
    }

    /// The clean latents of each job of a stream batch that begins empty: those before the batch is
    /// full stand for no frame.
    pub fn batch(&self, frames: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let n = self.steps();
        let mut x = vec![vec![0.0; frames[0].len()]; n];
        let mut s = x.clone();
        let mut outputs: Vec<Vec<f64>> = Vec::new();
        for (job, z) in frames.iter().enumerate() {
            let last = outputs.last().filter(|_| job >= n);
            x[0] = self.start(&self.fed_back(z, last));
            s[0].clone_from(&self.noise[0]);
            let row = |step: usize, is_negative| Row { x: &x[step], step, is_negative };
            let mut rows: Vec<_> = (0..n).map(|k| row(k, false)).collect();
            match self.mode {
                GuidanceMode::Full => rows.extend((0..n).map(|k| row(k, true))),
                GuidanceMode::Initialize => rows.push(row(0, true)),
                GuidanceMode::None | GuidanceMode::SelfNegative => {}
            }
            let epsilon = self.epsilon(&rows);
            if self.mode == GuidanceMode::Initialize {
                s[0].clone_from(&epsilon[n]);
            }
            let negative = |k| epsilon.get(n + k).map(Vec::as_slice);
            let stepped: Vec<_> =
                (0..n).map(|k| self.advance(k, &x[k], &s[k], &epsilon[k], negative(k))).collect();
            for (k, [next, next_s]) in stepped.into_iter().enumerate() {
                if k + 1 == n {
                    outputs.push(next);
                } else {
                    x[k + 1] = next;
                    s[k + 1] = next_s;
                }
            }
        }
        outputs
    }
    /// The clean latents of each frame, all its steps at once.
    pub fn sequence(&self, frames: &[Vec<f64>]) -> Vec<Vec<f64>> {
        if self.feedback == 0.0 {
            return self.together(frames);
        }
        let mut outputs: Vec<Vec<f64>> = Vec::new();
        for z in frames {
            let mixed = self.fed_back(z, outputs.last());
            outputs.extend(self.together(&[mixed]));
        }
        outputs
    }
    /// Frames that know nothing of each other, in one call for each step.
    fn together(&self, frames: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let n = frames.len();
        let mut x: Vec<_> = frames.iter().map(|z| self.start(z)).collect();
        let mut s = vec![self.noise[0].clone(); n];
        for step in 0..self.steps() {
            let reads_negative = match self.mode {
                GuidanceMode::Full => true,
                GuidanceMode::Initialize => step == 0,
                GuidanceMode::None | GuidanceMode::SelfNegative => false,
            };
            let row = |is_negative| move |x| Row { x, step, is_negative };
            let mut rows: Vec<_> = x.iter().map(Vec::as_slice).map(row(false)).collect();
            if reads_negative {
                rows.extend(x.iter().map(Vec::as_slice).map(row(true)));
            }
            let epsilon = self.epsilon(&rows);
            if self.mode == GuidanceMode::Initialize && step == 0 {
                s = epsilon[n..].to_vec();
            }
            for f in 0..n {
                let negative = epsilon.get(n + f).map(Vec::as_slice);
                let [next, next_s] = self.advance(step, &x[f], &s[f], &epsilon[f], negative);
                x[f] = next;
                s[f] = next_s;
            }
        }
        x
    }
    /// `z ← (1 − f)·z + f·x0_prev`.
    fn fed_back(&self, z: &[f64], last: Option<&Vec<f64>>) -> Vec<f64> {
        let Some(last) = last else { return z.to_vec() };
        let f = self.feedback;
        z.iter().zip(last).map(|(z, last)| (1.0 - f) * z + f * last).collect()
    }
}
