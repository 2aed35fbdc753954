//! A job: its folder, its connection to the run, and how it ends.

use super::step_timer::StepTimer;
use crate::checkpoint::Meta;
use crate::durable;
use crate::infer::{Replicas, StopFlag};
use crate::results::{EpochsCsv, Remedy, RunError};
use crate::train::devices::Rank;
use crate::train::error::TrainError;
use crate::train::events::{Event, Observer};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEnd {
    Done,
    /// The user stopped the job. The next start resumes from the saved state.
    Interrupted,
}

/// The name, the folder and the checkpoint metadata of a job.
#[derive(Clone)]
pub struct JobDir {
    /// Path relative to the run folder, for example `finetune/from-0800`.
    pub name: String,
    pub path: PathBuf,
    /// Metadata of the job's checkpoints. Each save fills in `epoch`.
    pub meta: Meta,
}

impl JobDir {
    /// Removes the saved state of a finished job.
    ///
    /// Fails if an epoch is missing in the job's `epochs.csv`.
    pub(crate) fn finish(&self, epochs: usize) -> Result<(), TrainError> {
        EpochsCsv::in_job(&self.path).check_reaches(epochs)?;
        for path in [self.resume_file(), self.previous_state()] {
            durable::remove(&path).map_err(|source| RunError::Io { path, source })?;
        }
        Ok(())
    }

    /// Renames the saved state to `previous-resume.safetensors`, before the next save.
    pub(crate) fn keep_previous_state(&self) -> Result<(), RunError> {
        let (newest, previous) = (self.resume_file(), self.previous_state());
        durable::rename(&newest, &previous).map_err(|source| RunError::Io { path: newest, source })
    }

    /// Returns the newest undamaged state to resume from.
    pub(crate) fn saved_state(&self) -> Result<Option<SavedState>, RunError> {
        let (newest, previous) = (self.resume_file(), self.previous_state());
        if !newest.exists() {
            return Ok(previous.exists().then_some(SavedState { path: previous, warning: None }));
        }
        match durable::verify(&newest) {
            Ok(_) => Ok(Some(SavedState { path: newest, warning: None })),
            Err(error) if error.kind() == ErrorKind::InvalidData && previous.exists() => {
                let warning = format!(
                    "{} is damaged ({error}): the job resumes from the previous state, {}",
                    newest.display(),
                    previous.display()
                );
                Ok(Some(SavedState { path: previous, warning: Some(warning) }))
            }
            Err(error) if error.kind() == ErrorKind::InvalidData => Err(RunError::Damaged {
                path: newest,
                problem: error.to_string(),
                way_on: Remedy::RemoveIt,
            }),
            Err(source) => Err(RunError::Unreadable { path: newest, source }),
        }
    }

    /// Returns whether the job has a saved state to resume from.
    pub(crate) fn has_state(&self) -> bool {
        self.resume_file().exists() || self.previous_state().exists()
    }

    fn previous_state(&self) -> PathBuf {
        self.path.join("previous-resume.safetensors")
    }

    pub(crate) fn resume_file(&self) -> PathBuf {
        self.path.join("resume.safetensors")
    }
}

/// A rank, its worker threads, and its step timer.
pub struct RankContext {
    pub rank: Rank,
    pub replicas: Replicas,
    pub timer: StepTimer,
}

/// A saved state to resume from, and a warning for the user.
pub(crate) struct SavedState {
    pub path: PathBuf,
    pub warning: Option<String>,
}

/// What a training loop gets from the run: rank, stop flag and callbacks.
pub struct JobContext {
    pub rank_context: RankContext,
    pub stop: StopFlag,
    pub observer: Observer,
    /// Callback after each new row in `epochs.csv`.
    pub row_written: RowWritten,
    /// Callback on the first rank of each host after a pre-training checkpoint that is kept.
    pub checkpoint_kept: RowWritten,
}

/// A function that measures new checkpoints, or updates the accuracy tables of the run.
pub type RowWritten = Arc<dyn Fn() -> Result<(), TrainError> + Send + Sync>;

impl JobContext {
    /// Reports an event, if this is rank 0.
    pub(crate) fn tell(&self, event: Event<'_>) {
        if self.rank_context.rank.is_first() {
            (self.observer)(event);
        }
    }
}
