//! Finds the training and validation files of formats with a few large files (tar shards, parquet).

use std::fs;
use std::path::{Path, PathBuf};

use crate::data::error::DataError;

use super::found::Labels;

/// The training and validation files of a data set, sorted by name.
#[derive(Debug, PartialEq)]
pub(super) struct Shards {
    pub(super) train: Vec<PathBuf>,
    pub(super) val: Vec<PathBuf>,
}

impl Shards {
    /// Finds the files with the given extension in the subfolders `train/` and `val/`.
    ///
    /// If `train/` is missing, the names of the files in `path` decide the split:
    ///
    /// - `val` in the name: validation.
    /// - `test` in the name: validation if no name has `val`, otherwise unused.
    /// - Other names: training.
    pub(super) fn find(
        path: &Path,
        extension: &str,
        labels: Labels,
        hint: &str,
    ) -> Result<Self, DataError> {
        if !path.is_dir() {
            return Err(DataError::layout(path, "the folder does not exist (`data.path`)", hint));
        }
        let found = Self::sorted(path, extension)?;
        let needs_val = labels == Labels::Needed && found.val.is_empty();
        for (missing, what) in [(found.train.is_empty(), "training"), (needs_val, "validation")] {
            if missing {
                return Err(DataError::layout(
                    path,
                    format!("the folder has no `.{extension}` files for {what}"),
                    hint,
                ));
            }
        }
        Ok(found)
    }

    fn sorted(path: &Path, extension: &str) -> Result<Self, DataError> {
        if path.join("train").is_dir() {
            let val = path.join("val");
            return Ok(Self {
                train: files_in(&path.join("train"), extension)?,
                val: if val.is_dir() { files_in(&val, extension)? } else { Vec::new() },
            });
        }
        let named = |word: &'static str| {
            move |file: &PathBuf| {
                let name = file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
                name.contains(word)
            }
        };
        let (val, rest): (Vec<_>, Vec<_>) =
            files_in(path, extension)?.into_iter().partition(named("val"));
        let (test, train): (Vec<_>, Vec<_>) = rest.into_iter().partition(named("test"));
        Ok(Self { train, val: if val.is_empty() { test } else { val } })
    }
}

fn files_in(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, DataError> {
    let unreadable = |e| DataError::unreadable(folder, e);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension)) && !hidden {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
