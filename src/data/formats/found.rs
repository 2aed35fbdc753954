//! The argument and the result of the function `find` of each format.

use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::passed_over::PassedOver;
use super::split::Split;

/// Whether a caller needs the classes of the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// Fine-tuning, probing and evaluation need classes.
    Needed,
    /// Pre-training does not need classes.
    Unneeded,
    /// For `mae data check` and `mae data pack`, which do not know the purpose of the data.
    ///
    /// Classes are needed if the data has validation images and some images have classes.
    IfAny,
}

impl Labels {
    /// Returns whether each image must have a class.
    ///
    /// For `IfAny`, this is `are_there`: there are validation images, and some images have a class.
    pub(super) fn are_needed(self, are_there: bool) -> bool {
        match self {
            Self::Needed => true,
            Self::Unneeded => false,
            Self::IfAny => are_there,
        }
    }
}

/// The result of a format's `find` function: a data set, not yet compared with the recipe.
pub(in crate::data) struct Found {
    pub(in crate::data) train: Arc<dyn Split>,
    pub(in crate::data) val: Option<Arc<dyn Split>>,
    /// Names of the classes, indexed by label; empty if the images have no classes.
    pub(in crate::data) classes: Vec<String>,
    /// SHA-256 hash that identifies the data.
    ///
    /// Depending on the format, the hash covers the file contents, or the file names and sizes.
    pub(in crate::data) hash: Sha256,
    /// The hash that older versions of this program computed for the same data; `None` if they computed `hash`.
    pub(in crate::data) former: Option<Sha256>,
    /// Describes how `mae data pack` re-encoded the images; `None` for original images.
    pub(in crate::data) note: Option<String>,
    pub(in crate::data) integrity: Integrity,
    /// Number of ignored files, by description such as `hidden files`.
    pub(in crate::data) passed_over: PassedOver,
}

impl Found {
    /// Returns a data set without notes, problems or ignored files.
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
    /// Warnings about missing or unverified samples. Each warning contains a file path.
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
