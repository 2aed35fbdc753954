//! What a pickle builds, before it becomes a tree: nodes that refer to one another by number.
//!
//! References by number make sharing and cycles harmless here, and dropping a million nested lists is dropping a table.

use super::budget::Budget;
use super::dtype::Dtype;
use super::source::Range;
use super::view::View;

/// One thing on the stack or in a container.
#[derive(Debug, Clone, Copy)]
pub(super) enum Item {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Node(u32),
}

/// Bytes in the file. Protocol 2 has none: it writes them as text, a character a byte (`latin1`), UTF-8 encoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes {
    pub(super) range: Range,
    pub(super) latin1: bool,
}

/// A storage a tensor of PyTorch looks into.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage {
    /// Its name, a text.
    pub(super) key: Item,
    pub(super) dtype: &'static Dtype,
    /// The part meant, in elements.
    pub(super) start: u64,
    pub(super) numel: u64,
}

/// An instance of a class that is only described.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) class: Item,
    /// What the class was called with.
    pub(super) args: Item,
    /// A list or a dict, where items were added.
    pub(super) items: Option<Item>,
    /// What `BUILD` set.
    pub(super) state: Option<Item>,
}

#[derive(Debug)]
pub(super) enum Node {
    /// Text, and where it is in the file.
    Text {
        at: u64,
        text: Box<str>,
    },
    LongText(Range),
    Bytes(Bytes),
    /// An integer beyond 64 bits, little endian.
    Long(Box<[u8]>),
    /// Lists and sets.
    List(Vec<Item>),
    Tuple(Box<[Item]>),
    Dict(Vec<(Item, Item)>),
    /// A class or a function: `module.name`.
    Global(Box<str>),
    Storage(Box<Storage>),
    View(Box<View>),
    /// A NumPy array before its state is set.
    Array,
    NumpyType {
        dtype: &'static Dtype,
        big_endian: bool,
    },
    Object(Box<Object>),
    Opaque(&'static str),
}

/// Dimensions a tensor may have, as in PyTorch and NumPy.
const DIMS: usize = 64;

/// Nodes in a block. Blocks never move, so that growing needs no second copy.
const BLOCK: usize = 1024;

/// All nodes of a file.
#[derive(Default)]
pub(super) struct Graph {
    blocks: Vec<Vec<Node>>,
}

impl Graph {
    /// Adds a node and gives the reference to it.
    pub(super) fn add(&mut self, node: Node, budget: &mut Budget) -> Result<Item, String> {
        budget.object(size_of::<Node>() + 1 + node.heap_size())?;
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        let before = BLOCK * (self.blocks.len() - 1);
        let block = self.blocks.last_mut().expect("one was just added");
        let id = u32::try_from(before + block.len()).map_err(|_| "it holds too many objects")?;
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

    /// Gives the name of a class or function.
    pub(super) fn global(&self, item: Item) -> Option<&str> {
        match self.node(item)? {
            Node::Global(name) => Some(name),
            _ => None,
        }
    }

    /// Gives what is in a tuple, a list or a set.
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

    /// Gives the sizes or strides of a shape: a tuple of a few numbers, none negative.
    pub(super) fn sizes(&self, item: Item) -> Option<Box<[u64]>> {
        let items = self.items(item).filter(|items| items.len() <= DIMS)?;
        items.iter().map(|size| size.count()).collect()
    }
}

impl Item {
    /// Gives a number that is not negative.
    pub(super) fn count(self) -> Option<u64> {
        match self {
            Self::Int(n) => u64::try_from(n).ok(),
            _ => None,
        }
    }
}

impl Node {
    /// Bytes beside the node itself.
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
