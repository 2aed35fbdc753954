//! Measures the time of each part of loading.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A step of loading an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadPart {
    /// Reading a file, or copying a picture from memory.
    Read,
    Decode,
    Resize,
    /// Colours, flip, erasing, and normalization on the host.
    Augment,
}

/// Time of each loading step, summed over all threads. A clone shares the sums.
#[derive(Debug, Clone, Default)]
pub struct LoadTimes(Arc<[AtomicU64; 4]>);

impl LoadTimes {
    pub(super) fn time<T>(&self, part: LoadPart, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let result = work();
        let nanos = started.elapsed().as_nanos() as u64;
        self.0[part as usize].fetch_add(nanos, Ordering::Relaxed);
        result
    }

    /// Returns the time of one loading step so far, summed over all threads.
    pub fn of(&self, part: LoadPart) -> Duration {
        Duration::from_nanos(self.0[part as usize].load(Ordering::Relaxed))
    }
}
