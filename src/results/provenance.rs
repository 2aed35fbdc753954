//! `provenance.json`: program version, device, data and settings behind a run's numbers.

use serde::{Deserialize, Serialize};

/// Content of `provenance.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Version of this program.
    pub version: String,
    /// Commit this program was built from; empty if it was built outside a Git checkout.
    pub commit: String,
    pub command_line: Vec<String>,
    /// Name of the device, for example of the GPU.
    pub device: String,
    /// Number of devices.
    pub devices: usize,
    pub precision: String,
    /// CPU compute threads. The results do not depend on their number.
    pub threads: usize,
    pub seed: u64,
    pub data_fingerprint: String,
    /// Number of images in the validation split; `None` without a validation split, and in runs of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_images: Option<usize>,
    /// How the images were changed before training, for example resized; empty if this is unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub data_note: String,
    /// Time of the last start of the run, in seconds since 1970.
    pub started_unix_s: u64,
    /// Time at which the run finished, in seconds since 1970; `None` until then.
    pub finished_unix_s: Option<u64>,
}
