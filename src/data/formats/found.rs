//! The argument and the result of `find`, which every format has.

use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::split::Split;

/// Whether the caller uses the classes of the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// For fine-tuning, probing and evaluation: `train/` and `val/` must have the same classes.
    Needed,
    /// For pre-training only: images need no classes, and a folder may have any structure.
    Unneeded,
}

/// The data set that a format has found, not yet compared with the recipe.
pub(in crate::data) struct Found {
    pub(in crate::data) train: Arc<dyn Split>,
    pub(in crate::data) val: Option<Arc<dyn Split>>,
    /// The names of the classes in the data, by label; empty without classes.
    pub(in crate::data) classes: Vec<String>,
    /// Fingerprint of the data, from file names and sizes or from the bytes themselves.
    pub(in crate::data) hash: Sha256,
    /// How `mae data pack` re-encoded the images, if it did.
    pub(in crate::data) note: Option<String>,
    pub(in crate::data) integrity: Integrity,
}

/// Findings about missing samples and checksums in tar shards; empty for other formats.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Integrity {
    /// Signs that samples may be missing or unverified, each with its file. A run only warns about them.
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
