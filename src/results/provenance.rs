//! `provenance.json`: program version, device, data and settings of a run.

use super::error::RunError;
use crate::durable::Content;
use crate::recipe::{Layout, Pace};
use crate::shape::StageKind;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The content of `provenance.json`: version, device, data and settings of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Version of mae.
    pub version: String,
    /// Git commit of mae. Empty if mae was built outside a Git repository.
    pub commit: String,
    pub command_line: Vec<String>,
    /// Name of the device, such as the model of the GPU.
    pub device: String,
    /// Number of devices per host.
    pub devices: usize,
    /// Names of the hosts that train together, host 0 first. Empty for a single host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    pub precision: String,
    /// Number of CPU threads for computing. The results do not depend on this number.
    pub threads: usize,
    pub seed: u64,
    pub data_fingerprint: String,
    /// Number of images in the validation split, without skipped images.
    ///
    /// `None` without a validation split, and in runs of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_images: Option<usize>,
    /// Number of unreadable validation images that the accuracies leave out.
    ///
    /// `None` unless `data.bad_val` is "skip".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_skipped: Option<usize>,
    /// How the images were changed before training, for example resized. Empty if unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub data_note: String,
    /// Checkpoint files that jobs start from, such as `finetune.from` or `pretrain.resume`.
    ///
    /// Empty in runs of older versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub start_files: Vec<StartFile>,
    /// Jobs that failed and have not been repeated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_jobs: Vec<FailedJobNote>,
    /// All layouts of the run (devices, `batch_size`, `accum_iter`), oldest first.
    ///
    /// May be empty in runs of older versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layouts: Vec<StartLayout>,
    /// Time of the last start of the run, in seconds since 1970.
    pub started_unix_s: u64,
    /// Time when the run finished, in seconds since 1970; `None` if unfinished.
    pub finished_unix_s: Option<u64>,
}

/// A layout of a run, with the time of the first start that used this layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartLayout {
    /// Time of the start, in seconds since 1970.
    pub started_unix_s: u64,
    /// Devices, `batch_size` and `accum_iter`.
    #[serde(flatten)]
    pub layout: Layout,
}

impl StartLayout {
    /// Returns how often the learning rate of a stage changes within an epoch.
    ///
    /// The first layout with this stage determines the result. So resuming with a different layout keeps the learning
    /// rates.
    pub fn pace(layouts: &[Self], stage: StageKind) -> Option<Pace> {
        layouts.iter().find_map(|start| start.layout.pace(stage))
    }
}

/// A failed job, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedJobNote {
    /// Folder of the job in the run folder, such as `finetune/from-0800`.
    pub job: String,
    pub reason: String,
}

/// A checkpoint file that a job starts from, with its recorded length and hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFile {
    /// Folder of the job in the run folder, such as `finetune/from-vit.pth`.
    pub job: String,
    /// Path of the checkpoint file. For a checkpoint folder, the path of a file in the folder.
    pub path: PathBuf,
    pub bytes: u64,
    /// BLAKE3 hash of the checkpoint file, in hexadecimal.
    pub blake3: String,
    /// Number of finished epochs of the `pretrain.resume` checkpoint; `None` for other checkpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<usize>,
}

impl StartFile {
    /// Fails if the current content `now` differs from the recorded hash.
    ///
    /// The error names the run folder `run`.
    pub fn check_unchanged(&self, run: &Path, now: &Content) -> Result<(), RunError> {
        if now.blake3 == self.blake3 {
            return Ok(());
        }
        let short = |hash: &str| hash.get(..16).unwrap_or(hash).to_owned();
        Err(RunError::OtherStartFile {
            path: run.to_owned(),
            file: self.path.clone(),
            began: short(&self.blake3),
            now: short(&now.blake3),
        })
    }
}
