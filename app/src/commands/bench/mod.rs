//! `dreamglass bench`: what a stream costs on this device, and where its time goes.

mod arguments;
mod compare;
mod derive;
mod figures;
mod html;
mod parts;
mod reading;
pub(super) mod session;
mod single;
pub(super) mod source;
mod stats;
mod streaming;
mod svg;
mod text;
mod trace;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use dreamglass_engine::kernels::ceiling::Ceilings;
use dreamglass_engine::kernels::gpu::Gpu;
use dreamglass_engine::kernels::{Clocks, DType};
use dreamglass_engine::{Live, Params};
use indicatif::{ProgressBar, ProgressStyle};

pub use self::arguments::{BenchArgs, HELP};
use self::compare::Comparison;
use self::derive::Tables;
use self::figures::{Adapter, ColdStart, Figures, SCHEMA, Setup};
use self::session::{Session, ms};
use self::single::Single;
use self::source::Source;
use self::stats::Spread;
use self::streaming::Streamed;
use super::print;
use crate::cli::Weights;
use crate::clock;
use crate::config::{self, Style};
use crate::failure::{INTERRUPTED, bad_input};
use crate::{interrupt, model};

/// Measures the stream.
pub fn run(arguments: &BenchArgs) -> Result<ExitCode> {
    let before = arguments.compare.as_deref().map(compare::read).transpose()?;
    let (mut session, mut cold_start, dtype, params) = open(arguments)?;
    first(&mut session, &mut cold_start)?;
    let setup = setup(arguments, &session, dtype, &params)?;
    if let Some(before) = &before {
        for difference in compare::differences(before, &adapter(session.live.gpu()), &setup) {
            eprintln!("warning: {difference}");
        }
    }
    let (single, streamed) = measure(arguments, &mut session, &params)?;
    let is_complete = !session.is_interrupted();
    if !is_complete && single.job_ms.is_empty() {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    let figures = figures(arguments, &session, setup, cold_start, &single, &streamed)?;
    session.bar.finish_and_clear();
    write(arguments, &figures, &single)?;
    print(&text::table(&figures))?;
    if before.as_ref().is_some_and(|b| !compare::starts_alike([b.cold_start, figures.cold_start])) {
        eprintln!(
            "warning: the starts are not compared: only one of them had its prompt kept from an earlier run, or its files \
             on the disk alone"
        );
    }
    let comparison = before.map(|before| Comparison::new(&before, &figures, arguments.threshold));
    if let Some(comparison) = &comparison {
        print(&comparison.to_string())?;
    }
    Ok(match comparison {
        _ if !is_complete => ExitCode::from(INTERRUPTED),
        Some(comparison) if comparison.is_slower() => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

/// Everything up to a stream that waits for its first frame.
fn open(arguments: &BenchArgs) -> Result<(Session, ColdStart, DType, Params)> {
    for path in [&arguments.json, &arguments.report, &arguments.trace].into_iter().flatten() {
        check_folder(path)?;
    }
    let source = Source::open(&arguments.source)?;
    let files = model::files(arguments.engine.place.model())?;
    let Style { params, .. } = Style::for_measuring(&arguments.style, &files)?;
    let mut cold = ColdStart { has_cold_files: arguments.cold_files, ..Default::default() };
    // Alone, from where the start reads them: what was read once is in memory.
    if cold.has_cold_files {
        reading::forget(&files)?;
    } else {
        reading::weights(&files);
    }
    cold.read_bytes = timed(&mut cold.read_ms, || Ok(reading::weights(&files)))?;
    if cold.has_cold_files {
        reading::forget(&files)?;
    }
    let (adapter, tier) = (arguments.engine.place.adapter(), arguments.kernels.map(Into::into));
    let gpu = timed(&mut cold.open_ms, || config::open_gpu_as(&adapter, tier))?;
    gpu.set_clocks(Clocks { wall: clock::now, thread: clock::of_thread });
    let engine = timed(&mut cold.load_ms, || config::load(&gpu, &arguments.engine, &files))?;
    config::warn_of_cut(&engine, &params.prompt)?;
    let mut live = timed(&mut cold.compile_ms, || Ok(Live::new(&engine, params.clone())?))?;
    live.set_read_back(true);
    let dtype = config::dtype(arguments.engine.dtype);
    let total = u64::from(arguments.warmup) + 2 * u64::from(arguments.frames);
    let session = Session::new(live, source, progress(total), interrupt::watch()?);
    Ok((session, cold, dtype, params))
}

/// Refuses a file that cannot be written before minutes are spent on its contents.
fn check_folder(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match folder.is_dir() && !path.is_dir() {
        true => Ok(()),
        false => Err(bad_input(format!("{}: expected a file in a folder that is there", path.display()))),
    }
}

fn timed<T>(took_ms: &mut f64, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    let result = work();
    *took_ms += ms(begun.elapsed());
    result
}

/// The first picture.
fn first(session: &mut Session, cold: &mut ColdStart) -> Result<()> {
    session.bar.set_message("first picture");
    let begun = session.now();
    let turns = session.first()?;
    let took_ms = ms(session.now() - begun);
    let [build_ms, prompt_ms] =
        [turns.iter().map(|t| ms(t.build)).sum::<f64>(), turns.iter().map(|t| ms(t.prompt)).sum()];
    cold.compile_ms += build_ms;
    cold.prompt_ms = prompt_ms;
    cold.first_frame_ms = took_ms - build_ms - prompt_ms;
    cold.total_ms = cold.open_ms + cold.load_ms + cold.compile_ms + cold.prompt_ms + cold.first_frame_ms;
    cold.beyond_reading_ms = cold.total_ms - cold.read_ms;
    let (gpu, ns) = (session.live.gpu(), |ns: u64| ns as f64 / 1e6);
    let counters = gpu.counters();
    [cold.weights_ms, cold.kernels_ms] = [ns(counters.weights_ns), ns(counters.compile_ns)];
    (cold.is_warm, cold.tuned_classes) = (gpu.is_warm(), gpu.tuning().len());
    cold.text_encoder_ms = ms(session.catch_up());
    Ok(())
}

/// Warms up, then frames one at a time, then the stream.
fn measure(arguments: &BenchArgs, session: &mut Session, params: &Params) -> Result<(Single, Streamed)> {
    // Frames alone show what one costs that is not skipped.
    session.live.set(Params { similarity_filter: false, ..params.clone() })?;
    session.bar.set_message("warming up");
    for _ in 0..arguments.warmup {
        if session.is_interrupted() {
            break;
        }
        session.turn()?;
        session.check()?;
        session.bar.inc(1);
    }
    session.bar.set_message("one at a time");
    let single = Single::measure(session, arguments.frames)?;
    session.live.set(params.clone())?;
    session.bar.set_message("stream");
    let streamed = match session.is_interrupted() {
        true => Streamed::default(),
        false => Streamed::measure(session, arguments.frames, params.similarity_filter)?,
    };
    Ok((single, streamed))
}

fn setup(arguments: &BenchArgs, session: &Session, dtype: DType, params: &Params) -> Result<Setup> {
    let layout = session.live.status().layout.context("the stream has no layout")?;
    let source_size = session.source.size();
    Ok(Setup {
        model: arguments.engine.place.model().display().to_string(),
        size: [layout.size.width, layout.size.height],
        steps: layout.rows,
        batching: params.get("batching").map(|v| v.to_string()).unwrap_or_default(),
        dtype: match arguments.engine.weights {
            Weights::Same => dtype.to_string(),
            Weights::Int8 => format!("{dtype} with int8 weights"),
        },
        source: session.source.name.clone(),
        source_size: [source_size.width, source_size.height],
        frames: arguments.frames,
        warmup: arguments.warmup,
        parameters: params.changed().map(|(name, value)| (name.to_string(), value)).collect(),
    })
}

fn adapter(gpu: &Gpu) -> Adapter {
    let summary = gpu.summary();
    Adapter {
        name: summary.name.clone(),
        backend: summary.backend.clone(),
        device_type: summary.device_type.clone(),
        driver: summary.driver.clone(),
        is_software: summary.is_software,
        tier: summary.tier.name().into(),
    }
}

fn figures(
    arguments: &BenchArgs,
    session: &Session,
    setup: Setup,
    cold_start: ColdStart,
    single: &Single,
    streamed: &Streamed,
) -> Result<Figures> {
    let gpu = session.live.gpu();
    // Before the ceilings are measured, which takes memory of its own.
    let memory = derive::memory(gpu.counters().allocated_bytes);
    let frame_gpu_ms = Spread::of(&derive::frame_times(single));
    let frame_ms = frame_gpu_ms.map(|s| s.p50);
    let work = frame_ms.and_then(|ms| derive::work(single, ms));
    session.bar.set_message("ceilings");
    let wants_ceilings = !arguments.no_ceilings && !session.is_interrupted();
    let ceilings = match work.filter(|_| wants_ceilings) {
        Some(work) => Some(derive::ceilings(&Ceilings::measure(gpu)?, &work)),
        None => None,
    };
    let Tables { stages, kernels, dispatches } = Tables::of(single);
    let mut warnings = single.warnings.clone();
    let consistency = derive::consistency(single, &stages, &mut warnings);
    let stream = derive::stream(streamed, frame_ms);
    derive::check_load(stream.as_ref(), &mut warnings);
    let is_filtered = session.live.params().similarity_filter;
    Ok(Figures {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").into(),
        is_complete: !session.is_interrupted(),
        adapter: adapter(gpu),
        setup,
        cold_start,
        frame_gpu_ms,
        single: derive::single(single),
        stream,
        work,
        ceilings,
        stages,
        consistency,
        kernels,
        dispatches,
        memory,
        filter: is_filtered.then(|| derive::filter(streamed, frame_ms)).flatten(),
        warnings,
        series: derive::series(single, streamed),
    })
}

/// The files that were asked for.
fn write(arguments: &BenchArgs, figures: &Figures, single: &Single) -> Result<()> {
    let write = |path: &Path, text: String| {
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    if let Some(path) = &arguments.json {
        write(path, serde_json::to_string_pretty(figures)? + "\n")?;
    }
    if let Some(path) = &arguments.report {
        write(path, html::page(figures))?;
    }
    if let Some(path) = &arguments.trace {
        write(path, trace::json(&single.traced).to_string() + "\n")?;
    }
    Ok(())
}

/// A bar of all frames; nothing where standard error is no terminal.
fn progress(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    match ProgressStyle::with_template("{wide_bar} {pos}/{len}  {msg}  {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
