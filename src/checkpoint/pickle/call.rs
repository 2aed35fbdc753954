//! Function calls in a pickle. The reader handles a fixed list of functions. All other calls become descriptions.
//!
//! For the reader, a class or function is only a name. The reader never imports or runs code.

use super::dtype::Dtype;
use super::graph::{Bytes, Graph, Item, Node, Storage};
use super::machine::{Machine, object};
use super::numpy;
use super::source::Range;
use super::view::{View, ViewData};

/// Maximum number of parts of a `pathlib` path. Longer paths become descriptions.
const PARTS: usize = 64;

/// What a function call in a pickle returns.
pub(super) enum Made {
    New(Node),
    /// One of the call's arguments, unchanged.
    Same(Item),
    /// The result of an unknown function. The reader keeps only a description.
    Foreign,
}

impl Machine<'_, '_> {
    /// Calls a known function with `args`, and pushes the result onto the stack.
    ///
    /// For an unknown function, pushes a description of the call.
    pub(super) fn call(&mut self, callable: Item, args: Item) -> Result<(), String> {
        let items = self
            .graph
            .items(args)
            .ok_or("the pickle calls a function without a list of arguments")?;
        if !matches!(callable, Item::Node(_)) {
            return Err("the pickle calls an object that is not a function".to_owned());
        }
        let made = match self.graph.global(callable) {
            Some(name) => made(self.graph, name, items)?,
            None => Made::Foreign,
        };
        match made {
            Made::New(node) => self.add(node),
            Made::Same(item) => self.push(item),
            Made::Foreign => self.add(object(callable, args)),
        }
    }

    /// Runs the opcode `BUILD`, which sets the state of the object `target`.
    pub(super) fn build(&mut self, target: Item, state: Item) -> Result<(), String> {
        let array = match self.graph.node(target) {
            None => {
                return Err(
                    "the pickle sets the attributes of a value that is not an object".to_owned()
                );
            }
            Some(Node::Array) => Some(numpy::array(self.graph, state)?),
            Some(Node::NumpyType { dtype, .. }) => {
                let big_endian = numpy::is_big_endian(self.graph, state);
                Some(Node::NumpyType { dtype, big_endian })
            }
            _ => None,
        };
        match (self.graph.node_mut(target), array) {
            (Some(node), Some(array)) => {
                self.budget.object(array.heap_size())?;
                *node = array;
            }
            (Some(Node::Object(object)), None) => object.state = Some(state),
            // Ignored: attributes of an `OrderedDict` (PyTorch's `_metadata`) or of a parameter.
            _ => {}
        }
        Ok(())
    }

    /// Handles the persistent id of a storage: pushes the storage onto the stack.
    pub(super) fn persistent(&mut self, id: Item) -> Result<(), String> {
        let items = self.graph.items(id).unwrap_or_default();
        let kind = items.first().and_then(|kind| self.graph.text(*kind));
        match (kind, items) {
            (Some("storage"), [_, class, key, _, numel, rest @ ..]) => {
                let view = rest.first().and_then(|view| self.graph.items(*view));
                let node = storage(self.graph, *class, *key, *numel, view);
                self.add(node.ok_or("the pickle has an invalid description of a tensor storage")?)
            }
            // The legacy format stores some classes with their source code.
            (Some("module"), [_, class, ..]) => {
                let class = *class;
                self.push(class)
            }
            _ => self.add(Node::Opaque("an object that is not in the file")),
        }
    }
}

/// Returns a storage node; `None` if an argument is invalid.
fn storage(
    graph: &Graph,
    class: Item,
    key: Item,
    numel: Item,
    view: Option<&[Item]>,
) -> Option<Node> {
    let dtype = Dtype::of_storage(graph.global(class)?);
    graph.text(key)?;
    let (all, mut start, mut numel) = (numel.count()?, 0, numel.count()?);
    if let Some([_, offset, size]) = view {
        (start, numel) = (offset.count()?, size.count()?);
        start.checked_add(numel).filter(|end| *end <= all)?;
    }
    Some(Node::Storage(Storage { key, dtype, start, numel }.into()))
}

fn made(graph: &Graph, name: &str, args: &[Item]) -> Result<Made, String> {
    let same = |args: &[Item]| args.first().map_or(Made::Foreign, |item| Made::Same(*item));
    Ok(match name {
        "torch._utils._rebuild_tensor"
        | "torch._utils._rebuild_tensor_v2"
        | "torch._utils._rebuild_tensor_v3" => tensor(graph, name.ends_with("v3"), args)?,
        "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state" => {
            same(args)
        }
        "torch._utils._rebuild_qtensor" => Made::New(Node::Opaque("quantised tensor")),
        "torch.storage._load_from_bytes" => Made::New(Node::Opaque("a storage as bytes")),
        "torch.device" => device(graph, args),
        "collections.OrderedDict" => dict(graph, args.first())?,
        "collections.defaultdict" => dict(graph, args.get(1))?,
        "numpy.dtype" => numpy::dtype(graph, args),
        "_codecs.encode" => latin1(graph, args),
        "copyreg._reconstructor"
        | "copy_reg._reconstructor"
        | "copyreg.__newobj__"
        | "copy_reg.__newobj__" => match args {
            [class, ..] => Made::New(object(*class, Item::None)),
            [] => Made::Foreign,
        },
        "torch.Size" => sequence(graph, args),
        _ if name.starts_with("numpy.") => numpy::call(graph, name, args)?,
        _ if name.starts_with("pathlib.") => path(graph, name, args),
        _ => match name.strip_prefix("builtins.").or_else(|| name.strip_prefix("__builtin__.")) {
            Some(name) => builtin(graph, name, args)?,
            None => Made::Foreign,
        },
    })
}

fn builtin(graph: &Graph, name: &str, args: &[Item]) -> Result<Made, String> {
    Ok(match name {
        "set" | "frozenset" | "tuple" | "list" => sequence(graph, args),
        "dict" => dict(graph, args.first())?,
        "bytes" | "bytearray" => match args {
            [bytes] if matches!(graph.node(*bytes), Some(Node::Bytes(_))) => Made::Same(*bytes),
            [] => Made::New(Node::Bytes(Bytes { range: Range { at: 0, len: 0 }, latin1: false })),
            _ => latin1(graph, args),
        },
        "eval" => paddle_tensor(graph, args),
        _ => Made::Foreign,
    })
}

/// Handles Paddle's call `eval('data', {'data': array})`: returns `array`. Never evaluates code.
fn paddle_tensor(graph: &Graph, args: &[Item]) -> Made {
    let [code, names] = args else { return Made::Foreign };
    match (graph.text(*code), graph.pairs(*names)) {
        (Some("data"), Some([(key, array)])) if graph.text(*key) == Some("data") => {
            Made::Same(*array)
        }
        _ => Made::Foreign,
    }
}

/// Handles `list(items)` and similar calls: returns `items`.
fn sequence(graph: &Graph, args: &[Item]) -> Made {
    match args {
        [] => Made::New(Node::List(Vec::new())),
        [items] if graph.items(*items).is_some() => Made::Same(*items),
        _ => Made::Foreign,
    }
}

fn dict(graph: &Graph, content: Option<&Item>) -> Result<Made, String> {
    let Some(content) = content else { return Ok(Made::New(Node::Dict(Vec::new()))) };
    if graph.pairs(*content).is_some() {
        return Ok(Made::Same(*content));
    }
    let Some(items) = graph.items(*content) else { return Ok(Made::Foreign) };
    let pair = |item: &Item| match graph.items(*item) {
        Some([key, value]) => Some((*key, *value)),
        _ => None,
    };
    let pairs: Option<Vec<_>> = items.iter().map(pair).collect();
    // This is an error, because repeated descriptions of a long list would take time without using the budget.
    let pairs =
        pairs.ok_or("the pickle creates a dict from items that are not (key, value) pairs")?;
    Ok(Made::New(Node::Dict(pairs)))
}

/// Handles `_codecs.encode(text, 'latin1')`, with which protocol 2 stores bytes.
fn latin1(graph: &Graph, args: &[Item]) -> Made {
    let [text, encoding, ..] = args else { return Made::Foreign };
    let range = match graph.node(*text) {
        Some(Node::Text { at, text }) => Range { at: *at, len: text.len() as u64 },
        Some(Node::LongText(range)) => *range,
        _ => return Made::Foreign,
    };
    match graph.text(*encoding) {
        Some("latin1" | "latin-1" | "iso-8859-1") => {
            Made::New(Node::Bytes(Bytes { range, latin1: true }))
        }
        _ => Made::Foreign,
    }
}

/// Handles `torch.device('cuda', 0)`: returns the text `cuda:0`.
fn device(graph: &Graph, args: &[Item]) -> Made {
    let Some(kind) = args.first().and_then(|kind| graph.text(*kind)) else { return Made::Foreign };
    let text = match args.get(1) {
        Some(Item::Int(index)) => format!("{kind}:{index}"),
        _ => kind.to_owned(),
    };
    Made::New(Node::Text { at: 0, text: text.into() })
}

/// Handles `pathlib.PosixPath('/', 'a', 'b')`: returns the text `/a/b`.
fn path(graph: &Graph, class: &str, args: &[Item]) -> Made {
    let parts: Option<Vec<&str>> = args.iter().take(PARTS).map(|part| graph.text(*part)).collect();
    match parts {
        Some(parts) if class.ends_with("Path") && parts.len() == args.len() => {
            let text = parts.join("/").replacen("//", "/", 1);
            Made::New(Node::Text { at: 0, text: text.into() })
        }
        _ => Made::Foreign,
    }
}

/// Handles `torch._utils._rebuild_tensor` and its versions 2 and 3: returns the tensor.
///
/// `typed` is true for version 3, in which the element type is an argument.
fn tensor(graph: &Graph, typed: bool, args: &[Item]) -> Result<Made, String> {
    let malformed = || "the pickle has an invalid description of a tensor".to_owned();
    let [storage, offset, shape, strides, rest @ ..] = args else { return Err(malformed()) };
    let Some(Node::Storage(storage)) = graph.node(*storage) else { return Err(malformed()) };
    let (dtype, metadata) = match (typed, rest) {
        (false, _) => (storage.dtype, rest.get(2)),
        (true, [_, _, dtype, metadata @ ..]) => {
            let name = graph.global(*dtype).ok_or_else(malformed)?;
            (Dtype::of_torch(name), metadata.first())
        }
        _ => return Err(malformed()),
    };
    if metadata.and_then(|metadata| graph.pairs(*metadata)).is_some_and(|bits| !bits.is_empty()) {
        return Ok(Made::Foreign); // the tensor is negated or conjugated on access, which is not supported
    }
    let (Some(offset), Some(shape), Some(strides)) =
        (offset.count(), graph.sizes(*shape), graph.sizes(*strides))
    else {
        return Err(malformed());
    };
    let data = ViewData::Storage(**storage);
    View::new(dtype, false, data, offset, shape, strides)
        .map(|view| Made::New(Node::View(view.into())))
}
