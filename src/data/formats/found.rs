//! The argument and the result of the function `find` of each format.

use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::passed_over::PassedOver;
use super::split::Split;

/// Whether the caller needs the classes of the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// For fine-tuning, probing and evaluation: `train/` and `val/` must have the same classes.
    Needed,
    /// For pre-training: images may have no classes, and folders may have any structure.
    Unneeded,
    /// For a check of shards or parquet files whose use is unknown: classes are needed only if there are validation images,
    /// and some images have classes.
    IfAny,
}

impl Labels {
    /// Returns whether a missing class is an error. `are_there` says whether the data has validation images and classes.
    pub(super) fn are_needed(self, are_there: bool) -> bool {
        match self {
            Self::Needed => true,
            Self::Unneeded => false,
            Self::IfAny => are_there,
        }
    }
}

/// The data set that a format's `find` returns. `find` does not compare the counts with the recipe.
pub(in crate::data) struct Found {
    pub(in crate::data) train: Arc<dyn Split>,
    pub(in crate::data) val: Option<Arc<dyn Split>>,
    /// Class names as the data stores them, indexed by label; empty if the images have no classes.
    pub(in crate::data) classes: Vec<String>,
    /// SHA-256 of the data, used as the fingerprint.
    ///
    /// Depending on the format, the hash covers file names and sizes, or the bytes of the files.
    pub(in crate::data) hash: Sha256,
    /// The hash that older versions computed for this data; `None` if it is `hash`. It may also be equal to `hash`.
    pub(in crate::data) former: Option<Sha256>,
    /// Description of how `mae data pack` re-encoded the images; `None` if the images were not re-encoded.
    pub(in crate::data) note: Option<String>,
    pub(in crate::data) integrity: Integrity,
    /// Number of files that no split uses, by description, such as hidden files.
    pub(in crate::data) passed_over: PassedOver,
}

impl Found {
    /// Returns a data set without notes and findings.
    pub(super) fn of(
        train: Arc<dyn Split>,
        val: Option<Arc<dyn Split>>,
        classes: Vec<String>,
        hash: Sha256,
    ) -> Self {
        let (integrity, passed_over) = (Integrity::default(), PassedOver::new());
        Self { train, val, classes, hash, former: None, note: None, integrity, passed_over }
    }
}

/// The samples and checksums that are missing from tar shards; empty for other formats.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Integrity {
    /// Warnings about samples that may be missing or are not verified. Each warning begins with the path of the file.
    pub lost: Vec<String>,
    /// Number of images in shards without checksums.
    pub unchecked: usize,
}

/// Finishes a SHA-256 and returns the hash in hexadecimal.
pub(in crate::data) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes any text");
        text
    })
}
