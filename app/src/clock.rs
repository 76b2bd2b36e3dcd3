//! The program's clock, for layers that have none.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Time since the first call.
pub fn now() -> Duration {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    BEGUN.get_or_init(Instant::now).elapsed()
}

/// Time that this thread has spent on a core; where the system does not say, time since the first call.
pub fn of_thread() -> Duration {
    #[cfg(unix)]
    {
        let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(spent.tv_sec.unsigned_abs(), u32::try_from(spent.tv_nsec).unwrap_or(0))
    }
    #[cfg(not(unix))]
    now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn a_thread_that_sleeps_spends_nothing() {
        let (begun, spent) = (now(), of_thread());
        std::thread::sleep(Duration::from_millis(60));
        assert!(now() - begun >= Duration::from_millis(60));
        let asleep = of_thread() - spent;
        assert!(asleep < Duration::from_millis(20), "{asleep:?} while asleep");
        let spent = of_thread();
        let sum = (0..5_000_000_u64).fold(0, |sum: u64, ix| std::hint::black_box(sum ^ ix));
        assert!(of_thread() > spent, "{sum} came from nothing");
    }
}
