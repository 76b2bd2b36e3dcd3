//! What a process takes of host memory beyond mapped files and the adapter's own buffers, while it loads and runs.

use std::fmt;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dreamglass_kernels::gpu::Gpu;

/// How often it is looked at.
const INTERVAL: Duration = Duration::from_millis(10);

/// What was seen.
pub struct Seen {
    /// Most anonymous memory beyond that of the beginning and, where device memory is the host's, the adapter's
    /// buffers; none where the system does not tell.
    pub beyond_bytes: Option<u64>,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.beyond_bytes {
            Some(bytes) => write!(f, ", host {} MiB beyond them", bytes >> 20),
            None => Ok(()),
        }
    }
}

/// A thread that looks.
pub struct Watch {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
    most: Arc<AtomicU64>,
    is_known: Arc<AtomicBool>,
}

impl Watch {
    pub fn begin(gpu: &Gpu) -> Self {
        let (stop, stopped) = mpsc::channel();
        let (most, is_known) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (thread_most, thread_is_known) = (Arc::clone(&most), Arc::clone(&is_known));
        let gpu = gpu.clone();
        let before = anonymous_bytes();
        let thread = thread::spawn(move || {
            while stopped.recv_timeout(INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
                let (Some(now), Some(before)) = (anonymous_bytes(), before) else { return };
                let counters = gpu.counters();
                let own = if gpu.summary().is_software { counters.allocated_bytes } else { 0 };
                thread_most.fetch_max(now.saturating_sub(before + own), Ordering::Relaxed);
                thread_is_known.store(true, Ordering::Relaxed);
            }
        });
        Self { stop, thread, most, is_known }
    }
    pub fn end(self) -> Seen {
        // The thread is gone where the system does not tell.
        let _ = self.stop.send(());
        self.thread.join().unwrap();
        let is_known = self.is_known.load(Ordering::Relaxed);
        Seen { beyond_bytes: is_known.then(|| self.most.load(Ordering::Relaxed)) }
    }
}

/// Anonymous memory in use, where the system tells.
fn anonymous_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
}
