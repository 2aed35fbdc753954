//! The argument and the result of the function `find` of each format.

use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::passed_over::PassedOver;
use super::split::Split;

/// Whether a caller needs the classes of the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// The caller needs classes, for fine-tuning, probing and evaluation.
    Needed,
    /// The caller does not need classes, for pre-training.
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
    /// The hash that older versions computed for this data; `None` if it is `hash`. It may also be equal to `hash`.
    pub(in crate::data) former: Option<Sha256>,
    /// Describes how `mae data pack` re-encoded the images; `None` for original images.
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
