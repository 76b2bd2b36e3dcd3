//! Where a frame's time goes on the device: timestamps around plans or around every dispatch.
//!
//! A [`Profiler`] owns the queries; [`Submission::profile`](crate::submit::Submission::profile) takes
//! some of them for one submission, and the spans come back as read-backs do, without blocking.

use std::sync::{Arc, Mutex, PoisonError};

use crate::buffer::{Buffer, create};
use crate::error::KernelError;
use crate::exec::Executable;
use crate::gpu::Gpu;
use crate::readback::{Encoded, ReadbackRing, Reservation};

/// Submissions whose spans may be on their way at once.
const DEPTH: usize = 4;
/// Bytes of a timestamp.
const STAMP_BYTES: u64 = 8;

/// What gets a span of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Detail {
    /// Every run of a plan, in a compute pass of its own.
    #[default]
    Stages,
    /// Every dispatch, within the pass that they share; [`Self::Passes`] where the adapter has no
    /// timestamps within a pass.
    Dispatches,
    /// Every dispatch, each in a compute pass of its own: nothing overlaps, and starting a pass is
    /// part of the span.
    Passes,
}

/// A stretch of the device's time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Span {
    /// Name given by [`Submission::stage`](crate::submit::Submission::stage).
    pub stage: String,
    /// Label of the dispatch; the stage's name where the span is a whole stage.
    pub label: String,
    /// Stem of the dispatch's kernel; empty where the span is a whole stage.
    pub kernel: String,
    /// When it began, in nanoseconds of the device's clock: only differences mean anything.
    pub start_ns: f64,
    /// When it ended, in nanoseconds of the device's clock.
    pub end_ns: f64,
    /// Useful floating-point operations.
    pub flops: u64,
    /// Bytes of everything that its dispatches bind: the least they have to move.
    pub bytes: u64,
}

impl Span {
    /// Nanoseconds between beginning and end.
    pub fn duration_ns(&self) -> f64 {
        self.end_ns - self.start_ns
    }
}

/// A span whose times are still indices of queries.
type Mark = (Span, [u32; 2]);

/// Timestamps of one submission at a time.
struct Queries {
    set: wgpu::QuerySet,
    resolved: Buffer,
    marks: Arc<Mutex<Vec<Mark>>>,
}

/// Timestamps of submissions, read back without blocking.
pub struct Profiler {
    ring: ReadbackRing,
    queries: Vec<Queries>,
    count: u32,
    is_within_passes: bool,
    period_ns: f64,
    bytes: Vec<u8>,
}

impl Profiler {
    /// Room for `capacity` spans in each of up to four submissions in flight.
    ///
    /// # Errors
    /// [`KernelError::Unsupported`] when the adapter has no timestamps; [`KernelError::Limit`] when
    /// more than 2048 spans are wanted; [`KernelError::OutOfMemory`].
    pub fn new(gpu: &Gpu, capacity: u32) -> Result<Self, KernelError> {
        let features = gpu.device().features();
        check_features(features, &gpu.summary().name)?;
        let count = 2 * capacity.max(1);
        if count > wgpu::QUERY_SET_MAX_QUERIES {
            let (needed, limit) = (u64::from(count / 2), u64::from(wgpu::QUERY_SET_MAX_QUERIES / 2));
            return Err(KernelError::Limit { what: "a profile's spans".into(), needed, limit });
        }
        let bytes = u64::from(count) * STAMP_BYTES;
        let queries = |_| {
            let (label, ty) = (Some("profile"), wgpu::QueryType::Timestamp);
            let set = gpu.device().create_query_set(&wgpu::QuerySetDescriptor { label, ty, count });
            let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
            Ok(Queries { set, resolved: create(gpu, "profile", bytes, usage)?, marks: Arc::default() })
        };
        Ok(Self {
            ring: ReadbackRing::new(gpu, bytes, DEPTH)?,
            queries: (0..DEPTH).map(queries).collect::<Result<_, KernelError>>()?,
            count,
            is_within_passes: features.contains(wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES),
            period_ns: f64::from(gpu.queue().get_timestamp_period()),
            bytes: Vec::new(),
        })
    }
    /// Spans of the oldest submission that is done, in order; none where none is. Never blocks.
    ///
    /// # Errors
    /// [`KernelError::Device`] when the driver's timestamps make no sense;
    /// [`KernelError::DeviceLost`], [`KernelError::OutOfMemory`] or [`KernelError::Device`] when
    /// something went wrong since the last call.
    pub fn poll(&mut self) -> Result<Option<Vec<Span>>, KernelError> {
        let done = self.ring.poll_into(&mut self.bytes)?;
        done.map(|ix| self.spans(ix)).transpose()
    }
    /// Like [`Self::poll`], but blocks until the oldest submission is done; none when there is none.
    ///
    /// # Errors
    /// See [`Self::poll`] and [`ReadbackRing::wait_into`].
    pub fn wait(&mut self) -> Result<Option<Vec<Span>>, KernelError> {
        let done = self.ring.wait_into(&mut self.bytes)?;
        done.map(|ix| self.spans(ix)).transpose()
    }
    /// Takes queries for one submission; none when all are in use.
    pub(crate) fn begin(&mut self, detail: Detail) -> Result<Option<Recording>, KernelError> {
        let ring_bytes = u64::from(self.count) * STAMP_BYTES;
        let Some(reservation) = self.ring.reserve(ring_bytes)? else { return Ok(None) };
        let queries = &self.queries[reservation.ix()];
        Ok(Some(Recording {
            detail,
            is_within_passes: self.is_within_passes,
            set: queries.set.clone(),
            resolved: queries.resolved.clone(),
            shared: Arc::clone(&queries.marks),
            reservation,
            capacity: self.count,
            used: 0,
            stage: String::new(),
            marks: Vec::new(),
        }))
    }
    fn spans(&self, ix: u64) -> Result<Vec<Span>, KernelError> {
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&self.bytes);
        let marks = std::mem::take(
            &mut *self.queries[ix as usize].marks.lock().unwrap_or_else(PoisonError::into_inner),
        );
        marks.into_iter().map(|mark| timed(mark, &ticks, self.period_ns)).collect()
    }
}

/// Refuses an adapter without timestamps.
fn check_features(features: wgpu::Features, name: &str) -> Result<(), KernelError> {
    if features.contains(wgpu::Features::TIMESTAMP_QUERY) {
        return Ok(());
    }
    let what = format!("{name} has no timestamp queries");
    Err(KernelError::Unsupported { op: "profile".into(), what })
}

fn timed((span, ends): Mark, ticks: &[u64], period_ns: f64) -> Result<Span, KernelError> {
    let [start, end] = ends.map(|ix| ticks[ix as usize]);
    // A driver that writes nothing leaves zeros: no time is better than a wrong one.
    if start == 0 || end < start {
        let message = format!("timestamps of `{}` are {start} and {end}", span.label);
        return Err(KernelError::Device { message });
    }
    Ok(Span { start_ns: start as f64 * period_ns, end_ns: end as f64 * period_ns, ..span })
}

/// Queries taken for one submission.
pub(crate) struct Recording {
    detail: Detail,
    is_within_passes: bool,
    set: wgpu::QuerySet,
    resolved: Buffer,
    shared: Arc<Mutex<Vec<Mark>>>,
    reservation: Reservation,
    capacity: u32,
    used: u32,
    stage: String,
    marks: Vec<Mark>,
}

impl Recording {
    /// Names the stage that following runs belong to.
    pub(crate) fn stage(&mut self, name: &str) {
        name.clone_into(&mut self.stage);
    }
    /// Appends every dispatch of `executable` with timestamps. Leaves a pass open only where
    /// timestamps may be written within it.
    pub(crate) fn run(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        pass: &mut Option<wgpu::ComputePass<'static>>,
        executable: &Executable,
    ) -> Result<(), KernelError> {
        match (self.detail, self.is_within_passes) {
            (Detail::Stages, _) => {
                *pass = None;
                self.run_stage(encoder, executable)
            }
            (Detail::Dispatches, true) => {
                let pass = pass.get_or_insert_with(|| {
                    encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()).forget_lifetime()
                });
                self.run_within(pass, executable)
            }
            (Detail::Dispatches, false) | (Detail::Passes, _) => {
                *pass = None;
                self.run_apart(encoder, executable)
            }
        }
    }
    /// Appends what brings the timestamps to the host.
    pub(crate) fn finish(self, encoder: &mut wgpu::CommandEncoder) -> Encoded {
        if self.used > 0 {
            encoder.resolve_query_set(&self.set, 0..self.used, &self.resolved, 0);
        }
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = self.marks;
        self.reservation.encode(encoder, &self.resolved)
    }

    fn run_stage(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        executable: &Executable,
    ) -> Result<(), KernelError> {
        let ends = self.take(2)?;
        let mut pass = self.timed_pass(encoder, ends);
        for step in executable.steps() {
            step.encode(&mut pass);
        }
        let (stage, work) = (self.stage.clone(), executable.work());
        let (flops, bytes) = (work.iter().map(|w| w.flops).sum(), work.iter().map(|w| w.bytes).sum());
        self.marks.push((Span { label: stage.clone(), stage, flops, bytes, ..Span::default() }, ends));
        Ok(())
    }
    /// One timestamp before the first dispatch and one behind each: spans leave no gap.
    fn run_within(
        &mut self,
        pass: &mut wgpu::ComputePass,
        executable: &Executable,
    ) -> Result<(), KernelError> {
        let count = executable.steps().len() as u32;
        if count == 0 {
            return Ok(());
        }
        let [first, _] = self.take(count + 1)?;
        pass.write_timestamp(&self.set, first);
        for (ix, step) in executable.steps().iter().enumerate() {
            step.encode(pass);
            let start = first + ix as u32;
            pass.write_timestamp(&self.set, start + 1);
            self.mark(executable, ix, [start, start + 1]);
        }
        Ok(())
    }
    fn run_apart(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        executable: &Executable,
    ) -> Result<(), KernelError> {
        for (ix, step) in executable.steps().iter().enumerate() {
            let ends = self.take(2)?;
            step.encode(&mut self.timed_pass(encoder, ends));
            self.mark(executable, ix, ends);
        }
        Ok(())
    }
    fn timed_pass<'e>(
        &self,
        encoder: &'e mut wgpu::CommandEncoder,
        [start, end]: [u32; 2],
    ) -> wgpu::ComputePass<'e> {
        let timestamp_writes = Some(wgpu::ComputePassTimestampWrites {
            query_set: &self.set,
            beginning_of_pass_write_index: Some(start),
            end_of_pass_write_index: Some(end),
        });
        encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes })
    }
    fn mark(&mut self, executable: &Executable, ix: usize, ends: [u32; 2]) {
        let (dispatch, work) = (&executable.plan().dispatches[ix], executable.work()[ix]);
        let span = Span {
            stage: self.stage.clone(),
            label: dispatch.label.clone(),
            kernel: dispatch.variant.stem.to_owned(),
            flops: work.flops,
            bytes: work.bytes,
            ..Span::default()
        };
        self.marks.push((span, ends));
    }
    /// First and last of `count` queries that nobody has written yet.
    fn take(&mut self, count: u32) -> Result<[u32; 2], KernelError> {
        let (needed, limit) = (u64::from(self.used + count), u64::from(self.capacity));
        if needed > limit {
            return Err(KernelError::Limit { what: "a profile's timestamps".into(), needed, limit });
        }
        let first = self.used;
        self.used += count;
        Ok([first, self.used - 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_without_timestamps_is_refused() {
        let refused = check_features(wgpu::Features::IMMEDIATES, "toaster");
        assert!(refused.is_err_and(
            |e| e.to_string() == "profile is not supported here: toaster has no timestamp queries"
        ));
        assert_eq!(check_features(wgpu::Features::TIMESTAMP_QUERY, "toaster"), Ok(()));
    }

    #[test]
    fn timestamps_that_were_not_written_are_no_times() {
        let mark = || (Span { label: "a".into(), ..Span::default() }, [0, 1]);
        let span = timed(mark(), &[1000, 1500], 2.0);
        assert_eq!(span.map(|s| (s.start_ns, s.duration_ns())), Ok((2000.0, 1000.0)));
        assert!(timed(mark(), &[0, 0], 2.0).is_err());
        assert!(timed(mark(), &[1000, 0], 2.0).is_err());
    }
}
