//! What can be wrong with a checkpoint.

use crate::durable;
use std::io;
use std::path::PathBuf;

/// A checkpoint that cannot be read, does not fit, or cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("{}: {problem}\nhint: {hint}", path.display())]
    NotACheckpoint { path: PathBuf, problem: String, hint: String },
    #[error("{}: {problem}", path.display())]
    Damaged { path: PathBuf, problem: String },
    #[error("{} does not fit this recipe: {problem}\nhint: {hint}", path.display())]
    DoesNotFit { path: PathBuf, problem: String, hint: String },
    #[error("cannot write {}: {source}{}", path.display(), durable::hint(source))]
    Write { path: PathBuf, source: io::Error },
}

impl CheckpointError {
    /// Whether the user's input is at fault rather than the work.
    pub fn is_input(&self) -> bool {
        !matches!(self, Self::Write { .. })
    }
}
