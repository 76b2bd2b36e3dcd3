//! Large pages for memory that is the host's and the device's.
//!
//! Linux hands memory out in pages of 4 KiB, each when it is first written to, and to take, clear and enter one costs
//! more than the weights that go there. It has larger ones for those who ask. What a driver allocates is only known by
//! the first buffer that lies there.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Allocations that large pages were asked for.
#[derive(Debug, Default)]
pub(crate) struct LargePages {
    asked: Mutex<Vec<Range<usize>>>,
}

impl LargePages {
    /// Asks for large pages for the allocation in which `address` lies, once. What was written to before keeps its own.
    pub(crate) fn ask(&self, address: usize) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.iter().any(|range| range.contains(&address)) {
            return;
        }
        if let Some(range) = allocation(address) {
            advise(&range);
            asked.push(range);
        }
    }
}

/// The allocation in which `address` lies, where the system tells.
fn allocation(address: usize) -> Option<Range<usize>> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().filter_map(writable).find(|range| range.contains(&address))
}

/// What a line of `/proc/self/maps` says of memory that can be written to and belongs to no file and to nobody else:
/// `7f1c00000000-7f1c08000000 rw-p 00000000 00:00 0`.
fn writable(line: &str) -> Option<Range<usize>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let is_ours = words.next()? == "rw-p" && words.nth(2)? == "0" && words.next().is_none();
    let place = |hex: &str| usize::from_str_radix(hex, 16).ok();
    is_ours.then_some(place(start)?..place(end)?)
}

#[cfg(target_os = "linux")]
fn advise(range: &Range<usize>) {
    use rustix::mm::{Advice, madvise};
    let start = std::ptr::without_provenance_mut(range.start);
    // SAFETY: the advice changes of what size pages are, not what is in them, nor whether there are any.
    // A system that has none says so; then small ones have to do.
    let _ = unsafe { madvise(start, range.len(), Advice::LinuxHugepage) };
}

#[cfg(not(target_os = "linux"))]
fn advise(_: &Range<usize>) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_files_and_of_others_is_left_alone() {
        assert_eq!(
            writable("7f1c00000000-7f1c08000000 rw-p 00000000 00:00 0 "),
            Some(0x7f1c_0000_0000..0x7f1c_0800_0000)
        );
        for line in [
            "7f1c00000000-7f1c08000000 r--p 00000000 00:00 0",
            "7f1c00000000-7f1c08000000 rw-s 00000000 00:00 0",
            "7f1c00000000-7f1c08000000 rw-p 00000000 fe:00 4711 /lib/libc.so.6",
            "55cc8d5bc000-55cc8d5fe000 rw-p 00000000 00:00 0 [heap]",
            "7f1c00000000 rw-p",
            "",
        ] {
            assert_eq!(writable(line), None, "{line}");
        }
    }

    /// Eight MiB that nobody wrote to, and what the system says of them afterwards.
    #[test]
    #[cfg(target_os = "linux")]
    fn the_system_is_asked_once() {
        let memory = Vec::<u8>::with_capacity(8 << 20);
        let address = memory.as_ptr().addr() + (4 << 20);
        let pages = LargePages::default();
        pages.ask(address);
        pages.ask(address + 4096);
        assert_eq!(pages.asked.lock().unwrap_or_else(PoisonError::into_inner).len(), 1);
        let Ok(all) = std::fs::read_to_string("/proc/self/smaps") else { return };
        let mut lines =
            all.lines().skip_while(|line| !writable(line).is_some_and(|range| range.contains(&address)));
        let flags = lines.find_map(|line| line.strip_prefix("VmFlags:")).unwrap_or_default();
        let has_large_ones = std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists();
        assert_eq!(flags.split_ascii_whitespace().any(|flag| flag == "hg"), has_large_ones, "{flags}");
    }
}
