//! Prepares batches before the caller needs them: workers load chunks of images, and another thread joins the chunks.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use crate::data::batch::Batch;
use crate::data::error::DataError;

use super::pass::EpochPass;
use super::workers::{Workers, guarded};

/// Number of images that a worker loads in one job.
const CHUNK: usize = 8;

/// Loads batches in advance on a separate thread.
pub(super) struct Prefetcher {
    /// Receives finished batches. `drop` sets `None`, which stops the thread.
    batches: Option<Receiver<Result<Batch, DataError>>>,
    thread: Option<JoinHandle<()>>,
}

impl Prefetcher {
    pub(super) fn start(workers: usize, pass: &Arc<EpochPass>, steps: Range<usize>) -> Self {
        let (sender, receiver) = sync_channel(1);
        let pass = Arc::clone(pass);
        let thread = thread::spawn(move || {
            let mut gather = Gather::start(workers, &pass, steps.clone());
            for micro_step in steps {
                let batch = guarded(|| gather.batch(&pass, micro_step));
                let failed = batch.is_err();
                if sender.send(batch).is_err() || failed {
                    return;
                }
            }
        });
        Self { batches: Some(receiver), thread: Some(thread) }
    }

    pub(super) fn receive(&mut self) -> Result<Batch, DataError> {
        let received = self.batches.as_ref().and_then(|batches| batches.recv().ok());
        received.unwrap_or_else(|| {
            Err(DataError::Panicked { message: "the loader returned no batch".to_owned() })
        })
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // The thread does not panic, because `guarded` turns panics into errors.
            drop(thread.join());
        }
    }
}

/// Joins chunks of images into batches, and applies mixup.
struct Gather {
    workers: Workers<Batch>,
}

impl Gather {
    fn start(workers: usize, pass: &Arc<EpochPass>, steps: Range<usize>) -> Self {
        let chunks = pass.work.batch_size.div_ceil(CHUNK);
        // Keep at most two batches in memory. Allow more if some workers would otherwise have no job.
        let window = (2 * chunks).max(2 * workers);
        let pass = Arc::clone(pass);
        let jobs = steps.start * chunks..steps.end.max(steps.start) * chunks;
        let make = move |job| pass.make(chunk(&pass.places(job / chunks), job % chunks));
        Self { workers: Workers::start(workers, window, jobs, make) }
    }

    fn batch(&mut self, pass: &EpochPass, micro_step: usize) -> Result<Batch, DataError> {
        let mut batch = pass.empty(micro_step);
        for _ in 0..pass.work.batch_size.div_ceil(CHUNK) {
            batch.append(&self.workers.take()?);
        }
        pass.mix(&mut batch, micro_step);
        Ok(batch)
    }
}

/// Returns the positions of the images in chunk `index` of a batch.
///
/// Returns an empty range if the last batch has fewer chunks.
fn chunk(places: &Range<usize>, index: usize) -> Range<usize> {
    let start = (places.start + index * CHUNK).min(places.end);
    start..(start + CHUNK).min(places.end)
}
