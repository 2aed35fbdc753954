//! `provenance.json`: program version, device, data and settings of a run.

use super::error::RunError;
use crate::durable::Content;
use crate::recipe::{Layout, Pace};
use crate::shape::StageKind;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Content of `provenance.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Version of this program.
    pub version: String,
    /// Git commit of this program; empty for builds outside of a Git checkout.
    pub commit: String,
    pub command_line: Vec<String>,
    /// Name of the device, for example of the GPU.
    pub device: String,
    /// Number of devices of each host.
    pub devices: usize,
    /// Names of the hosts that train together, rank 0 first; empty for a single host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    pub precision: String,
    /// Number of CPU compute threads. The results do not depend on this number.
    pub threads: usize,
    pub seed: u64,
    pub data_fingerprint: String,
    /// Number of images in the validation split, without skipped images; `None` without a validation split, and in runs of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_images: Option<usize>,
    /// Number of unreadable validation images that no accuracy includes; `None` without `data.bad_val = "skip"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_skipped: Option<usize>,
    /// How the images were changed before training, for example resized; empty if this is unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub data_note: String,
    /// Checkpoint files that jobs start from (`finetune.from`, `linprobe.from`, `pretrain.from` and `pretrain.resume`);
    /// empty in runs of older versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub start_files: Vec<StartFile>,
    /// Jobs that failed and did not run again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_jobs: Vec<FailedJobNote>,
    /// The layouts that the run has had, oldest first.
    ///
    /// Empty in runs of older versions that have not changed their layout.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layouts: Vec<StartLayout>,
    /// Time of the run's last start, in seconds since 1970.
    pub started_unix_s: u64,
    /// End time of the run, in seconds since 1970; `None` until the run is finished.
    pub finished_unix_s: Option<u64>,
}

/// The layout of a run, and the first start with this layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartLayout {
    /// Time of this start, in seconds since 1970.
    pub started_unix_s: u64,
    /// Devices, `batch_size` and `accum_iter`.
    #[serde(flatten)]
    pub layout: Layout,
}

impl StartLayout {
    /// Returns how often a stage's learning rate changes within an epoch, from the first start that had this stage.
    ///
    /// Later starts with a different layout use the same value, so that resuming does not change the learning rates.
    pub fn pace(layouts: &[Self], stage: StageKind) -> Option<Pace> {
        layouts.iter().find_map(|start| start.layout.pace(stage))
    }
}

/// A job that failed, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedJobNote {
    /// Folder of the job relative to the run folder, such as `finetune/from-0800`.
    pub job: String,
    pub reason: String,
}

/// A checkpoint file that a job starts from, with its recorded length and hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFile {
    /// Folder of the job relative to the run folder, such as `finetune/from-vit.pth`.
    pub job: String,
    /// Path of the file. If the recipe names a checkpoint folder, this is a file in that folder.
    pub path: PathBuf,
    pub bytes: u64,
    /// BLAKE3 hash of the file, in hexadecimal.
    pub blake3: String,
    /// Number of epochs that the checkpoint was trained for; `None` unless the checkpoint is `pretrain.resume`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<usize>,
}

impl StartFile {
    /// Fails if the file has changed since its hash was recorded.
    ///
    /// `now` is the current content. The error names the run folder `run`.
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
