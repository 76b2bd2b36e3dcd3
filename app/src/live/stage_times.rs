//! Where a frame's time goes on the device, looked at now and then while a stream runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dreamglass_engine::kernels::profile::{Detail, Profiler};
use dreamglass_engine::{EngineError, Live};

/// Told of a stage, and of the seconds that it took in one frame.
pub type StageTap = Arc<dyn Fn(&str, f64) + Send + Sync>;

/// Stages of a frame, those of a new prompt and of new times among them.
const SPANS: u32 = 64;

/// Between two looks. The profiler has room for four frames: so many are measured in that time.
const INTERVAL: Duration = Duration::from_secs(1);

/// Measures some frames of a stream by stages.
pub struct StageTimes {
    tap: Option<StageTap>,
    looked: Instant,
}

impl StageTimes {
    /// Nothing is measured where nobody is told.
    pub fn new(tap: Option<StageTap>) -> Self {
        Self { tap, looked: Instant::now() }
    }
    /// Begins with a stream that was just loaded; adapters without timestamps have no stage times.
    pub fn begin(&self, live: &mut Live) {
        if self.tap.is_none() {
            return;
        }
        match Profiler::new(live.gpu(), SPANS) {
            Ok(profiler) => drop(live.set_profiler(Some((profiler, Detail::Stages)))),
            Err(error) => tracing::debug!("no stage times: {error}"),
        }
    }
    /// Tells what was measured since the last look.
    pub fn look(&mut self, live: &mut Live) -> Result<(), EngineError> {
        let Some(tap) = self.tap.as_ref().filter(|_| self.looked.elapsed() >= INTERVAL) else {
            return Ok(());
        };
        self.looked = Instant::now();
        let Some(profiler) = live.profiler() else { return Ok(()) };
        while let Some(spans) = profiler.poll()? {
            let mut stages: BTreeMap<&str, f64> = BTreeMap::new();
            for span in &spans {
                *stages.entry(&span.stage).or_default() += span.duration_ns() / 1e9;
            }
            stages.into_iter().for_each(|(stage, seconds)| tap(stage, seconds));
        }
        Ok(())
    }
}
