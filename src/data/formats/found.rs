//! The argument and the result of the function `find` of each format.

use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::split::Split;

/// Whether a caller needs the classes of the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// The caller needs classes, for fine-tuning, probing and evaluation.
    Needed,
    /// The caller does not need classes, for pre-training.
    Unneeded,
}

/// The result of a format's `find`. The counts are not yet compared with the recipe.
pub(in crate::data) struct Found {
    pub(in crate::data) train: Arc<dyn Split>,
    pub(in crate::data) val: Option<Arc<dyn Split>>,
    /// Class names in the data, indexed by label; empty for images without classes.
    pub(in crate::data) classes: Vec<String>,
    /// SHA-256 that identifies the data.
    ///
    /// Depending on the format, covers the file contents, or file names and sizes.
    pub(in crate::data) hash: Sha256,
    /// Describes how `mae data pack` re-encoded the images; `None` for original images.
    pub(in crate::data) note: Option<String>,
    pub(in crate::data) integrity: Integrity,
}

/// Problems of tar shards: missing samples and missing checksums.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Integrity {
    /// Warnings about missing or unverified samples, each with a file path.
    pub lost: Vec<String>,
    /// Number of images in shards without checksums.
    pub unchecked: usize,
}

pub(in crate::data) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes any text");
        text
    })
}
