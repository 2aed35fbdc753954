//! Finds the training and validation files of formats with a few large files (tar shards, parquet).

use std::fs;
use std::path::{Path, PathBuf};

use crate::data::decode::image_name::is_image_name;
use crate::data::error::DataError;

use super::found::Labels;
use super::passed_over::{self, PassedOver};
use super::signature::is_compressed_tar;

/// Accepted names of the validation folder, in order of preference. Older versions of this program accepted only `val`.
pub(in crate::data) const VAL_FOLDERS: [&str; 4] = ["val", "validation", "valid", "test"];
/// Subfolders of `data.path` that may contain the files, as in data sets from the Hugging Face Hub.
const INSIDE: [&str; 2] = ["data", "default"];

/// Returns the validation folder of the data set at `path`: the first of [`VAL_FOLDERS`] that exists.
pub(in crate::data) fn val_folder(path: &Path) -> Option<PathBuf> {
    VAL_FOLDERS.iter().map(|name| path.join(name)).find(|folder| folder.is_dir())
}

/// The training and validation files of a data set (tar shards or parquet files), sorted by name.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Shards {
    pub(super) train: Vec<PathBuf>,
    pub(super) val: Vec<PathBuf>,
    /// Whether the validation folder is not named `val`. Older versions of this program ignored such folders.
    pub(super) val_is_new: bool,
    /// Warnings about compressed shards that are ignored, because there are uncompressed shards.
    pub(super) not_read: Vec<String>,
    pub(super) passed_over: PassedOver,
    /// The error about missing validation files, as (folder, problem).
    no_val: Option<(PathBuf, String)>,
}

impl Shards {
    /// Finds the training and validation files with the extension `extension` in the data set at `path`.
    ///
    /// Uses the folder `train/` and the validation folder. Without `train/`, the names of the files in `path` decide:
    ///
    /// - `val` in the name: validation.
    /// - `test` in the name: validation if no file has `val` in the name, otherwise unused.
    /// - Other names: training.
    ///
    /// If `path` has no training files, looks in the subfolders `data` and `default`, as in data sets from the Hugging
    /// Face Hub. Then looks in the only subfolder. Fails with the hint `hint` if there are no training files.
    pub(super) fn find(path: &Path, extension: &str, hint: &str) -> Result<Self, DataError> {
        if !path.is_dir() {
            return Err(DataError::layout(path, "`data.path` is not an existing folder", hint));
        }
        let inside = INSIDE.iter().map(|name| path.join(name)).filter(|folder| folder.is_dir());
        let inside: Vec<PathBuf> = inside.chain(only_folder(path)).collect();
        for folder in std::iter::once(path.to_owned()).chain(inside) {
            let found = Self::sorted(&folder, extension)?;
            if !found.train.is_empty() {
                let no_val = found.val.is_empty().then(|| {
                    (folder, format!("the folder has no `.{extension}` files for validation"))
                });
                return Ok(Self { no_val, ..found });
            }
        }
        let problem = format!("the folder has no `.{extension}` files for training");
        Err(DataError::layout(path, problem, hint))
    }

    /// Returns the files. Also returns an error if classes are needed and the validation files are missing.
    pub(super) fn checked(mut self, labels: Labels, hint: &str) -> (Self, Option<DataError>) {
        let no_val = self.no_val.take().filter(|_| labels == Labels::Needed);
        let error = no_val.map(|(folder, problem)| DataError::layout(&folder, problem, hint));
        (self, error)
    }

    fn sorted(path: &Path, extension: &str) -> Result<Self, DataError> {
        let mut found = Self::default();
        if path.join("train").is_dir() {
            found.train = found.files_in(&path.join("train"), extension)?;
            if let Some(val) = val_folder(path) {
                found.val_is_new = !val.ends_with(VAL_FOLDERS[0]);
                found.val = found.files_in(&val, extension)?;
            }
            return Ok(found);
        }
        let named = |word: &'static str| {
            move |file: &PathBuf| {
                let name = file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
                name.contains(word)
            }
        };
        let (val, rest): (Vec<_>, Vec<_>) =
            found.files_in(path, extension)?.into_iter().partition(named("val"));
        let (test, train): (Vec<_>, Vec<_>) = rest.into_iter().partition(named("test"));
        found.train = train;
        found.val = if val.is_empty() { test } else { val };
        Ok(found)
    }

    /// Returns the files in `folder` with the extension `extension`, sorted by name. Counts the ignored files.
    ///
    /// If all tar files are compressed, returns the compressed files. Reading such a file later fails with a precise
    /// error.
    fn files_in(&mut self, folder: &Path, extension: &str) -> Result<Vec<PathBuf>, DataError> {
        let unreadable = |e| DataError::unreadable(folder, e);
        let (mut files, mut compressed) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let has_extension = path.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension));
            let is_compressed = extension == "tar" && is_compressed_tar(&name);
            if let Some(what) = passed_over::of_no_use(&name) {
                passed_over::count(&mut self.passed_over, what, what, 1);
            } else if has_extension {
                files.push(path);
            } else if is_compressed {
                compressed.push(path);
            }
        }
        files.sort();
        compressed.sort();
        if files.is_empty() {
            return Ok(compressed);
        }
        let text = |file: &PathBuf| {
            format!("{}: the shard is compressed, so mae ignores the shard", file.display())
        };
        self.not_read.extend(compressed.iter().map(text));
        Ok(files)
    }
}

/// Returns the only subfolder of `path`; `None` if there are no subfolders or more than one.
fn only_folder(path: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut folders = entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        passed_over::of_no_use(&name).is_none() && path.is_dir()
    });
    folders.next().filter(|_| folders.next().is_none())
}

/// Detects the value of `data.format` from the files in a folder: `webdataset`, `parquet` or `imagefolder`.
///
/// Ignores tar files next to class folders, because the user may have unpacked the folders from these tar files.
pub fn format_of_files(folder: &Path) -> &'static str {
    let train = folder.join("train");
    if train.is_dir() && has_class_folders(&train) {
        return "imagefolder";
    }
    if train.is_dir() {
        return format_of_places(&[train]);
    }
    let mut places = vec![folder.to_owned()];
    for inside in INSIDE.iter().map(|name| folder.join(name)).chain(only_folder(folder)) {
        places.push(inside.join("train"));
        places.push(inside);
    }
    format_of_places(&places)
}

fn format_of_places(places: &[PathBuf]) -> &'static str {
    for place in places {
        let entries = fs::read_dir(place).into_iter().flatten().flatten();
        let (mut has_tar, mut has_parquet) = (false, false);
        for entry in entries {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().to_lowercase());
            if passed_over::of_no_use(&name).is_some() || path.is_dir() {
                continue;
            }
            let is =
                |known| Path::new(&name).extension().is_some_and(|extension| extension == known);
            has_tar |= is("tar") || is_compressed_tar(&name);
            has_parquet |= is("parquet");
        }
        match (has_tar, has_parquet) {
            (true, _) => return "webdataset",
            (_, true) => return "parquet",
            _ => {}
        }
    }
    "imagefolder"
}

/// Returns whether a subfolder of `folder` contains an image file.
fn has_class_folders(folder: &Path) -> bool {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let has_image = |folder: PathBuf| entries(&folder).any(|file| is_image_name(&file.path()));
    entries(folder).map(|entry| entry.path()).filter(|path| path.is_dir()).any(has_image)
}
