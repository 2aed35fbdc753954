//! Makes batches ahead of the caller: workers load chunks, and a thread joins them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use crate::data::batch::Batch;
use crate::data::error::DataError;

use super::pass::EpochPass;
use super::workers::{Workers, guarded};

/// Images that a worker loads at a time: few, to spread a batch over all workers and to stop quickly.
const CHUNK: usize = 8;

/// A thread that joins the workers' chunks into batches and applies mixup, one batch ahead of the caller.
pub(super) struct Prefetcher {
    /// `None` after dropping, which stops the thread.
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
            // `guarded` has turned its panics into errors.
            drop(thread.join());
        }
    }
}

/// Joins the chunks of consecutive micro-steps.
struct Gather {
    workers: Workers<Batch>,
}

impl Gather {
    fn start(workers: usize, pass: &Arc<EpochPass>, steps: Range<usize>) -> Self {
        let chunks = pass.work.batch_size.div_ceil(CHUNK);
        // Two batches, but enough chunks to keep every worker busy.
        let window = (2 * chunks).max(2 * workers);
        let pass = Arc::clone(pass);
        let jobs = steps.start * chunks..steps.end.max(steps.start) * chunks;
        let make = move |job| pass.make(chunk(&pass.places(job / chunks), job % chunks));
        Self { workers: Workers::start(workers, window, jobs, make) }
    }

    fn batch(&mut self, pass: &EpochPass, micro_step: usize) -> Result<Batch, DataError> {
        let mut batch = pass.work.empty(pass.places(micro_step).len());
        for _ in 0..pass.work.batch_size.div_ceil(CHUNK) {
            batch.append(&self.workers.take()?);
        }
        pass.mix(&mut batch, micro_step);
        Ok(batch)
    }
}

/// Returns the `index`-th chunk of the positions of a batch, or an empty range past the end of a short batch.
fn chunk(places: &Range<usize>, index: usize) -> Range<usize> {
    let start = (places.start + index * CHUNK).min(places.end);
    start..(start + CHUNK).min(places.end)
}
