//! `pack.json`: what `data pack` says of the shards beside it.

use std::path::Path;
use std::{fmt, fs};

use crate::data::error::DataError;

/// What `data pack` leaves beside the shards.
pub(in crate::data) const PACK: &str = "pack.json";
const AGAIN: &str = "give the same `mae data pack` again, which makes what is missing";

/// How shards were packed.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(in crate::data) struct Packed {
    pub(in crate::data) samples_per_shard: usize,
    /// SHA-256 of what was packed, as of a run on it.
    pub(in crate::data) source: String,
    pub(in crate::data) reencoded: Option<Reencoded>,
    /// How many there are, once all are.
    #[serde(default)]
    pub(in crate::data) shards: Option<ShardCounts>,
}

/// The number of shards of each split.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(in crate::data) struct ShardCounts {
    pub(in crate::data) train: usize,
    pub(in crate::data) val: usize,
}

/// How images were made smaller.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Reencoded {
    /// The most pixels of the shorter side.
    pub short_side: usize,
    /// Of the JPEG files, 1 to 100.
    pub quality: u8,
}

impl fmt::Display for Reencoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { short_side, quality } = self;
        write!(f, "images re-encoded: short side at most {short_side} px, JPEG quality {quality}")
    }
}

impl Packed {
    /// Reads it; `None` where the shards in `folder` were not packed by this program.
    pub(in crate::data) fn read(folder: &Path) -> Result<Option<Self>, DataError> {
        let file = folder.join(PACK);
        let Ok(bytes) = fs::read(&file) else { return Ok(None) };
        let packed = serde_json::from_slice(&bytes).map_err(|e| {
            DataError::layout(&file, format!("damaged: {e}"), "delete it, or pack the images again")
        })?;
        Ok(Some(packed))
    }

    /// Tells what is wrong where not all shards that were packed are in `folder`.
    pub(super) fn problem(&self, folder: &Path, found: ShardCounts) -> Option<DataError> {
        let Some(all) = self.shards else {
            return Some(DataError::layout(
                folder,
                "these shards were not packed to the end",
                AGAIN,
            ));
        };
        let ShardCounts { train, val } = found;
        (found != all).then(|| {
            let problem = format!(
                "{train} shards for training and {val} for validation, where {} and {} were packed",
                all.train, all.val
            );
            DataError::layout(folder, problem, AGAIN)
        })
    }
}
