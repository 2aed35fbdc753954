//! The checkpoint folder: `model.safetensors` and `meta.json`.

use super::{CheckpointError, TensorFile};
use crate::durable;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// The weights in a checkpoint's folder, and what they are.
pub(super) const MODEL: &str = "model.safetensors";
const META: &str = "meta.json";

/// What a checkpoint is. Everything `eval` and `predict` need to use it, wherever it is moved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// `pretrain`, `finetune`, `linprobe`, or `encoder` for an encoder alone.
    pub stage: String,
    /// Epochs it has seen.
    pub epoch: usize,
    /// What it started from: `scratch`, an epoch of the pre-training, a file; empty for a pre-training.
    pub from: String,
    pub num_classes: usize,
    pub class_names: Vec<String>,
    /// The run's resolved recipe, as TOML.
    pub recipe: String,
}

/// Gives the folder of the checkpoint that has seen `epoch` epochs, below a job's folder.
pub fn epoch_folder(job: &Path, epoch: usize) -> PathBuf {
    job.join("checkpoints").join(format!("epoch-{epoch:04}"))
}

/// Whether a checkpoint is there with all its files; somebody may have removed one.
pub fn is_whole(folder: &Path) -> bool {
    [MODEL, META].iter().all(|name| folder.join(name).is_file())
}

/// Makes a checkpoint folder appear, whole. A folder that is there stays as it is; only if one of its two files is missing, both
/// are written again.
pub fn publish(folder: &Path, model: &TensorFile, meta: &Meta) -> Result<(), CheckpointError> {
    let meta = serde_json::to_vec_pretty(meta).expect("strings and numbers");
    let fill = |folder: &Path| {
        durable::write(&folder.join(MODEL), &model.to_bytes())?;
        durable::write(&folder.join(META), &meta)
    };
    let written = match (folder.is_dir(), is_whole(folder)) {
        (true, true) => Ok(()),
        (true, false) => fill(folder),
        (false, _) => durable::publish_folder(folder, fill),
    };
    written.map_err(|source| CheckpointError::Write { path: folder.into(), source })
}

/// Reads the `meta.json` beside a file of weights; nothing where there is none.
pub(super) fn meta_beside(weights: &Path) -> Result<Option<Meta>, CheckpointError> {
    let path = weights.with_file_name(META);
    if !path.is_file() || weights.file_name().is_none_or(|name| name != MODEL) {
        return Ok(None);
    }
    let damaged = |problem: String| CheckpointError::damaged(&path, problem);
    let text = durable::read_text(&path).map_err(|e| CheckpointError::unread(&path, e))?;
    serde_json::from_str(&text).map(Some).map_err(|e| damaged(format!("not a checkpoint's: {e}")))
}

/// The latest checkpoint in a job's folder.
pub(super) fn last_epoch(job: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(job.join("checkpoints")).ok()?;
    entries.flatten().map(|entry| entry.path()).filter(|path| is_whole(path)).max()
}
