//! The content of `pack.json`, the file in which `mae data pack` describes the shards.

use std::path::Path;
use std::{fmt, fs};

use crate::data::error::DataError;

/// Name of the file in which `mae data pack` describes its shards.
pub(in crate::data) const PACK: &str = "pack.json";
/// Name of the file with one class name per line.
pub(in crate::data) const CLASSES: &str = "classes.txt";
const AGAIN: &str = "run the same `mae data pack` command again to write the missing shards";

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(in crate::data) struct Packed {
    pub(in crate::data) samples_per_shard: usize,
    /// SHA-256 fingerprint of the original data set.
    pub(in crate::data) source: String,
    pub(in crate::data) reencoded: Option<Reencoded>,
    /// Number of shards; `None` until packing is complete.
    #[serde(default)]
    pub(in crate::data) shards: Option<ShardCounts>,
    /// Whether every shard has a checksum file. Older versions of this program wrote no checksum files.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::data) checksums: bool,
    /// BLAKE3 hash of the file [`CLASSES`]; `None` if the file does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::data) classes: Option<String>,
    /// BLAKE3 hash of the compact JSON of all other fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blake3: Option<String>,
}

/// Number of shards in each split.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(in crate::data) struct ShardCounts {
    pub(in crate::data) train: usize,
    pub(in crate::data) val: usize,
}

/// Settings for re-encoding large images at a smaller size.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Reencoded {
    /// Maximum length of the shorter side, in pixels.
    pub short_side: usize,
    /// JPEG quality, 1 to 100.
    pub quality: u8,
}

impl fmt::Display for Reencoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { short_side, quality } = self;
        write!(f, "images re-encoded: short side at most {short_side} px, JPEG quality {quality}")
    }
}

impl Packed {
    /// Returns the content of `pack.json` at the start of packing.
    ///
    /// `source` is the fingerprint of the original data set.
    pub(in crate::data) fn new(
        samples_per_shard: usize,
        source: String,
        reencoded: Option<Reencoded>,
    ) -> Self {
        let (shards, classes, blake3) = (None, None, None);
        Self { samples_per_shard, source, reencoded, shards, checksums: false, classes, blake3 }
    }

    /// Returns whether `self` and `other` have the same original data set and the same packing options.
    pub(in crate::data) fn is_of_the_same_images(&self, other: &Self) -> bool {
        let key = |packed: &Self| (packed.samples_per_shard, packed.reencoded);
        key(self) == key(other) && self.source == other.source
    }

    /// Returns `pack.json` as bytes.
    pub(in crate::data) fn to_json(&self) -> Vec<u8> {
        let blake3 = Some(self.own_hash());
        let packed = Self { blake3, ..self.clone() };
        serde_json::to_vec_pretty(&packed).expect("numbers and text always fit JSON")
    }

    fn own_hash(&self) -> String {
        let packed = Self { blake3: None, ..self.clone() };
        let json = serde_json::to_vec(&packed).expect("numbers and text always fit JSON");
        blake3::hash(&json).to_hex().to_string()
    }

    /// Reads `pack.json`. Returns `None` if the file does not exist.
    pub(in crate::data) fn read(folder: &Path) -> Result<Option<Self>, DataError> {
        let file = folder.join(PACK);
        let Ok(bytes) = fs::read(&file) else { return Ok(None) };
        let damaged = |problem: &str| {
            let hint = "delete the file, or pack the images again";
            DataError::layout(&file, format!("the file is damaged: {problem}"), hint)
        };
        let packed: Self = serde_json::from_slice(&bytes).map_err(|e| damaged(&e.to_string()))?;
        match &packed.blake3 {
            Some(hash) if *hash != packed.own_hash() => Err(damaged("its checksum is wrong")),
            None if packed.checksums || packed.classes.is_some() => {
                Err(damaged("its checksum is missing"))
            }
            _ => Ok(Some(packed)),
        }
    }

    /// Returns a warning if the class names have changed since `mae data pack` wrote them.
    pub(super) fn changed_classes(&self, folder: &Path) -> Option<String> {
        let (file, packed) = (folder.join(CLASSES), self.classes.as_ref()?);
        let now = fs::read(&file).map(|bytes| blake3::hash(&bytes).to_hex().to_string());
        (now.ok().as_ref() != Some(packed)).then(|| {
            format!(
                "{} has changed since `mae data pack` wrote this file. To accept the new class names, run the same `mae data \
                 pack` command again",
                file.display()
            )
        })
    }

    /// Returns an error if packing did not finish, or if the number of shards is wrong.
    ///
    /// `found` has the numbers of shards in `folder`.
    pub(super) fn problem(&self, folder: &Path, found: ShardCounts) -> Option<DataError> {
        let Some(all) = self.shards else {
            return Some(DataError::layout(
                folder,
                "`mae data pack` has not finished writing these shards",
                AGAIN,
            ));
        };
        let ShardCounts { train, val } = found;
        (found != all).then(|| {
            let problem = format!(
                "the folder contains {train} training shards and {val} validation shards, but `mae data pack` wrote {} training shards and {} validation shards",
                all.train, all.val
            );
            DataError::layout(folder, problem, AGAIN)
        })
    }
}
