//! The checkpoint folder with `model.safetensors` and `meta.json`. A pre-training also has `optimizer.safetensors`.

use super::{CheckpointError, OptimizerState, TensorFile};
use crate::durable;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// Name of the weights file in a checkpoint folder.
pub(super) const MODEL: &str = "model.safetensors";
const META: &str = "meta.json";
/// Name of the optional file with the optimizer state in a checkpoint folder.
pub(super) const OPTIMIZER: &str = "optimizer.safetensors";

/// The content of `meta.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// The training stage: `pretrain`, `finetune`, `linprobe`, or `encoder` (no decoder and no head).
    pub stage: String,
    /// Number of epochs trained so far.
    pub epoch: usize,
    /// The starting weights: `scratch`, a pre-training epoch, or a checkpoint file. Empty for a pre-training.
    pub from: String,
    pub num_classes: usize,
    pub class_names: Vec<String>,
    /// The resolved recipe of the run, as TOML.
    pub recipe: String,
}

/// Returns the checkpoint folder of epoch `epoch`, such as `job/checkpoints/epoch-0800`.
pub fn epoch_folder(job: &Path, epoch: usize) -> PathBuf {
    job.join("checkpoints").join(format!("epoch-{epoch:04}"))
}

/// Returns whether the checkpoint folder is complete: it has the weights and `meta.json`.
pub fn is_whole(folder: &Path) -> bool {
    [MODEL, META].iter().all(|name| folder.join(name).is_file())
}

/// Writes a checkpoint folder atomically. Does nothing if `folder` is already complete.
pub fn publish(
    folder: &Path,
    model: &TensorFile,
    optimizer: Option<&OptimizerState>,
    meta: &Meta,
) -> Result<(), CheckpointError> {
    let state = optimizer.map(|state| state.to_file(meta.epoch).to_bytes());
    let meta = serde_json::to_vec_pretty(meta).expect("strings and numbers");
    let fill = |folder: &Path| {
        if let Some(state) = &state {
            durable::write(&folder.join(OPTIMIZER), state)?;
        }
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

/// Reads `meta.json` in the folder of the file `weights`.
///
/// Returns `None` if `meta.json` is missing, or if the name of `weights` is not `model.safetensors`.
pub(super) fn meta_beside(weights: &Path) -> Result<Option<Meta>, CheckpointError> {
    let path = weights.with_file_name(META);
    if !path.is_file() || weights.file_name().is_none_or(|name| name != MODEL) {
        return Ok(None);
    }
    let damaged = |problem: String| CheckpointError::damaged(&path, problem);
    let text = durable::read_text(&path).map_err(|e| CheckpointError::unread(&path, e))?;
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|e| damaged(format!("the content is not valid checkpoint metadata: {e}")))
}

/// Returns the latest complete checkpoint folder of a job; `None` if the job has no checkpoints.
pub(super) fn last_epoch(job: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(job.join("checkpoints")).ok()?;
    entries.flatten().map(|entry| entry.path()).filter(|path| is_whole(path)).max()
}
