//! A job: its folder, what its loop works with, and how it ends.

use crate::checkpoint::Meta;
use crate::durable;
use crate::infer::StopFlag;
use crate::results::{EpochsCsv, RunError};
use crate::train::{Event, Observer, RankContext, TrainError};
use std::path::PathBuf;
use std::sync::Arc;

/// How a job came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEnd {
    Done,
    /// Stopped by the user; saved, and to be resumed.
    Interrupted,
}

/// A job's place on the disk and in the run.
pub struct JobDir {
    /// Relative to the run's folder, as `finetune/from-0800`.
    pub name: String,
    pub path: PathBuf,
    /// What its checkpoints say of themselves; `epoch` is filled in.
    pub meta: Meta,
}

impl JobDir {
    /// Removes what only an unfinished job needs.
    pub(crate) fn finish(&self, epochs: usize) -> Result<(), TrainError> {
        EpochsCsv::in_job(&self.path).check_reaches(epochs)?;
        let path = self.resume_file();
        durable::remove(&path).map_err(|source| RunError::Io { path, source })?;
        Ok(())
    }

    pub(crate) fn resume_file(&self) -> PathBuf {
        self.path.join("resume.safetensors")
    }
}

/// What a loop works with beside the stage.
pub struct JobContext {
    pub rank_context: RankContext,
    pub stop: StopFlag,
    pub observer: Observer,
    /// Called after an epoch's row is written, to bring the run's tables up to date.
    pub row_written: RowWritten,
}

/// Brings a run's tables up to date.
pub type RowWritten = Arc<dyn Fn() -> Result<(), RunError> + Send + Sync>;

impl JobContext {
    /// Tells what happened, once for all ranks.
    pub(crate) fn tell(&self, event: Event<'_>) {
        if self.rank_context.rank.is_first() {
            (self.observer)(event);
        }
    }
}
