//! `pack.json` and the other files that `data pack` writes beside the shards.

use std::path::Path;
use std::{fmt, fs};

use crate::data::error::DataError;

/// Describes the shards in its folder, as a [`Packed`].
pub(in crate::data) const PACK: &str = "pack.json";
/// The class names, one per line.
pub(in crate::data) const CLASSES: &str = "classes.txt";
const AGAIN: &str = "run the same `mae data pack` again; it writes the missing shards";

/// How shards were packed.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(in crate::data) struct Packed {
    pub(in crate::data) samples_per_shard: usize,
    /// SHA-256 of what was packed, the same as the fingerprint of a run on that data.
    pub(in crate::data) source: String,
    pub(in crate::data) reencoded: Option<Reencoded>,
    /// Number of shards; `None` until all are written.
    #[serde(default)]
    pub(in crate::data) shards: Option<ShardCounts>,
}

/// The number of shards of each split.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(in crate::data) struct ShardCounts {
    pub(in crate::data) train: usize,
    pub(in crate::data) val: usize,
}

/// How images were re-encoded at a smaller size.
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
    /// Reads `pack.json`. Returns `None` if the shards in `folder` were not packed by this program.
    pub(in crate::data) fn read(folder: &Path) -> Result<Option<Self>, DataError> {
        let file = folder.join(PACK);
        let Ok(bytes) = fs::read(&file) else { return Ok(None) };
        let packed = serde_json::from_slice(&bytes).map_err(|e| {
            let hint = "delete the file, or pack the images again";
            DataError::layout(&file, format!("the file is damaged: {e}"), hint)
        })?;
        Ok(Some(packed))
    }

    /// Returns an error if some of the packed shards are missing in `folder`.
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
                "found {train} shards for training and {val} for validation, but {} and {} were packed",
                all.train, all.val
            );
            DataError::layout(folder, problem, AGAIN)
        })
    }
}
