//! Times the parts of a training step; off unless a bench asks.

use burn::tensor::Device;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A part of a training step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepPart {
    /// Waiting for the loader.
    Data,
    Forward,
    /// With gradient checkpointing what it recomputes, too.
    Backward,
    Communication,
    /// Clipping included.
    Optimizer,
}

/// How many [`StepPart`]s there are.
const PARTS: usize = 5;

/// Adds up the time of each part, over all threads that do it. Clones share the sums.
#[derive(Debug, Clone, Default)]
pub struct StepTimer(Option<Arc<[AtomicU64; PARTS]>>);

impl StepTimer {
    /// A running one. It waits for the device at the end of every part, which a run does not: steps get slower.
    pub fn running() -> Self {
        Self(Some(Arc::default()))
    }

    pub(crate) fn is_running(&self) -> bool {
        self.0.is_some()
    }

    /// Does `work` and adds its time, the device's included, to `part`.
    pub(crate) fn time<T>(&self, part: StepPart, device: &Device, work: impl FnOnce() -> T) -> T {
        let Some(sums) = &self.0 else { return work() };
        let started = Instant::now();
        let result = work();
        // An error appears again when the result is read.
        let _ = device.sync();
        sums[part as usize].fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
        result
    }

    /// Adds time that was measured elsewhere.
    pub(crate) fn add(&self, part: StepPart, time: Duration) {
        if let Some(sums) = &self.0 {
            sums[part as usize].fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
        }
    }

    /// What was added up since the last time it was asked.
    pub fn take(&self, part: StepPart) -> Duration {
        let sum = self.0.as_ref().map_or(0, |sums| sums[part as usize].swap(0, Ordering::Relaxed));
        Duration::from_nanos(sum)
    }
}
