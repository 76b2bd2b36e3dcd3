//! Results of jobs on their way to the host.

use dreamglass_kernels::exec::GpuTensor;
use dreamglass_kernels::gpu::Gpu;
use dreamglass_kernels::readback::ReadbackRing;
use dreamglass_kernels::submit::Submission;

use crate::error::EngineError;

/// Read-backs in flight: two jobs, and one that the host has not looked at.
const READBACKS: usize = 3;

/// One kind of result that jobs read back when it is wanted.
#[derive(Default)]
pub(super) struct Reads {
    /// Whether it is wanted.
    pub wanted: bool,
    ring: Option<(u64, ReadbackRing)>,
    bytes: Vec<u8>,
}

impl Reads {
    /// Makes room for results of `bytes` where they are wanted. Those of another length that are on
    /// their way are lost.
    pub(super) fn prepare(&mut self, gpu: &Gpu, bytes: u64) -> Result<(), EngineError> {
        if self.wanted && self.ring.as_ref().is_none_or(|(known, _)| *known != bytes) {
            self.ring = None;
            self.ring = Some((bytes, ReadbackRing::new(gpu, bytes, READBACKS)?));
        }
        Ok(())
    }
    /// Lets `submission` bring what is in `tensor` for `job`. False where it is not wanted, or the host
    /// has not fetched the ones before.
    pub(super) fn copy(
        &mut self,
        submission: &mut Submission,
        tensor: &GpuTensor,
        job: u64,
    ) -> Result<bool, EngineError> {
        match &mut self.ring {
            Some((_, ring)) if self.wanted => Ok(submission.copy(tensor, ring, job)?),
            _ => Ok(false),
        }
    }
    /// The result of `job`, which is done; none where it was lost.
    pub(super) fn take(&mut self, job: u64) -> Result<Option<Vec<u8>>, EngineError> {
        let Some((_, ring)) = &mut self.ring else { return Ok(None) };
        // Results of jobs that failed may still come first.
        while let Some(tag) = ring.poll_into(&mut self.bytes)? {
            if tag == job {
                return Ok(Some(self.bytes.clone()));
            }
        }
        Ok(None)
    }
}
