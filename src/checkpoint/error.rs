//! What can be wrong with a checkpoint.

use crate::durable;
use std::io;
use std::path::{Path, PathBuf};

/// A checkpoint that cannot be read, does not fit, or cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("{}: {problem}\nhint: {hint}", path.display())]
    NotACheckpoint { path: PathBuf, problem: String, hint: String },
    #[error("{}: {problem}\nhint: it may be cut short or of another kind; take another copy, or another checkpoint", path.display())]
    Damaged { path: PathBuf, problem: String },
    #[error("cannot read {}: {source}\nhint: make the file readable, then run the same command again", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} does not fit: {problem}\nhint: {hint}", path.display())]
    DoesNotFit { path: PathBuf, problem: String, hint: String },
    /// The format asked for has no form for such a checkpoint.
    #[error("{}: {problem}\nhint: {hint}", path.display())]
    NoSuchForm { path: PathBuf, problem: String, hint: String },
    #[error("cannot write {}: {source}{}", path.display(), durable::hint(source))]
    Write { path: PathBuf, source: io::Error },
}

impl CheckpointError {
    /// Whether the user's input is at fault rather than the work.
    pub fn is_input(&self) -> bool {
        !matches!(self, Self::Write { .. })
    }

    /// Tells content that is not what was written from a file that cannot be read now.
    pub(super) fn unread(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::InvalidData => Self::damaged(path, source.to_string()),
            _ => Self::Unreadable { path: path.to_owned(), source },
        }
    }

    pub(super) fn damaged(path: &Path, problem: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), problem: problem.into() }
    }

    pub(super) fn not_one(path: &Path, problem: &str) -> Self {
        Self::NotACheckpoint {
            path: path.to_owned(),
            problem: problem.to_owned(),
            hint: "give a checkpoint folder of a run, as runs/NAME/finetune/from-0800/checkpoints/epoch-0100, \
                   a .pth, .pd or .safetensors file, or a Hugging Face folder"
                .to_owned(),
        }
    }
}
