//! One processor for each thread that computes for a CPU adapter.
//!
//! Mesa's llvmpipe has as many threads for compute as there are processors. It wakes all of them for every dispatch and
//! gives each an equal part, and a frame is hundreds of dispatches. Where Linux has two of them share a processor for a
//! while, which it does in one start out of three, another processor idles.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry};

/// Threads of this program by number, with their names.
pub type Threads = BTreeMap<u32, String>;

/// What llvmpipe calls its threads for drawing, before their number.
const DRAWING: &str = "llvmpipe-";

/// The threads there are; none where the system does not tell.
pub fn threads() -> Threads {
    let named = |entry: DirEntry| {
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, name.trim_end().to_string()))
    };
    fs::read_dir("/proc/self/task").into_iter().flatten().flatten().filter_map(named).collect()
}

/// Has each thread for compute that llvmpipe started since `before` run on a processor of its own. Returns whether they
/// do; nothing is changed where threads, or processors that this program may use, are not as expected.
pub fn spread(before: &Threads) -> bool {
    let mut started = threads();
    started.retain(|id, _| !before.contains_key(id));
    assign(&computing(&started))
}

/// Those of `started` that compute. Behind its threads for drawing, llvmpipe starts as many for compute, which keep the
/// name of the thread that started them.
fn computing(started: &Threads) -> Vec<u32> {
    let is_drawing = |name: &String| name.starts_with(DRAWING);
    let drawing = started.values().filter(|name| is_drawing(name)).count();
    let last = started.iter().rfind(|(_, name)| is_drawing(name)).map_or(u32::MAX, |(id, _)| *id);
    let behind: Vec<u32> = started.range(last..).skip(1).map(|(id, _)| *id).take(drawing).collect();
    if behind.len() == drawing { behind } else { Vec::new() }
}

/// Has each of `threads` run on a processor of its own, if there are as many of both and more than one.
#[cfg(target_os = "linux")]
fn assign(threads: &[u32]) -> bool {
    use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};
    let Ok(allowed) = sched_getaffinity(None) else { return false };
    let processors: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&ix| allowed.is_set(ix)).collect();
    if threads.len() < 2 || processors.len() != threads.len() {
        return false;
    }
    threads.iter().zip(processors).all(|(&thread, processor)| {
        let mut own = CpuSet::new();
        own.set(processor);
        let id = i32::try_from(thread).ok().and_then(Pid::from_raw);
        id.is_some_and(|id| sched_setaffinity(Some(id), &own).is_ok())
    })
}

#[cfg(not(target_os = "linux"))]
fn assign(_: &[u32]) -> bool {
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    fn computing_of(rows: &[(u32, &str)]) -> Vec<u32> {
        computing(&rows.iter().map(|(id, name)| (*id, name.to_string())).collect())
    }

    #[test]
    fn as_many_threads_as_draw_behind_those() {
        let all =
            [(12, "main"), (20, "llvmpipe-0"), (21, "llvmpipe-1"), (22, "main"), (24, "main"), (25, "queue")];
        assert_eq!(computing_of(&all), [22, 24]);
        assert_eq!(computing_of(&all[..5]), [22, 24]);
    }

    #[test]
    fn none_where_there_are_fewer() {
        let all = [(12, "main"), (20, "llvmpipe-0"), (21, "llvmpipe-1"), (22, "main")];
        assert!(computing_of(&all).is_empty());
        assert!(computing_of(&all[..1]).is_empty());
        assert!(computing_of(&[]).is_empty());
    }

    #[test]
    fn threads_are_listed_with_their_names() {
        let name = "a thread's name";
        let listed = std::thread::Builder::new().name(name.into()).spawn(threads).unwrap().join().unwrap();
        assert_eq!(listed.values().any(|other| other == name), cfg!(target_os = "linux"), "{listed:?}");
    }
}
