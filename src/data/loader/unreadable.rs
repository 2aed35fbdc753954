//! Finds the images of a split that cannot be read.

use std::sync::Arc;

use crate::data::error::DataError;

use super::Loader;
use super::pass::EpochPass;
use super::workers::Workers;

/// Number of images that a worker loads in one job.
const CHUNK: usize = 16;

impl Loader {
    /// Loads every image of the split once. Returns the unreadable images, as (image index, error).
    ///
    /// The result is sorted by index, or `None` if `stop` returned true. The loader must come from [`Loader::eval`].
    pub fn unreadable(
        &self,
        stop: impl Fn() -> bool,
    ) -> Result<Option<Vec<(usize, DataError)>>, DataError> {
        let pass = EpochPass::new(Arc::clone(&self.work), 1);
        let images = self.work.split.len();
        let chunks = images.div_ceil(CHUNK);
        let mut workers = Workers::start(self.workers, 4 * self.workers, 0..chunks, move |chunk| {
            pass.unreadable(chunk * CHUNK..((chunk + 1) * CHUNK).min(images))
        });
        let mut found = Vec::new();
        for _ in 0..chunks {
            if stop() {
                return Ok(None);
            }
            found.extend(workers.take()?);
        }
        Ok(Some(found))
    }
}
