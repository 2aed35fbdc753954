//! Where the storages of tensors are in the file.

use super::archive::Archive;
use super::budget::Budget;
use super::graph::{Graph, Item};
use super::source::{ByteSource, Range, shown};
use std::collections::BTreeMap;

pub(super) enum Storages {
    /// A zip archive with one entry per storage.
    Zip(Archive),
    /// The byte range of each storage in PyTorch's legacy format, by storage name.
    Legacy(BTreeMap<Box<str>, Range>),
    /// The file has no storages, such as a Paddle file with NumPy arrays.
    Absent,
}

impl Storages {
    /// Returns the byte range of a storage. `key` is a text node with the storage's name.
    pub(super) fn range(
        &self,
        graph: &Graph,
        key: Item,
        source: &ByteSource,
        budget: &mut Budget,
    ) -> Result<Range, String> {
        let key = graph.text(key).ok_or("a tensor storage has no name")?;
        let range = match self {
            Self::Zip(archive) => archive.storage(key, source, budget)?,
            Self::Legacy(ranges) => ranges.get(key).copied(),
            Self::Absent => None,
        };
        range.ok_or_else(|| format!("the tensor storage `{}` is missing", shown(key)))
    }
}
