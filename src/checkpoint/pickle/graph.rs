//! The objects of a pickle as a graph. Nodes refer to other nodes by index.
//!
//! Because of the indices, shared nodes and cycles are harmless. Dropping a million nested lists does not recurse.

use super::budget::Budget;
use super::dtype::Dtype;
use super::source::Range;
use super::view::View;

/// A small value, or the index of a [`Node`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Item {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Node(u32),
}

/// The content of a Python `bytes` object, as a byte range of the file.
///
/// If `latin1` is true, the file stores text with one character per byte, as pickle protocol 2 does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes {
    pub(super) range: Range,
    pub(super) latin1: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Storage {
    /// The name of the storage, as a text node.
    pub(super) key: Item,
    pub(super) dtype: &'static Dtype,
    /// Index of the first element in the stored bytes. Nonzero only for a view of a larger storage.
    pub(super) start: u64,
    pub(super) numel: u64,
}

/// The description of a Python object that the reader does not create.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) class: Item,
    pub(super) args: Item,
    /// The list or dict with the items that the pickle appends to the object.
    pub(super) items: Option<Item>,
    /// The state that the opcode `BUILD` sets.
    pub(super) state: Option<Item>,
}

#[derive(Debug)]
pub(super) enum Node {
    /// A short text, and its offset in the file in bytes.
    Text {
        at: u64,
        text: Box<str>,
    },
    LongText(Range),
    Bytes(Bytes),
    /// An integer of more than 64 bits, as little-endian bytes.
    Long(Box<[u8]>),
    List(Vec<Item>),
    Tuple(Box<[Item]>),
    Dict(Vec<(Item, Item)>),
    /// The name of a class or function, such as `torch.Size`.
    Global(Box<str>),
    Storage(Box<Storage>),
    View(Box<View>),
    /// A NumPy array without content. The opcode `BUILD` sets the content.
    Array,
    NumpyType {
        dtype: &'static Dtype,
        big_endian: bool,
    },
    Object(Box<Object>),
    Opaque(&'static str),
}

/// Maximum number of tensor dimensions, as in PyTorch and NumPy.
const DIMS: usize = 64;

/// Number of nodes in a block. Full blocks are never copied.
const BLOCK: usize = 1024;

#[derive(Default)]
pub(super) struct Graph {
    blocks: Vec<Vec<Node>>,
}

impl Graph {
    pub(super) fn add(&mut self, node: Node, budget: &mut Budget) -> Result<Item, String> {
        budget.object(size_of::<Node>() + 1 + node.heap_size())?;
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        let before = BLOCK * (self.blocks.len() - 1);
        let block = self.blocks.last_mut().expect("one was just added");
        let id = u32::try_from(before + block.len())
            .map_err(|_| "the file contains too many objects")?;
        block.push(node);
        Ok(Item::Node(id))
    }

    pub(super) fn node(&self, item: Item) -> Option<&Node> {
        let Item::Node(id) = item else { return None };
        self.blocks.get(id as usize / BLOCK)?.get(id as usize % BLOCK)
    }

    pub(super) fn node_mut(&mut self, item: Item) -> Option<&mut Node> {
        let Item::Node(id) = item else { return None };
        self.blocks.get_mut(id as usize / BLOCK)?.get_mut(id as usize % BLOCK)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.blocks.iter().flatten()
    }

    pub(super) fn text(&self, item: Item) -> Option<&str> {
        match self.node(item)? {
            Node::Text { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Returns the name if `item` is a class or function; otherwise `None`.
    pub(super) fn global(&self, item: Item) -> Option<&str> {
        match self.node(item)? {
            Node::Global(name) => Some(name),
            _ => None,
        }
    }

    /// Returns the items if `item` is a tuple, list or set; otherwise `None`.
    pub(super) fn items(&self, item: Item) -> Option<&[Item]> {
        match self.node(item)? {
            Node::List(items) => Some(items),
            Node::Tuple(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn pairs(&self, item: Item) -> Option<&[(Item, Item)]> {
        match self.node(item)? {
            Node::Dict(pairs) => Some(pairs),
            _ => None,
        }
    }

    /// Converts a tuple of sizes or strides to numbers.
    ///
    /// Returns `None` if a number is invalid, or if there are more than [`DIMS`] numbers.
    pub(super) fn sizes(&self, item: Item) -> Option<Box<[u64]>> {
        let items = self.items(item).filter(|items| items.len() <= DIMS)?;
        items.iter().map(|size| size.count()).collect()
    }
}

impl Item {
    /// Returns the value if the item is a non-negative integer; otherwise `None`.
    pub(super) fn count(self) -> Option<u64> {
        match self {
            Self::Int(n) => u64::try_from(n).ok(),
            _ => None,
        }
    }
}

impl Node {
    /// Returns the size of the node's heap memory in bytes.
    pub(super) fn heap_size(&self) -> usize {
        match self {
            Self::Text { text, .. } => text.len(),
            Self::Global(name) => name.len(),
            Self::Long(bytes) => bytes.len(),
            Self::List(items) => items.capacity() * size_of::<Item>(),
            Self::Tuple(items) => size_of_val(&**items),
            Self::Dict(pairs) => pairs.capacity() * size_of::<(Item, Item)>(),
            Self::Storage(_) => size_of::<Storage>(),
            Self::View(view) => size_of::<View>() + 16 * view.shape.len(),
            Self::Object(_) => size_of::<Object>(),
            _ => 0,
        }
    }
}
