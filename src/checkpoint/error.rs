//! The errors of checkpoints.

use crate::durable;
use crate::recipe::RecipeErrors;
use std::borrow::Borrow;
use std::io;
use std::path::{Path, PathBuf};

/// Why a checkpoint cannot be read, used or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("cannot open {}: {problem}\nhint: {hint}", path.display())]
    NotACheckpoint { path: PathBuf, problem: String, hint: String },
    #[error("cannot read {}: {problem}\n\
             hint: copy or download the file again. If the error remains, mae does not support this file", path.display())]
    Damaged { path: PathBuf, problem: String },
    #[error("cannot read {}: {source}\nhint: make the file readable, then run the same command again", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// This program does not support the network, or the file contains several networks.
    #[error("cannot use {}: {problem}\nhint: {hint}", path.display())]
    Unsupported { path: PathBuf, problem: String, hint: String },
    #[error("cannot load {} into the model: {problem}\nhint: {hint}", path.display())]
    DoesNotFit { path: PathBuf, problem: String, hint: String },
    /// The output format does not support this network.
    #[error("cannot write {}: {problem}\nhint: {hint}", path.display())]
    NoSuchForm { path: PathBuf, problem: String, hint: String },
    /// The command needs a setting that the checkpoint file does not contain.
    #[error(
        "cannot use {}: the file does not store {what}\n\
         hint: pass `--set {key}=...`, or pass the training recipe with `--recipe`",
        path.display()
    )]
    Unstated { path: PathBuf, key: &'static str, what: String },
    #[error(
        "cannot reconstruct images with {}: the checkpoint is {what} without a decoder\n\
         hint: use a pre-training checkpoint, such as `runs/NAME/pretrain/checkpoints/epoch-0800`. The official files \
         `mae_visualize_*` and `mae_pretrain_*_full` also have a decoder",
        path.display()
    )]
    NoDecoder { path: PathBuf, what: &'static str },
    /// Settings are invalid or contradict each other.
    #[error(transparent)]
    Settings(#[from] RecipeErrors),
    #[error("cannot write {}: {source}{}", path.display(), durable::hint(source))]
    Write { path: PathBuf, source: io::Error },
}

impl CheckpointError {
    /// Returns false for a failed write. All other errors come from the user's input (exit code 2).
    pub fn is_input(&self) -> bool {
        !matches!(self, Self::Write { .. })
    }

    /// Converts an I/O error from reading `path`. A wrong checksum becomes [`Self::Damaged`].
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
            hint: "use a checkpoint folder of a run, such as `runs/NAME/finetune/from-0800/checkpoints/epoch-0100`, a \
                   `.pth`, `.pd` or `.safetensors` file, or a Hugging Face folder"
                .to_owned(),
        }
    }
}

/// Joins up to `most` texts for a message: `a, b and 3 more`.
pub(super) fn listed<S: Borrow<str>>(texts: &[S], most: usize) -> String {
    let shown = texts[..texts.len().min(most)].join(", ");
    match texts.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
