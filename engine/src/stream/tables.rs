//! A schedule as factors of the sums that a stream computes for each row of its batch.
//!
//! Row k is the sample x_k before step k. Every sum is linear in tensors that are on the device, so
//! that steps, guidance and feedback are one op with other numbers:
//!
//! ```text
//! x_0     = start_0·((1 − f)·z + f·d) + start_1·n_0      z source latents, d the last clean latents
//! x_{k+1} = a·x + b·m̂ + c·n_{k+1}                        a, b, c the scheduler's (Step::next)
//! m̂       = g·m + (1 − g)·m_u                            m, m_u the UNet's outputs
//! s_{k+1} = r_0·s + r_1·ε̂ + r_2·n_{k+1}                  Step::residual, ε̂ = e_0·x + e_1·m̂
//! ```
//!
//! Residual guidance (StreamDiffusion, arXiv 2312.12491) has no m_u but `ε_u = δ·s`, which stands
//! for `m_u = (δ·s − e_0·x)/e_1`.

use crate::params::GuidanceMode;
use crate::schedule::{Schedule, Step};

/// Guidance of a stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guidance {
    /// Where the unconditional prediction comes from.
    pub mode: GuidanceMode,
    /// Scale g.
    pub scale: f64,
    /// Weight δ of the residual noise.
    pub delta: f64,
}

impl Guidance {
    /// No guidance.
    pub const NONE: Self = Self { mode: GuidanceMode::None, scale: 1.0, delta: 1.0 };
}

/// Factors for every row, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Tables {
    /// Timesteps `[N]`.
    pub timesteps: Vec<f64>,
    /// The UNet reads `input·x`: `[N]`.
    pub input: Vec<f32>,
    /// x_{k+1} of `[x, m, s or m_u, n_{k+1}]`: `[N,4]`.
    pub step: Vec<f32>,
    /// s_{k+1} of `[x, m, s, n_{k+1}]`: `[N,4]`; zeros for modes without s.
    pub residual: Vec<f32>,
    /// s_0 of `[x_0, m_u]` for [`GuidanceMode::Initialize`]: ε of the unconditional row.
    pub initial: [f32; 2],
    /// `[start_0·scaling_factor, start_1]`.
    start: [f64; 2],
    /// start_0.
    start_clean: f64,
    /// f.
    feedback: f64,
    /// Guidance scale of models that read it as an embedding.
    pub embedded_guidance: Option<f64>,
}

impl Tables {
    /// The tables of `schedule` for latents that are `scaling_factor` times the encoder's.
    pub fn new(schedule: &Schedule, scaling_factor: f64, guidance: Guidance, feedback: f64) -> Self {
        let rows = |row: fn(&Step, Guidance) -> [f64; 4]| {
            schedule.steps.iter().flat_map(|s| row(s, guidance)).map(|f| f as f32).collect()
        };
        let has_residual = matches!(guidance.mode, GuidanceMode::SelfNegative | GuidanceMode::Initialize);
        Self {
            timesteps: schedule.timesteps(),
            input: schedule.steps.iter().map(|s| s.input as f32).collect(),
            step: rows(step),
            residual: if has_residual { rows(residual) } else { vec![0.0; 4 * schedule.steps.len()] },
            initial: schedule.steps[0].epsilon.map(|f| f as f32),
            start: [schedule.start[0] * scaling_factor, schedule.start[1]],
            start_clean: schedule.start[0],
            feedback,
            embedded_guidance: None,
        }
    }
    /// Rows N: the steps of the schedule.
    pub fn rows(&self) -> usize {
        self.timesteps.len()
    }
    /// x of `[source latents, n_0, row before, last clean latents]` for every row: `[N,4]`. The last
    /// clean latents count when there are some.
    pub fn entry(&self, has_last: bool) -> Vec<f32> {
        let f = if has_last { self.feedback } else { 0.0 };
        let first = [self.start[0] * (1.0 - f), self.start[1], 0.0, self.start_clean * f];
        let mut rows: Vec<f32> = first.map(|v| v as f32).to_vec();
        for _ in 1..self.rows() {
            rows.extend([0.0, 0.0, 1.0, 0.0]);
        }
        rows
    }
}

/// x_{k+1} of `[x, m, s or m_u, n_{k+1}]`.
fn step(step: &Step, guidance: Guidance) -> [f64; 4] {
    let ([a, b, c], [of_x, of_m]) = (step.next, step.epsilon);
    let Guidance { mode, scale: g, delta } = guidance;
    match mode {
        GuidanceMode::None => [a, b, 0.0, c],
        GuidanceMode::Full => [a, b * g, b * (1.0 - g), c],
        GuidanceMode::SelfNegative | GuidanceMode::Initialize => {
            let u = b * (1.0 - g) / of_m;
            [a - u * of_x, b * g, u * delta, c]
        }
    }
}

/// s_{k+1} of `[x, m, s, n_{k+1}]`: `ε̂ = g·(e_0·x + e_1·m) + (1 − g)·δ·s`.
fn residual(step: &Step, guidance: Guidance) -> [f64; 4] {
    let ([of_s, of_taken, of_noise], [of_x, of_m]) = (step.residual, step.epsilon);
    let Guidance { scale: g, delta, .. } = guidance;
    [of_taken * g * of_x, of_taken * g * of_m, of_s + of_taken * (1.0 - g) * delta, of_noise]
}
