//! The result of `mae data check`, and its CSV table.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::data::error::DataError;
use crate::durable;
use crate::text::csv_rows;

/// The result of `mae data check`.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Checked {
    /// The training split and, if the data has one, the validation split.
    pub splits: Vec<CheckedSplit>,
    /// Problems of the whole data set, such as missing classes or damaged shards.
    pub problems: Vec<String>,
    /// Files that are not images, as (extension, number of files). Counted only in image folders.
    ///
    /// The extension is "" for files without an extension.
    pub left_out: Vec<(String, usize)>,
    /// Number of ignored files, by description such as `hidden files`. The files in `left_out` are not included.
    pub passed_over: BTreeMap<String, u64>,
    /// Notes about tasks for which the data is not suitable, such as fine-tuning without classes.
    ///
    /// The check does not count notes as problems.
    pub notes: Vec<String>,
    /// Number of images in tar shards without checksums; 0 for other formats.
    pub unchecked: usize,
    /// Images with the same bytes in both splits, as `[training file, validation file]`.
    pub in_both: Vec<[PathBuf; 2]>,
    /// Mean of each channel over the training images, for pixel values from 0 to 1.
    pub mean: Vec<f64>,
    /// Standard deviation of each channel over the training images, for pixel values from 0 to 1.
    pub std: Vec<f64>,
    /// Percentiles of the unscaled pixel values in the training files.
    ///
    /// `None` if all files have at most 8 bits and the recipe does not set `data.range`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numbers: Option<Numbers>,
    /// Number of training images that lose precision: they have more than 8 bits, but the recipe does not set
    /// `data.range`.
    #[serde(skip_serializing_if = "is_zero")]
    pub cut_images: usize,
}

/// Percentiles of the unscaled pixel values in the files of a data set.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Numbers {
    /// Suggested `data.range`: `[lowest 0.5 % percentile, highest 99.5 % percentile]` of all channels.
    pub range: [f64; 2],
    /// Whether the percentiles come from a sample of the pixels.
    pub is_sample: bool,
    pub channels: Vec<ChannelNumbers>,
}

/// Percentiles of the unscaled pixel values of one channel.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ChannelNumbers {
    /// Pairs (percentage, pixel value), from 0 % (smallest value) to 100 % (largest value).
    pub percentiles: Vec<(f64, f64)>,
}

/// The result of `mae data check` for one split.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct CheckedSplit {
    pub name: &'static str,
    pub images: usize,
    pub bytes: u64,
    /// Pairs (class name, number of images); empty without classes.
    pub classes: Vec<(String, usize)>,
    /// `[smallest, median, largest]` image width, in pixels.
    pub width: [usize; 3],
    /// `[smallest, median, largest]` image height, in pixels.
    pub height: [usize; 3],
    /// Unusable files, as (path, problem).
    pub bad: Vec<(PathBuf, String)>,
    /// Damaged files that the decoder could still read, as (path, warning).
    pub damaged: Vec<(PathBuf, String)>,
}

impl Checked {
    /// Returns whether the check found a problem or an unusable file.
    pub fn is_bad(&self) -> bool {
        !self.problems.is_empty() || self.splits.iter().any(|split| !split.bad.is_empty())
    }

    /// Writes a CSV table of all problems, and of all unusable, damaged and duplicate files.
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}
