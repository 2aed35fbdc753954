//! Measures how long each part of a training step takes, for `mae bench`.

use burn::tensor::Device;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A part of a training step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepPart {
    /// Time in which the training thread waits for the data loader.
    Data,
    Forward,
    /// Backward pass, including the recomputation of gradient checkpointing.
    Backward,
    Communication,
    /// Gradient clipping and optimizer update.
    Optimizer,
}

const PARTS: usize = 5;

/// Sums the time of each part of a training step over all threads.
///
/// Clones share the sums. `StepTimer::default()` measures nothing.
#[derive(Debug, Clone, Default)]
pub struct StepTimer(Option<Arc<[AtomicU64; PARTS]>>);

impl StepTimer {
    /// Returns a timer that measures.
    ///
    /// The timer waits for the device after each part. So steps take longer than in a normal run.
    pub fn running() -> Self {
        Self(Some(Arc::default()))
    }

    pub(crate) fn is_running(&self) -> bool {
        self.0.is_some()
    }

    /// Runs `work`, waits for `device`, and adds the elapsed time to `part`.
    pub(crate) fn time<T>(&self, part: StepPart, device: &Device, work: impl FnOnce() -> T) -> T {
        let Some(sums) = &self.0 else { return work() };
        let started = Instant::now();
        let result = work();
        // An error of the device is reported again when the result is read.
        let _ = device.sync();
        sums[part as usize].fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
        result
    }

    /// Adds a measured time to `part`.
    pub(crate) fn add(&self, part: StepPart, time: Duration) {
        if let Some(sums) = &self.0 {
            sums[part as usize].fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
        }
    }

    /// Returns the total time of `part`, and sets it to zero.
    pub fn take(&self, part: StepPart) -> Duration {
        let sum = self.0.as_ref().map_or(0, |sums| sums[part as usize].swap(0, Ordering::Relaxed));
        Duration::from_nanos(sum)
    }
}
