//! Where the storages of tensors are in the file.

use super::archive::Archive;
use super::budget::Budget;
use super::graph::{Graph, Item};
use super::source::{ByteSource, Range, shown};
use std::collections::BTreeMap;

pub(super) enum Storages {
    /// Entries of a zip archive.
    Zip(Archive),
    /// PyTorch's legacy format, with the byte range of each storage.
    Legacy(BTreeMap<Box<str>, Range>),
    /// No storages, because the file has NumPy arrays, as in Paddle.
    Absent,
}

impl Storages {
    /// Returns the byte range of the storage `key`, a text node.
    pub(super) fn range(
        &self,
        graph: &Graph,
        key: Item,
        source: &ByteSource,
        budget: &mut Budget,
    ) -> Result<Range, String> {
        let key = graph.text(key).ok_or("a storage has no name")?;
        let range = match self {
            Self::Zip(archive) => archive.storage(key, source, budget)?,
            Self::Legacy(ranges) => ranges.get(key).copied(),
            Self::Absent => None,
        };
        range.ok_or_else(|| format!("storage `{}` is missing", shown(key)))
    }
}
