//! The errors of checkpoints.

use crate::durable;
use crate::recipe::RecipeErrors;
use std::io;
use std::path::{Path, PathBuf};

/// Reasons why a checkpoint cannot be read, used or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("cannot open {}: {problem}\nhint: {hint}", path.display())]
    NotACheckpoint { path: PathBuf, problem: String, hint: String },
    #[error("cannot read {}: {problem}\nhint: copy or download it again; the file may be truncated, or its format unsupported", path.display())]
    Damaged { path: PathBuf, problem: String },
    #[error("cannot read {}: {source}\nhint: make the file readable, then run the same command again", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} does not fit the model: {problem}\nhint: {hint}", path.display())]
    DoesNotFit { path: PathBuf, problem: String, hint: String },
    /// The format cannot represent the checkpoint.
    #[error("cannot write {}: {problem}\nhint: {hint}", path.display())]
    NoSuchForm { path: PathBuf, problem: String, hint: String },
    /// The command needs a setting that the file does not contain.
    #[error(
        "{} does not say {what}\nhint: set `{key}` with --set {key}=..., or pass the recipe of the training with --recipe",
        path.display()
    )]
    Unstated { path: PathBuf, key: &'static str, what: String },
    #[error(
        "{}: {what} cannot reconstruct, because it has no decoder\n\
         hint: use a checkpoint of a pre-training, such as runs/NAME/pretrain/checkpoints/epoch-0800; of the official files, \
         mae_visualize_* and mae_pretrain_*_full have a decoder",
        path.display()
    )]
    NoDecoder { path: PathBuf, what: &'static str },
    /// The settings of the checkpoint, `--recipe` and `--set` are invalid or contradict each other.
    #[error(transparent)]
    Settings(#[from] RecipeErrors),
    #[error("cannot write {}: {source}{}", path.display(), durable::hint(source))]
    Write { path: PathBuf, source: io::Error },
}

impl CheckpointError {
    /// Returns whether the user's input is at fault (exit code 2). Otherwise the work itself failed (exit code 1).
    pub fn is_input(&self) -> bool {
        !matches!(self, Self::Write { .. })
    }

    /// Converts a read error: `InvalidData` (wrong checksum) means a damaged file, others mean that the file is
    /// unreadable.
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
            hint: "use a checkpoint folder of a run, such as runs/NAME/finetune/from-0800/checkpoints/epoch-0100, \
                   a .pth, .pd or .safetensors file, or a Hugging Face folder"
                .to_owned(),
        }
    }
}
