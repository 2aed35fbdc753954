//! The checkpoint folder: `model.safetensors` and `meta.json`.

use super::CheckpointError;
use super::TensorFile;
use crate::durable;
use serde::Deserialize;
use serde::Serialize;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// What a checkpoint is. Everything `eval` and `predict` need to use it, wherever it is moved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// `pretrain`, `finetune` or `linprobe`.
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

/// Makes a checkpoint folder appear, whole.
pub fn publish(folder: &Path, model: &TensorFile, meta: &Meta) -> Result<(), CheckpointError> {
    let meta = serde_json::to_vec_pretty(meta).expect("strings and numbers");
    durable::publish_folder(folder, |folder| {
        durable::write(&folder.join("model.safetensors"), &model.to_bytes())?;
        durable::write(&folder.join("meta.json"), &meta)
    })
    .map_err(|source| CheckpointError::Write { path: folder.into(), source })
}

/// Finds a checkpoint of this project: its folder, or the `model.safetensors` in it. Gives the tensors' path and the meta data.
pub fn find(path: &Path) -> Result<(PathBuf, Meta), CheckpointError> {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
    let (model, meta) = (folder.join("model.safetensors"), folder.join("meta.json"));
    let not = |problem: &str| {
        CheckpointError::NotACheckpoint {
        path: path.into(),
        problem: problem.to_owned(),
        hint: "give a checkpoint folder of a run, as runs/<name>/finetune/from-0800/checkpoints/epoch-0100"
            .to_owned(),
    }
    };
    if !path.exists() {
        return Err(not("there is no such file or folder"));
    }
    if !model.is_file() || !meta.is_file() {
        return Err(not(
            "not a checkpoint folder: model.safetensors and meta.json are expected in it",
        ));
    }
    let text = fs::read_to_string(&meta).map_err(|e| not(&format!("meta.json: {e}")))?;
    let meta = serde_json::from_str(&text).map_err(|e| not(&format!("meta.json: {e}")))?;
    Ok((model, meta))
}
