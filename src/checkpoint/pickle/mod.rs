//! Reads pickles without running code: checkpoints of PyTorch (`.pth`, `.bin`) and Paddle (`.pd`, `.pdparams`).
//!
//! A pickle is a program for a stack machine that may call any Python function. So Python runs code from the file when
//! it loads a checkpoint. This reader treats a class or function only as a name. It handles a fixed list of calls,
//! which create tensors and plain containers (`call`, `numpy`). All other objects become descriptions, so the reader
//! can still read the weights in the file.
//!
//! ```text
//! source ── archive, legacy ── machine ── graph ── tree ── Value
//!  file     byte ranges         opcodes   shared    └ view ── window
//!                                         nodes       tensors, decoded from the file one by one
//! ```
//!
//! The file may be malicious. Large parts stay on the disk as ranges. A `budget` limits the memory to about three times
//! the size of the file, including the result. So a shape with 10^12 elements, or a list that is shared a million
//! times, cannot fill the memory. Containers may be nested 128 deep.
//!
//! Reading fails for these files:
//!
//! - TorchScript archives, compressed archives, files of big-endian machines, pickle protocols 0 and 1;
//! - objects that contain themselves;
//! - files whose weights, as float32, take more than twice the file size, because many names share them;
//! - files of a few kB with thousands of objects, such as the training state of a tiny model, because they exceed the
//!   budget.
//!
//! This reader checks the CRC-32 of every part that it reads from an archive. PyTorch does not check the CRC-32.

mod archive;
mod budget;
mod call;
mod dtype;
mod graph;
#[cfg(test)]
mod hostile;
mod legacy;
mod literal;
mod machine;
mod numpy;
mod source;
mod storages;
mod tree;
mod view;
mod window;

use super::HostTensor;
use archive::Archive;
use budget::Budget;
use graph::Graph;
use source::{ByteSource, Range};
use std::path::Path;
use storages::Storages;
use tree::Tree;

/// The content of a pickle as a tree.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// A list, tuple, set or `torch.Size`.
    List(Vec<Value>),
    /// Pairs (key, value) in the order of the file. A repeated key has two pairs.
    Dict(Vec<(Value, Value)>),
    /// The description of a Python object, such as an `argparse.Namespace`.
    ///
    /// `state` is the dict of attributes. Without attributes, `state` has the arguments of the constructor.
    Object {
        class: String,
        state: Box<Value>,
    },
    /// A float tensor, a float NumPy array, or a float NumPy number (shape `[]`).
    Tensor(HostTensor),
    /// The description of a class, function, `bytes` object or integer tensor.
    Opaque(String),
}

const ZIP: &[u8] = b"PK\x03\x04";

/// Returns whether `first_bytes` is the start of a zip archive or of a pickle.
pub(super) fn recognises(first_bytes: &[u8]) -> bool {
    first_bytes.starts_with(ZIP) || matches!(first_bytes, [0x80, 2..=5, ..])
}

/// Reads a pickle file, or a zip archive with a pickle.
///
/// Float tensors become float32. Integer tensors with one element become numbers. Error texts do not include the file
/// path.
pub(super) fn read(path: &Path) -> Result<Value, String> {
    let source = ByteSource::open(path)?;
    let mut first = [0; 4];
    source.read_at(0, &mut first)?;
    if !recognises(&first) {
        return Err("the file is neither a zip archive nor a pickle of protocol 2 to 5".to_owned());
    }
    let mut budget = Budget::of_file(source.len);
    let mut graph = Graph::default();
    let (object, storages) = if first.starts_with(ZIP) {
        let archive = Archive::open(&source, &mut budget)?;
        let mut reader = source.reader(archive.pickle)?;
        (machine::run(&mut reader, &mut graph, &mut budget)?, Storages::Zip(archive))
    } else {
        pickle(&source, &mut graph, &mut budget)?
    };
    Tree::new(&graph, &storages, &source, &mut budget).value(object)
}

/// Reads a file in PyTorch's legacy format, or a plain pickle without a zip archive.
fn pickle(
    source: &ByteSource,
    graph: &mut Graph,
    budget: &mut Budget,
) -> Result<(graph::Item, Storages), String> {
    let mut reader = source.reader(Range { at: 0, len: source.len })?;
    let first = machine::run(&mut reader, graph, budget)?;
    if !legacy::is_magic(graph, first) {
        return Ok((first, Storages::Absent));
    }
    let head = legacy::read(&mut reader, graph, budget)?;
    drop(reader);
    Ok((head.object, legacy::storages(source, budget, head)?))
}
