//! `dreamglass live`: a stream in a window, or into files and devices.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cli::LiveArgs;
use crate::config::{self, Style};
use crate::failure::{INTERRUPTED, bad_input};
use crate::live::{Host, Session, Start, Summary};
use crate::preset::Configuration;
use crate::sink::window::{Appearance, Display};
use crate::{interrupt, model};

use super::capture::{self, Capture};

/// How often Ctrl-C is looked for.
const GLANCE: Duration = Duration::from_millis(50);

/// Runs the stream.
pub fn run(mut arguments: LiveArgs) -> Result<ExitCode> {
    let configuration = Configuration::open(arguments.config.as_deref())?;
    arguments.engine.place.complete(&configuration).map_err(bad_input)?;
    // Without a display nothing else need be tried.
    let display = if arguments.no_window { None } else { Some(Display::open()?) };
    let sinks = capture::sinks(&arguments.output, &configuration)?;
    if display.is_none() && sinks.is_empty() {
        return Err(bad_input("without a window there is nothing to show: say where with --output"));
    }
    let files = model::files(arguments.engine.place.model())?;
    let Style { looks, params } = Style::new(&arguments.style, &configuration, &files)?;
    let gpu = config::open_gpu(&arguments.engine.place.adapter())?;
    let options = config::options(&arguments.engine)?;
    let capture = Capture::choose(&arguments.capture, &configuration, !arguments.once)?;
    let source = capture.open()?;
    eprintln!("source: {}", source.describe());

    let appearance = Appearance {
        looks: looks.looks.iter().map(|l| (l.name.clone(), l.prompt.clone())).collect(),
        loras: options.loras.clone(),
        is_full_screen: arguments.full_screen,
        has_panel: !arguments.no_panel,
        presenting: arguments.present,
        presented: Arc::default(),
        source_view: arguments.show_source,
    };
    let adapter = arguments.engine.place.adapter();
    let is_direct = arguments.present.is_direct(&gpu);
    let has_queue_in_common = display.is_some() && is_direct;
    let wake =
        display.as_ref().map_or_else(|| Arc::new(|| ()) as Arc<dyn Fn() + Send + Sync>, Display::waker);
    let interrupted = interrupt::watch()?;
    let session = Session::start(Start {
        host: Host::new(gpu, Box::new(move || config::open_gpu(&adapter)), files, options),
        passes_through: false,
        looks: Arc::new(looks),
        params,
        source,
        sinks,
        reads_back: display.is_some() && !is_direct,
        tap: None,
        stage_tap: None,
        presented: has_queue_in_common.then(|| Arc::clone(&appearance.presented)),
        ends_with_source: display.is_none(),
        limit: arguments.frames,
        wake,
    })?;
    listen(&interrupted, session.stopper())?;
    let summary = match display {
        Some(display) => display.run(session, appearance)?,
        None => session.join()?,
    };
    tell(&summary);
    let is_cut = interrupted.load(Ordering::SeqCst);
    Ok(if is_cut { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// Ends the stream at Ctrl-C.
fn listen(interrupted: &Arc<AtomicBool>, stop: impl Fn() + Send + 'static) -> Result<()> {
    let interrupted = Arc::clone(interrupted);
    let watch = move || {
        while !interrupted.load(Ordering::SeqCst) {
            thread::sleep(GLANCE);
        }
        stop();
    };
    // It ends with the program.
    thread::Builder::new().name("interrupt".into()).spawn(watch).context("cannot start a thread")?;
    Ok(())
}

fn tell(summary: &Summary) {
    for written in &summary.written {
        eprintln!("{written}");
    }
    eprintln!("{}", summary.statistics);
}
