//! Checkpoints in several files. An index file such as `model.safetensors.index.json` lists the other files.

use super::CheckpointError;
use crate::durable;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub(super) const INDEXES: [&str; 2] =
    ["model.safetensors.index.json", "pytorch_model.bin.index.json"];
const ENDING: &str = ".index.json";

/// Returns whether `path` is the index file of a sharded checkpoint, such as `model.safetensors.index.json`.
pub(super) fn is_index(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(ENDING))
}

/// Returns the paths of all files that the index file `index` lists, each path once.
pub(super) fn parts(index: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let damaged = |problem: String| CheckpointError::damaged(index, problem);
    let text = durable::read(index).map_err(|e| CheckpointError::unread(index, e))?;
    let json: Value =
        serde_json::from_slice(&text).map_err(|e| damaged(format!("invalid JSON: {e}")))?;
    let map = json["weight_map"].as_object();
    let map = map.ok_or_else(|| damaged("the object `weight_map` is missing".to_owned()))?;
    let mut names = BTreeSet::new();
    for name in map.values() {
        let name = name.as_str().filter(|name| {
            Path::new(name).file_name().is_some_and(|file| file.to_string_lossy() == *name)
        });
        let name = name.ok_or_else(|| {
            damaged("`weight_map` contains a value that is not a file name".to_owned())
        })?;
        names.insert(name);
    }
    let folder = index.parent().unwrap_or(Path::new(""));
    let parts: Vec<PathBuf> = names.into_iter().map(|name| folder.join(name)).collect();
    match parts.iter().find(|part| !part.is_file()) {
        Some(missing) => Err(CheckpointError::NotACheckpoint {
            path: index.to_owned(),
            problem: format!("the file {} of this checkpoint does not exist", missing.display()),
            hint: "copy or download all files of the checkpoint".to_owned(),
        }),
        None if parts.is_empty() => Err(damaged("`weight_map` is empty".to_owned())),
        None => Ok(parts),
    }
}
