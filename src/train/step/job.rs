//! A job: its folder, the settings that it gets from the run, and how it ends.

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
    /// The user stopped the job. The next start of the run resumes the job from the saved state.
    Interrupted,
}

/// Name, folder and checkpoint metadata of a job.
#[derive(Clone)]
pub struct JobDir {
    /// Folder relative to the run folder, such as `finetune/from-0800`.
    pub name: String,
    pub path: PathBuf,
    /// Metadata of the job's checkpoints. Each save sets `epoch`.
    pub meta: Meta,
}

impl JobDir {
    /// Removes the saved state of a finished job.
    ///
    /// Fails if the job's `epochs.csv` lacks a row.
    pub(crate) fn finish(&self, epochs: usize) -> Result<(), TrainError> {
        EpochsCsv::in_job(&self.path).check_reaches(epochs)?;
        for path in [self.resume_file(), self.previous_state()] {
            durable::remove(&path).map_err(|source| RunError::Io { path, source })?;
        }
        Ok(())
    }

    /// Renames the saved state to `previous-resume.safetensors`, so that the next save does not replace it.
    pub(crate) fn keep_previous_state(&self) -> Result<(), RunError> {
        let (newest, previous) = (self.resume_file(), self.previous_state());
        durable::rename(&newest, &previous).map_err(|source| RunError::Io { path: newest, source })
    }

    /// Returns the newest saved state that is not damaged.
    pub(crate) fn saved_state(&self) -> Result<Option<SavedState>, RunError> {
        let (newest, previous) = (self.resume_file(), self.previous_state());
        if !newest.exists() {
            return Ok(previous.exists().then_some(SavedState { path: previous, warning: None }));
        }
        match durable::verify(&newest) {
            Ok(_) => Ok(Some(SavedState { path: newest, warning: None })),
            Err(error) if error.kind() == ErrorKind::InvalidData && previous.exists() => {
                let warning = format!(
                    "{} is damaged ({error}), so the job resumes from the previous state, {}",
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

/// A rank with its worker threads and its step timer.
pub struct RankContext {
    pub rank: Rank,
    pub replicas: Replicas,
    pub timer: StepTimer,
}

/// A saved state to resume from, and a warning for the user if a newer state is damaged.
pub(crate) struct SavedState {
    pub path: PathBuf,
    pub warning: Option<String>,
}

/// What a job gets from its run: rank, stop flag and callbacks.
pub struct JobContext {
    pub rank_context: RankContext,
    pub stop: StopFlag,
    pub observer: Observer,
    /// Called after each new row of `epochs.csv`.
    pub row_written: RowWritten,
    /// Callback on the first rank of each host after a pre-training checkpoint that is kept.
    pub checkpoint_kept: RowWritten,
}

/// A function that measures new checkpoints, or updates the accuracy tables of the run.
pub type RowWritten = Arc<dyn Fn() -> Result<(), TrainError> + Send + Sync>;

impl JobContext {
    /// Reports an event to the run. Only rank 0 reports events.
    pub(crate) fn tell(&self, event: Event<'_>) {
        if self.rank_context.rank.is_first() {
            (self.observer)(event);
        }
    }
}
