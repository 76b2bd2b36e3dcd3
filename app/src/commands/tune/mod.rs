//! `dreamglass tune`: which kernels suit this device, found by measurement and kept.

mod arguments;
mod frames;
mod report;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use dreamglass_engine::kernels::choice::Tuning;
use dreamglass_engine::kernels::tune::{Job, Outcome};
use dreamglass_engine::{Engine, Gpu, Params};
use indicatif::{ProgressBar, ProgressStyle};

pub use self::arguments::{HELP, TuneArgs};
use self::frames::{Frames, Verdict};
use super::print;
use crate::clock;
use crate::config::{self, Style};
use crate::failure::INTERRUPTED;
use crate::tuning_file::{Class, TuningFile};
use crate::{interrupt, model};

/// Runners-up that are tried in whole frames, of the classes that take the most time.
const SWAPS: usize = 8;
/// How many times as long as the winner of its class a runner-up may take to be tried.
const CLOSE: f64 = 1.15;

/// A class of dispatches and how its candidates did.
pub struct Found {
    pub job: Job,
    pub outcome: Outcome,
}

impl Found {
    /// Milliseconds that the class takes of a frame with its winner.
    pub fn share_ms(&self) -> f64 {
        self.outcome.ranked(0).map_or(0.0, |(_, ms)| ms * self.job.count as f64)
    }
}

/// What is tuned: a model on a device, and whether the user wants the end.
struct Run {
    gpu: Gpu,
    engine: Engine,
    params: Params,
    interrupted: Arc<AtomicBool>,
    bar: ProgressBar,
}

/// Tunes the kernels of the frames that the arguments describe.
pub fn run(arguments: &TuneArgs) -> Result<ExitCode> {
    let gpu = config::open_gpu(&arguments.engine.place.adapter())?;
    if arguments.forget {
        return forget(&gpu);
    }
    let files = model::files(arguments.engine.place.model())?;
    let Style { params, .. } = Style::for_measuring(&arguments.style, &files)?;
    let engine = config::load(&gpu, &arguments.engine, &files)?;
    // Every dispatch is to be done, and first guesses are to be found anew.
    let params = Params { similarity_filter: false, ..params };
    gpu.set_tuning(Tuning::default());
    let run = Run { gpu, engine, params, interrupted: interrupt::watch()?, bar: progress() };

    let mut frames = Frames::new(&run, Tuning::default())?;
    let jobs = Job::of(frames.plans());
    if jobs.is_empty() {
        bail!("there is nothing to choose for this model and device");
    }
    run.bar.set_length(jobs.len() as u64 + SWAPS as u64 + 1);
    let found = run.measure(jobs)?;
    let mut tuning = winners(&found);
    let verdict = match run.is_interrupted() {
        true => None,
        false => Some(run.whole_frames(&mut frames, &found, &mut tuning, arguments.frames)?),
    };
    run.bar.finish_and_clear();
    let saved = save(arguments, &run.gpu, &found, &tuning, verdict.as_ref())?;
    print(&report::text(&found, &tuning, verdict.as_ref(), saved.as_deref()))?;
    Ok(if run.is_interrupted() { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// Removes what earlier runs found on this device.
fn forget(gpu: &Gpu) -> Result<ExitCode> {
    let name = &gpu.summary().name;
    match TuningFile::path(gpu).filter(|path| path.exists()) {
        Some(path) => {
            std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            print(&format!("removed {}\n", path.display()))?;
        }
        None => print(&format!("nothing is kept for {name}\n"))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The winner of each class, where it is not the first guess.
fn winners(found: &[Found]) -> Tuning {
    let mut tuning = Tuning::default();
    for Found { job, outcome } in found {
        if let Some((winner, _)) = outcome.ranked(0).filter(|_| outcome.ranking[0] != 0) {
            tuning.set(job.class(), winner);
        }
    }
    tuning
}

/// Keeps what was found, unless whole frames are slower with it than with first guesses, or the user wants it dry.
fn save(
    arguments: &TuneArgs,
    gpu: &Gpu,
    found: &[Found],
    tuning: &Tuning,
    verdict: Option<&Verdict>,
) -> Result<Option<std::path::PathBuf>> {
    if arguments.dry_run || found.is_empty() || verdict.is_some_and(Verdict::is_slower) {
        return Ok(None);
    }
    let mut file = TuningFile::load(gpu).unwrap_or_else(|| TuningFile::new(gpu));
    for Found { job, outcome } in found {
        let first_guess = outcome.timings.first().map_or("", |(name, _)| name);
        let candidate = tuning.get(job.class()).unwrap_or(first_guess).to_owned();
        let timings = outcome.timings.iter().map(|(name, timing)| (name.clone(), timing.to_string()));
        file.classes.insert(job.class().to_owned(), Class { candidate, timings: timings.collect() });
    }
    file.save(gpu)
}

impl Run {
    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }
    /// Each class by itself; those so far after Ctrl-C.
    fn measure(&self, jobs: Vec<Job>) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        for job in jobs {
            self.bar.set_message(job.class().to_owned());
            let outcome = job
                .measure(&self.gpu, clock::now, &|| self.is_interrupted())
                .with_context(|| format!("{}: the portable kernel does not run", job.class()))?;
            let Some(outcome) = outcome else { break };
            self.bar.inc(1);
            found.push(Found { job, outcome });
        }
        Ok(found)
    }
    /// Runners-up in whole frames, where they may do better than alone; then all of it beside first guesses.
    fn whole_frames(
        &self,
        first_guesses: &mut Frames,
        found: &[Found],
        tuning: &mut Tuning,
        turns: u32,
    ) -> Result<Verdict> {
        let mut best = Frames::new(self, tuning.clone())?;
        let mut close: Vec<&Found> = found.iter().filter(|f| is_close(&f.outcome)).collect();
        close.sort_by(|a, b| b.share_ms().total_cmp(&a.share_ms()));
        for Found { job, outcome } in close.into_iter().take(SWAPS) {
            let Some((runner_up, _)) = outcome.ranked(1).filter(|_| !self.is_interrupted()) else { break };
            self.bar.set_message(format!("whole frames: {}", job.class()));
            let mut other = tuning.clone();
            other.set(job.class(), runner_up);
            let mut frames = Frames::new(self, other.clone())?;
            if frames::compare(&mut best, &mut frames, turns)?.is_faster() {
                (best, *tuning) = (frames, other);
            }
            self.bar.inc(1);
        }
        self.bar.set_message("whole frames beside first guesses");
        frames::compare(first_guesses, &mut best, 2 * turns)
    }
}

/// Whether the second of a class takes hardly longer than the first.
fn is_close(outcome: &Outcome) -> bool {
    matches!((outcome.ranked(0), outcome.ranked(1)), (Some((_, first)), Some((_, second))) if second <= first * CLOSE)
}

fn progress() -> ProgressBar {
    let bar = ProgressBar::new(1);
    match ProgressStyle::with_template("{wide_bar} {pos}/{len}  {eta} left\n{msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
