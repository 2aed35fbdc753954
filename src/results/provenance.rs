//! `provenance.json`: what made a run's numbers.

use serde::{Deserialize, Serialize};

/// Where a run's numbers come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// This program's version.
    pub version: String,
    /// The commit it was built from; empty outside a checkout.
    pub commit: String,
    pub command_line: Vec<String>,
    /// The device that ran it, in words, and how many.
    pub device: String,
    pub devices: usize,
    pub precision: String,
    /// CPU compute threads; the results do not depend on it.
    pub threads: usize,
    pub seed: u64,
    pub data_fingerprint: String,
    /// Images of the validation split; `None` where there is none, or an older version began the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_images: Option<usize>,
    /// What was done to the images before, as making them smaller; empty where nothing is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub data_note: String,
    /// Seconds since 1970, of this start and of the end; `None` while it runs.
    pub started_unix_s: u64,
    pub finished_unix_s: Option<u64>,
}
