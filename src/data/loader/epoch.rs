use std::ops::Range;
use std::sync::Arc;

use crate::data::batch::Batch;
use crate::data::error::DataError;

use super::pass::{EpochPass, LoaderShared};
use super::prefetch::Prefetcher;

/// An iterator over the batches of an epoch.
pub struct Epoch {
    pass: Arc<EpochPass>,
    steps: Range<usize>,
    making: Making,
}

enum Making {
    /// No worker threads: `next` loads the batch in the caller's thread.
    Here,
    Prefetcher(Prefetcher),
}

impl Epoch {
    /// Starts loading the batches of the micro-steps `steps` on `workers` threads.
    ///
    /// With 0 workers, `next` loads the batches in the caller's thread.
    pub(super) fn start(
        work: Arc<LoaderShared>,
        epoch: usize,
        steps: Range<usize>,
        workers: usize,
    ) -> Self {
        let pass = Arc::new(EpochPass::new(work, epoch));
        let making = match workers {
            0 => Making::Here,
            workers => Making::Prefetcher(Prefetcher::start(workers, &pass, steps.clone())),
        };
        Self { pass, steps, making }
    }
}

impl Iterator for Epoch {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let micro_step = self.steps.next()?;
        let batch = match &mut self.making {
            Making::Here => self.pass.batch(micro_step),
            Making::Prefetcher(ahead) => ahead.receive(),
        };
        if batch.is_err() {
            self.steps = 0..0;
        }
        Some(batch)
    }
}
