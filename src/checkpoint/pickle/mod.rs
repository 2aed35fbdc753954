//! Checkpoints of PyTorch (`.pth`, `.bin`) and Paddle (`.pd`, `.pdparams`): pickles, read without running anything.
//!
//! A pickle is a program for a stack machine that may call any function of Python, which makes loading a stranger's
//! checkpoint running a stranger's program. Here a class or a function is only a name. A closed list of calls has a
//! meaning (`call`, `numpy`): those that describe tensors and plain containers. Everything else becomes a description of
//! itself, so that a foreign object beside the weights does not stop them from being read.
//!
//! ```text
//! source ── archive, legacy ── machine ── graph ── tree ── Value
//!  file     where things are    opcodes   shared    └ view ── window
//!                                         nodes       tensors, decoded from the file one by one
//! ```
//!
//! The file is not trusted either. It is never held whole: what is big stays on the disk as a range. All memory is taken
//! from a `budget` that grows with the file's size, so that neither a shape of a million millions nor a list that is
//! shared a million times fills the memory: at most about three times the file's size is held, the result included.
//! Nothing recurses deeper than the tree may be deep, 128 containers.
//!
//! Not read, with an error that says so: TorchScript archives, files of big-endian machines, pickle protocols 0 and 1,
//! compressed archives, objects that hold themselves, weights that are more than twice the file as float32 (because many
//! names share them), and more than about 2000 objects beyond what three times the file's size holds: the training state
//! of a model of a few kB. The CRC-32 of what is read from an archive is compared, which PyTorch does not.

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

/// What a pickled file says, as a plain tree.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// A list, tuple, set or `torch.Size`.
    List(Vec<Value>),
    /// A dict, `OrderedDict` or `defaultdict`, in its order. A key the file sets twice is there twice.
    Dict(Vec<(Value, Value)>),
    /// An instance of any other class, `argparse.Namespace`, with its attributes as a dict, or else with what it was made
    /// from. Never constructed, only described.
    Object {
        class: String,
        state: Box<Value>,
    },
    /// A tensor, array or number of NumPy (of shape `[]`) of floats.
    Tensor(HostTensor),
    /// What is known but not kept: classes, functions, bytes, `int64 tensor [3]`.
    Opaque(String),
}

const ZIP: &[u8] = b"PK\x03\x04";

/// Whether a file begins like one this module reads: a zip archive, or a pickle of protocol 2 to 5.
pub(super) fn recognises(first_bytes: &[u8]) -> bool {
    first_bytes.starts_with(ZIP) || matches!(first_bytes, [0x80, 2..=5, ..])
}

/// Reads a file. Floats become float32, in C order; integer tensors of one element become numbers.
///
/// Fails with a sentence that says what is wrong with the file.
pub(super) fn read(path: &Path) -> Result<Value, String> {
    let source = ByteSource::open(path)?;
    let mut first = [0; 4];
    source.read_at(0, &mut first)?;
    if !recognises(&first) {
        return Err("neither a zip archive nor a pickle of protocol 2 to 5".to_owned());
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

/// Reads a pickle without an archive: of PyTorch's legacy format if it begins with its magic number, or the object.
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
