//! The format of PyTorch before version 1.6: five consecutive pickles, then the storages.

use super::budget::Budget;
use super::graph::{Graph, Item, Node};
use super::machine;
use super::source::{ByteSource, Range, Reader, cut_short, shown};
use super::storages::Storages;
use std::collections::BTreeMap;

/// PyTorch's magic number `0x1950a86a20f9469cfc6c` at the start of legacy files.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

const PROTOCOL: i64 = 1001;

/// Memory per storage in bytes, in addition to the name.
const ENTRY: usize = 96;

pub(super) fn is_magic(graph: &Graph, item: Item) -> bool {
    matches!(graph.node(item), Some(Node::Long(bytes)) if **bytes == MAGIC)
}

/// The part of a legacy file before the storages.
pub(super) struct LegacyHeader {
    pub(super) object: Item,
    /// Pairs (name, bytes per element) of all storages, in the order of the file.
    pub(super) storages: Vec<(Box<str>, u64)>,
    /// Offset of the first storage in the file, in bytes.
    pub(super) at: u64,
}

pub(super) fn read(
    reader: &mut Reader<'_>,
    graph: &mut Graph,
    budget: &mut Budget,
) -> Result<LegacyHeader, String> {
    if !matches!(machine::run(reader, graph, budget)?, Item::Int(PROTOCOL)) {
        return Err("mae does not support this version of PyTorch's legacy format".to_owned());
    }
    let machine_info = machine::run(reader, graph, budget)?;
    let is_big = graph.pairs(machine_info).unwrap_or_default().iter().any(|(key, value)| {
        graph.text(*key) == Some("little_endian") && matches!(value, Item::Bool(false))
    });
    if is_big {
        return Err(
            "the file stores big-endian numbers, but mae supports only little-endian numbers"
                .to_owned(),
        );
    }
    let object = machine::run(reader, graph, budget)?;
    let keys = machine::run(reader, graph, budget)?;
    let storages = in_order(graph, budget, keys)?;
    Ok(LegacyHeader { object, storages, at: reader.at() })
}

/// Returns pairs (name, bytes per element) of all storages, in the order of the file.
fn in_order(
    graph: &Graph,
    budget: &mut Budget,
    keys: Item,
) -> Result<Vec<(Box<str>, u64)>, String> {
    let mut sizes = BTreeMap::new();
    for node in graph.nodes() {
        if let Node::Storage(storage) = node
            && let Some(key) = graph.text(storage.key)
        {
            budget.object(ENTRY / 2)?;
            // If storages have the same name, the first one counts, as in PyTorch.
            sizes.entry(key).or_insert(storage.dtype.size);
        }
    }
    let keys = graph.items(keys).ok_or("the list of tensor storages is missing")?;
    let mut storages = Vec::new();
    for key in keys {
        let key = graph.text(*key).ok_or("a tensor storage has no name")?;
        match sizes.get(key) {
            Some(0) => {
                return Err(format!("the tensor storage `{}` has an unknown type", shown(key)));
            }
            Some(size) => {
                budget.object(ENTRY + key.len())?;
                storages.push((key.into(), *size));
            }
            None => {
                return Err(format!("the storage `{}` does not belong to a tensor", shown(key)));
            }
        }
    }
    Ok(storages)
}

/// Finds the byte range of each storage. Before each storage, 8 bytes store the number of elements.
pub(super) fn storages(
    source: &ByteSource,
    budget: &mut Budget,
    head: LegacyHeader,
) -> Result<Storages, String> {
    let (mut ranges, mut at) = (BTreeMap::new(), head.at);
    for (key, size) in head.storages {
        let mut numel = [0; 8];
        source.read_at(at, &mut numel)?;
        let len = u64::from_le_bytes(numel).checked_mul(size).ok_or_else(cut_short)?;
        let range = Range { at: at + 8, len };
        at = range.at.checked_add(len).filter(|end| *end <= source.len).ok_or_else(cut_short)?;
        budget.object(ENTRY)?;
        ranges.insert(key, range);
    }
    Ok(Storages::Legacy(ranges))
}
