//! The result of `mae data check`, and its CSV table.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::data::error::DataError;
use crate::durable;
use crate::text::csv_rows;

/// The result of `mae data check`.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Checked {
    /// The training split, and the validation split if the data has one.
    pub splits: Vec<CheckedSplit>,
    /// Problems of the data set as a whole: missing classes, damaged shards, missing samples.
    pub problems: Vec<String>,
    /// In an image folder, the number of files that are not images, by extension.
    ///
    /// The extension is "" for files without an extension.
    pub left_out: Vec<(String, usize)>,
    /// Number of other files that no split uses, by description, such as hidden files.
    pub passed_over: BTreeMap<String, u64>,
    /// What the data cannot be used for, such as a fine-tuning without classes. This is no problem.
    pub notes: Vec<String>,
    /// Number of images in tar shards without checksums; 0 for other formats.
    pub unchecked: usize,
    /// Images with the same bytes in both splits: the file in `train`, then the file in `val`.
    pub in_both: Vec<[PathBuf; 2]>,
    /// Mean of each channel over the training images, for pixel values in 0..1. Every image has the same weight.
    pub mean: Vec<f64>,
    /// Standard deviation of each channel, computed like `mean`.
    pub std: Vec<f64>,
}

/// The result of `mae data check` for one split.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct CheckedSplit {
    pub name: &'static str,
    pub images: usize,
    pub bytes: u64,
    /// Number of images of each class, by class name; empty if the images have no classes.
    pub classes: Vec<(String, usize)>,
    /// Smallest, median and largest width in pixels.
    pub width: [usize; 3],
    /// Smallest, median and largest height in pixels.
    pub height: [usize; 3],
    /// Unusable files: (path, problem).
    pub bad: Vec<(PathBuf, String)>,
    /// Damaged files that the decoder repaired: (path, warning of the decoder).
    pub damaged: Vec<(PathBuf, String)>,
}

impl Checked {
    /// Returns whether the check found a problem or an unusable file, so that a run would stop or skip files.
    pub fn is_bad(&self) -> bool {
        !self.problems.is_empty() || self.splits.iter().any(|split| !split.bad.is_empty())
    }

    /// Writes all problems, unusable files, damaged files and duplicate files as CSV.
    ///
    /// The columns are `finding,split,file,detail`.
    pub fn write_csv(&self, path: &Path) -> Result<(), DataError> {
        let row = |finding: &str, split: &str, file: &Path, detail: &str| {
            [finding, split, &file.display().to_string(), detail].map(str::to_owned)
        };
        let mut rows = vec![row("finding", "split", Path::new("file"), "detail")];
        rows.extend(self.problems.iter().map(|problem| row("problem", "", Path::new(""), problem)));
        for split in &self.splits {
            for (finding, files) in [("bad", &split.bad), ("damaged", &split.damaged)] {
                rows.extend(files.iter().map(|(file, why)| row(finding, split.name, file, why)));
            }
        }
        rows.extend(
            self.in_both
                .iter()
                .map(|[train, val]| row("in both", "train", train, &val.display().to_string())),
        );
        let bytes = csv_rows(rows, csv::Terminator::Any(b'\n'));
        durable::write_output(path, &bytes).map_err(|e| DataError::unwritable(path, e))
    }
}
