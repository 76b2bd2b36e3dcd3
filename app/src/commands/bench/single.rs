//! Frames one at a time, with the device's times of stages and of dispatches by turns.

use anyhow::Result;
use dreamglass_engine::kernels::KernelError;
use dreamglass_engine::kernels::profile::{Detail, Profiler, Span};

use super::session::{Session, Turn, ms};

/// Spans of a frame: as many as an adapter takes.
const SPANS: u32 = 2048;
/// Frames that a trace shows.
const TRACED: usize = 3;

/// A frame of which every dispatch was measured.
pub struct Traced {
    pub turn: Turn,
    pub spans: Vec<Span>,
}

/// What frames one at a time gave.
#[derive(Default)]
pub struct Single {
    /// Spans of frames whose stages were measured.
    pub stages: Vec<Vec<Span>>,
    /// Spans of frames whose dispatches were measured.
    pub dispatches: Vec<Vec<Span>>,
    /// The last of the latter, with what the CPU did.
    pub traced: Vec<Traced>,
    pub job_ms: Vec<f64>,
    pub push_ms: Vec<f64>,
    pub submit_ms: Vec<f64>,
    pub finish_ms: Vec<f64>,
    /// What could not be measured, and why.
    pub warnings: Vec<String>,
}

impl Single {
    /// Measures `count` frames. Details take turns, so that a device that warms up or is shared
    /// with others does not favour one.
    pub fn measure(session: &mut Session, count: u32) -> Result<Self> {
        let mut single = Self::default();
        let mut profiler = match Profiler::new(session.live.gpu(), SPANS) {
            Ok(profiler) => Some(profiler),
            Err(error @ KernelError::Unsupported { .. }) => {
                single.warnings.push(format!("no device times: {error}"));
                None
            }
            Err(error) => return Err(error.into()),
        };
        let mut has_dispatches = true;
        for ix in 0..count {
            if session.is_interrupted() {
                break;
            }
            let is_fine = ix % 2 == 1 && has_dispatches;
            let detail = if is_fine { Detail::Dispatches } else { Detail::Stages };
            session.live.set_profiler(profiler.take().map(|p| (p, detail)));
            let turn = session.turn()?;
            let spans = session.live.profiler().map(Profiler::wait).transpose()?.flatten();
            profiler = session.live.set_profiler(None).map(|(p, _)| p);
            session.bar.inc(1);
            if let (true, Some(trouble)) = (is_fine, session.live.next_trouble()) {
                single.warnings.push(format!("dispatches could not be measured one by one: {trouble}"));
                has_dispatches = false;
                // What the trouble left half done.
                session.first()?;
                continue;
            }
            session.check()?;
            single.keep(turn, spans, detail);
        }
        Ok(single)
    }

    fn keep(&mut self, turn: Turn, spans: Option<Vec<Span>>, detail: Detail) {
        // Recording timestamps around every dispatch costs the CPU time that a window does not spend.
        if detail == Detail::Stages {
            self.job_ms.push(ms(turn.done_at - turn.captured_at));
            self.push_ms.push(ms(turn.push));
            self.submit_ms.push(ms(turn.submit[1]));
            self.finish_ms.push(ms(turn.finish[1]));
        }
        match (spans, detail) {
            (None, _) => {}
            (Some(spans), Detail::Stages) => self.stages.push(spans),
            (Some(spans), _) => {
                if self.traced.len() == TRACED {
                    self.traced.remove(0);
                }
                self.traced.push(Traced { turn, spans: spans.clone() });
                self.dispatches.push(spans);
            }
        }
    }
}
