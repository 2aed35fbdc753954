//! The objects of a pickle before they become a tree: nodes that refer to each other by number.
//!
//! Because of the numbers, shared nodes and cycles are harmless. Dropping a million nested lists does not recurse.

use super::budget::Budget;
use super::dtype::Dtype;
use super::source::Range;
use super::view::View;

/// A small value, or the index of a node.
#[derive(Debug, Clone, Copy)]
pub(super) enum Item {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Node(u32),
}

/// A Python `bytes` object in the file.
///
/// Protocol 2 stores bytes as text: each byte becomes a `latin1` character.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes {
    pub(super) range: Range,
    pub(super) latin1: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Storage {
    /// A text node: the name of the storage.
    pub(super) key: Item,
    pub(super) dtype: &'static Dtype,
    /// Index of the first element that tensors may use. Nonzero only for a view of a larger storage.
    pub(super) start: u64,
    pub(super) numel: u64,
}

/// A description of a Python object. The reader never creates the object itself.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) class: Item,
    pub(super) args: Item,
    /// Items that the pickle appends to the object: a list or a dict.
    pub(super) items: Option<Item>,
    /// The state of the object, which the opcode `BUILD` sets.
    pub(super) state: Option<Item>,
}

#[derive(Debug)]
pub(super) enum Node {
    /// A text, and the text's offset in the file in bytes.
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
    /// The name of a class or function: `module.name`.
    Global(Box<str>),
    Storage(Box<Storage>),
    View(Box<View>),
    /// A NumPy array that the opcode `BUILD` has not filled yet.
    Array,
    NumpyType {
        dtype: &'static Dtype,
        big_endian: bool,
    },
    Object(Box<Object>),
    Opaque(&'static str),
}

/// Maximum number of dimensions, as in PyTorch and NumPy.
const DIMS: usize = 64;

/// Number of nodes per block of memory. A full block never moves.
const BLOCK: usize = 1024;

#[derive(Default)]
pub(super) struct Graph {
    blocks: Vec<Vec<Node>>,
}

impl Graph {
    /// Adds a node and returns the index of the node.
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

    /// Returns the name of a class or function; `None` for other items.
    pub(super) fn global(&self, item: Item) -> Option<&str> {
        match self.node(item)? {
            Node::Global(name) => Some(name),
            _ => None,
        }
    }

    /// Returns the items of a tuple, list or set; `None` for other items.
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

    /// Returns the numbers in a shape or in strides; `None` if the numbers are invalid.
    pub(super) fn sizes(&self, item: Item) -> Option<Box<[u64]>> {
        let items = self.items(item).filter(|items| items.len() <= DIMS)?;
        items.iter().map(|size| size.count()).collect()
    }
}

impl Item {
    /// Returns the value of a non-negative integer; `None` for other items.
    pub(super) fn count(self) -> Option<u64> {
        match self {
            Self::Int(n) => u64::try_from(n).ok(),
            _ => None,
        }
    }
}

impl Node {
    /// Returns the heap memory of a node, in bytes.
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
