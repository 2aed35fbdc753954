//! Loads the batches of an epoch. Their order and content depend only on the random key of the epoch.
//!
//! Files and classes are sorted, so every image has a fixed index. The sample number of an image combines this index
//! with the repeat number of repeated augmentation. The shuffled order of an epoch depends on (seed, stage, epoch).
//! Crop, flip and erasing depend on (seed, stage, epoch, sample number). Mixup depends on (seed, stage, epoch,
//! micro-step). So neither the number of workers nor an interruption changes a batch.

pub(super) mod bad_files;
pub(super) mod epoch;
mod pass;
mod prefetch;
mod unreadable;
pub(super) mod workers;

use std::sync::Arc;

use crate::data::augment::evaluation::EvalTransform;
use crate::data::augment::mixup::Mixup;
use crate::data::augment::transform::TrainTransform;
use crate::data::error::DataError;
use crate::data::formats::split::Split;
use crate::data::times::LoadTimes;
use crate::random::Key;
use crate::recipe::Threads;

use bad_files::BadFiles;
use epoch::Epoch;
use pass::{LoaderShared, Transform};

pub use pass::Share;

/// Loads the batches of a split, epoch by epoch.
#[derive(Clone)]
pub struct Loader {
    work: Arc<LoaderShared>,
    /// Number of worker threads. With 0, the caller's thread loads the batches.
    workers: usize,
}

impl Loader {
    /// Returns a loader of shuffled, augmented batches. Drops an incomplete last batch.
    ///
    /// Random numbers depend on the seed and stage of `key`. Fails if the split has fewer than `batch_size` images.
    pub fn train(
        split: Arc<dyn Split>,
        transform: TrainTransform,
        mixup: Option<Mixup>,
        batch_size: usize,
        workers: Threads,
        key: Key,
    ) -> Result<Self, DataError> {
        if split.len() < batch_size {
            return Err(DataError::setting(
                format!(
                    "cannot fill a batch of {batch_size} images: the training split has only {} images",
                    split.len()
                ),
                "set a smaller `batch_size`, because mae drops incomplete batches",
            ));
        }
        Ok(Self::new(split, Transform::Train { transform, mixup, key }, batch_size, workers))
    }

    /// Returns a loader of all images in index order. The last batch may be smaller.
    pub fn eval(
        split: Arc<dyn Split>,
        transform: EvalTransform,
        batch_size: usize,
        workers: Threads,
    ) -> Self {
        Self::new(split, Transform::Eval(transform), batch_size, workers)
    }

    fn new(
        split: Arc<dyn Split>,
        transform: Transform,
        batch_size: usize,
        workers: Threads,
    ) -> Self {
        assert!(batch_size > 0, "recipe::resolve rejects a batch_size of 0");
        let workers = if split.is_cheap() { 0 } else { workers::count(workers) };
        let work = LoaderShared {
            levels: split.holds_levels() && transform.ends_in_levels(),
            split,
            transform,
            batch_size,
            share: Share::ALL,
            bad_files: None,
            times: LoadTimes::default(),
        };
        Self { work: Arc::new(work), workers }
    }

    /// Returns a loader that replaces unusable files with other images, up to the limit of `bad_files`.
    #[must_use]
    pub fn skipping_bad_files(self, bad_files: Arc<BadFiles>) -> Self {
        let work = LoaderShared { bad_files: Some(bad_files), ..(*self.work).clone() };
        Self { work: Arc::new(work), ..self }
    }

    /// Returns the time of each loading step, summed over all workers.
    pub fn times(&self) -> &LoadTimes {
        &self.work.times
    }

    /// Returns the number of worker threads, without the caller's thread.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Restricts the loader to the batches of one device.
    ///
    /// The devices of a host divide the worker threads of the host.
    #[must_use]
    pub fn share(self, share: Share) -> Self {
        assert!(share.index < share.of, "the index is below the number of shares");
        let work = LoaderShared { share, ..(*self.work).clone() };
        Self { work: Arc::new(work), workers: self.workers.div_ceil(share.on_this_host) }
    }

    /// Divides the worker threads among this job and `others` more jobs that run at the same time.
    #[must_use]
    pub fn with_parallel_jobs(self, others: usize) -> Self {
        Self { workers: self.workers.div_ceil(1 + others), ..self }
    }

    /// Returns the number of batches per epoch that this loader loads.
    pub fn micro_steps(&self) -> usize {
        let LoaderShared { split, transform, batch_size, share, .. } = &*self.work;
        let all = match transform {
            Transform::Train { .. } => split.len() / batch_size,
            Transform::Eval(_) => split.len().div_ceil(*batch_size),
        };
        all.saturating_sub(share.index).div_ceil(share.of)
    }

    /// Starts loading the epoch number `epoch` (from 1) at micro-step `first_micro_step` (from 0).
    ///
    /// The iterator ends after the first error. Dropping the iterator stops the workers.
    pub fn epoch(&self, epoch: usize, first_micro_step: usize) -> Epoch {
        let steps = first_micro_step..self.micro_steps();
        Epoch::start(Arc::clone(&self.work), epoch, steps, self.workers)
    }
}
