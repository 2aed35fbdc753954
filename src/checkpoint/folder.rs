//! The checkpoint folder: `model.safetensors` and `meta.json`.

use super::CheckpointError;
use super::TensorFile;
use crate::durable;
use serde::Deserialize;
use serde::Serialize;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// The weights in a checkpoint's folder, and what they are.
const MODEL: &str = "model.safetensors";
const META: &str = "meta.json";

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

/// Whether a checkpoint is there with all its files; somebody may have removed one.
pub fn is_whole(folder: &Path) -> bool {
    [MODEL, META].iter().all(|name| folder.join(name).is_file())
}

/// Makes a checkpoint folder appear, whole. One that is there stays as it is, unless a file of it is gone.
pub fn publish(folder: &Path, model: &TensorFile, meta: &Meta) -> Result<(), CheckpointError> {
    let meta = serde_json::to_vec_pretty(meta).expect("strings and numbers");
    let remains = folder.is_dir() && !is_whole(folder);
    if remains { fs::remove_dir_all(folder) } else { Ok(()) }
        .and_then(|()| {
            durable::publish_folder(folder, |folder| {
                durable::write(&folder.join(MODEL), &model.to_bytes())?;
                durable::write(&folder.join(META), &meta)
            })
        })
        .map_err(|source| CheckpointError::Write { path: folder.into(), source })
}

/// The latest checkpoint in a job's folder.
fn last_epoch(job: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(job.join("checkpoints")).ok()?;
    entries.flatten().map(|entry| entry.path()).filter(|path| is_whole(path)).max()
}

/// Finds a checkpoint of this project: its folder, or the `model.safetensors` in it. Gives the tensors' path and the meta data.
pub fn find(path: &Path) -> Result<(PathBuf, Meta), CheckpointError> {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
    let (model, meta) = (folder.join(MODEL), folder.join(META));
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
    if let Some(last) = last_epoch(path) {
        return Err(not(&format!("a job's folder; its last checkpoint is {}", last.display())));
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
