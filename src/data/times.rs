//! What the loader's time goes into.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A part of making an image ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadPart {
    /// A file's bytes, or a picture out of memory.
    Read,
    Decode,
    Resize,
    /// Colours, flip, erasing, and normalization where it is done on the host.
    Augment,
}

/// Sums over all threads. Clones share them.
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

    /// What was added up so far.
    pub fn of(&self, part: LoadPart) -> Duration {
        Duration::from_nanos(self.0[part as usize].load(Ordering::Relaxed))
    }
}
