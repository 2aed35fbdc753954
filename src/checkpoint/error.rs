//! What can be wrong with a checkpoint.

use crate::durable;
use crate::recipe::RecipeErrors;
use std::io;
use std::path::{Path, PathBuf};

/// A checkpoint that cannot be read, does not fit, or cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("{}: {problem}\nhint: {hint}", path.display())]
    NotACheckpoint { path: PathBuf, problem: String, hint: String },
    #[error("{}: {problem}\nhint: it may be cut short or of another kind; take another copy, or another checkpoint", path.display())]
    Damaged { path: PathBuf, problem: String },
    #[error("{} does not fit: {problem}\nhint: {hint}", path.display())]
    DoesNotFit { path: PathBuf, problem: String, hint: String },
    /// The format asked for has no form for such a checkpoint.
    #[error("{}: {problem}\nhint: {hint}", path.display())]
    NoSuchForm { path: PathBuf, problem: String, hint: String },
    /// A setting that the command needs.
    #[error(
        "{} does not say {what}\nhint: set `{key}` with --set {key}=..., or pass the recipe that the model was trained with",
        path.display()
    )]
    Unstated { path: PathBuf, key: &'static str, what: String },
    #[error(
        "{}: {what} cannot reconstruct, because it has no decoder\n\
         hint: use a checkpoint of a pre-training, as runs/NAME/pretrain/checkpoints/epoch-0800; of the official files, \
         mae_visualize_* and mae_pretrain_*_full have a decoder",
        path.display()
    )]
    NoDecoder { path: PathBuf, what: &'static str },
    /// The settings of the checkpoint, of `--recipe` and of `--set` do not go together.
    #[error(transparent)]
    Settings(#[from] RecipeErrors),
    #[error("cannot write {}: {source}{}", path.display(), durable::hint(source))]
    Write { path: PathBuf, source: io::Error },
}

impl CheckpointError {
    /// Whether the user's input is at fault rather than the work.
    pub fn is_input(&self) -> bool {
        !matches!(self, Self::Write { .. })
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
