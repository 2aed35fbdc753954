//! The result of a format's `find`, and the option that it takes.

use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::split::Split;

/// Whether a stage uses the classes of the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// For fine-tuning, probing and evaluation: `train/` and `val/` have the same class folders.
    Needed,
    /// For pre-training alone: any folder of images, with or without `train/`.
    Unneeded,
}

/// A data set as its format found it, not yet compared with the recipe.
pub(in crate::data) struct Found {
    pub(in crate::data) train: Arc<dyn Split>,
    pub(in crate::data) val: Option<Arc<dyn Split>>,
    /// The names that the data has for its classes, by label; empty without classes.
    pub(in crate::data) classes: Vec<String>,
    /// Hash of what identifies the data: file names and sizes, or the bytes themselves.
    pub(in crate::data) hash: Sha256,
    /// How `data pack` changed the images, if it did.
    pub(in crate::data) note: Option<String>,
    pub(in crate::data) integrity: Integrity,
}

/// What opening tar shards showed about lost samples and checksums; empty for other formats.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Integrity {
    /// Findings that mean that samples may be missing or unverified, each with its file. A run only warns about them.
    pub lost: Vec<String>,
    /// Number of images in shards without checksums.
    pub unchecked: usize,
}

/// Returns a finished SHA-256 in hexadecimal.
pub(in crate::data) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes any text");
        text
    })
}
