//! Where the storages of tensors are in the file.

use super::archive::Archive;
use super::budget::Budget;
use super::graph::{Graph, Item};
use super::source::{ByteSource, Range, shown};
use std::collections::BTreeMap;

pub(super) enum Storages {
    /// The storages are entries of a zip archive.
    Zip(Archive),
    /// The storages follow the pickles, in PyTorch's legacy format. The map has the byte range of each storage.
    Legacy(BTreeMap<Box<str>, Range>),
    /// There are no storages, because the pickle contains NumPy arrays. Paddle writes such files.
    Absent,
}

impl Storages {
    /// Returns the byte range of a storage. `key` is a text node with the name of the storage.
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
