//! Converts the graph to a tree. Each use of a shared object becomes a copy. The budget limits the memory.

use super::budget::Budget;
use super::graph::{Graph, Item, Node, Object};
use super::source::{ByteSource, Range};
use super::storages::Storages;
use super::view::{View, ViewData};
use super::{HostTensor, Value};

/// Maximum depth of nested containers. Limits the recursion when a tree is dropped.
const DEPTH: usize = 128;

const VALUE: usize = size_of::<Value>();

pub(super) struct Tree<'a> {
    pub(super) graph: &'a Graph,
    pub(super) storages: &'a Storages,
    pub(super) source: &'a ByteSource,
    pub(super) budget: &'a mut Budget,
    /// Indices of the containers around the current item, to detect cycles.
    path: Vec<u32>,
    /// Number of containers in `path` that are objects of an unknown class.
    foreign: usize,
}

impl<'a> Tree<'a> {
    pub(super) fn new(
        graph: &'a Graph,
        storages: &'a Storages,
        source: &'a ByteSource,
        budget: &'a mut Budget,
    ) -> Self {
        Self { graph, storages, source, budget, path: Vec::new(), foreign: 0 }
    }

    /// Converts an item of the graph to a [`Value`].
    pub(super) fn value(&mut self, item: Item) -> Result<Value, String> {
        let id = match item {
            Item::None => return Ok(Value::None),
            Item::Bool(b) => return Ok(Value::Bool(b)),
            Item::Int(n) => return Ok(Value::Int(n)),
            Item::Float(x) => return Ok(Value::Float(x)),
            Item::Node(id) => id,
        };
        match self.graph.node(item).ok_or("the pickle refers to a missing object")? {
            Node::Text { text, .. } => self.text(text).map(Value::Text),
            Node::LongText(range) => self.long_text(*range),
            Node::Global(name) => self.opaque(name),
            Node::Bytes(bytes) => self.opaque(&format!("{} bytes", bytes.range.len)),
            Node::Long(bytes) => self.opaque(&format!("an integer of {} bytes", bytes.len())),
            Node::Storage(storage) => {
                self.opaque(&format!("{} storage of {}", storage.dtype.name, storage.numel))
            }
            Node::NumpyType { dtype, .. } => self.opaque(&format!("numpy.dtype {}", dtype.name)),
            Node::Array => self.opaque("a NumPy array without content"),
            Node::Opaque(what) => self.opaque(what),
            Node::View(view) => self.tensor(view),
            Node::List(_) | Node::Tuple(_) | Node::Dict(_) | Node::Object(_) => {
                self.nested(item, id)
            }
        }
    }

    fn nested(&mut self, item: Item, id: u32) -> Result<Value, String> {
        if self.path.contains(&id) {
            return self.refuse("an object that contains itself");
        }
        if self.path.len() == DEPTH {
            return self.refuse("containers nested too deeply");
        }
        self.path.push(id);
        let value = match self.graph.node(item) {
            Some(Node::List(items)) => self.list(items).map(Value::List),
            Some(Node::Tuple(items)) => self.list(items).map(Value::List),
            Some(Node::Dict(pairs)) => self.dict(pairs),
            Some(Node::Object(object)) => {
                self.foreign += 1;
                let value = self.object(object);
                self.foreign -= 1;
                value
            }
            _ => Err("the pickle refers to a missing object".to_owned()),
        };
        self.path.pop();
        value
    }

    /// Fails because the file contains `what`, such as a cycle.
    ///
    /// Inside an object of an unknown class, returns the description `what` instead.
    fn refuse(&mut self, what: &str) -> Result<Value, String> {
        if self.foreign > 0 { self.opaque(what) } else { Err(format!("the pickle has {what}")) }
    }

    fn list(&mut self, items: &[Item]) -> Result<Vec<Value>, String> {
        self.budget.object(VALUE * items.len())?;
        let mut list = Vec::with_capacity(items.len());
        for item in items {
            list.push(self.value(*item)?);
        }
        Ok(list)
    }

    fn dict(&mut self, pairs: &[(Item, Item)]) -> Result<Value, String> {
        self.budget.object(2 * VALUE * pairs.len())?;
        let mut dict = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            dict.push((self.value(*key)?, self.value(*value)?));
        }
        Ok(Value::Dict(dict))
    }

    /// Converts the description of an object to a [`Value::Object`].
    fn object(&mut self, object: &Object) -> Result<Value, String> {
        self.budget.object(VALUE)?;
        let class = match self.graph.node(object.class) {
            Some(Node::Global(name)) => self.text(name)?,
            Some(Node::Object(of)) => {
                let name = self.graph.global(of.class).unwrap_or("an object");
                self.text(&format!("the result of {name}"))?
            }
            _ => self.text("an unnamed class")?,
        };
        let has_args = self.graph.items(object.args).is_some_and(|args| !args.is_empty());
        let state = match (object.items, object.state) {
            (Some(items), Some(state)) => self.list(&[items, state]).map(Value::List),
            (Some(item), None) | (None, Some(item)) => self.value(item),
            (None, None) if has_args => self.value(object.args),
            (None, None) => Ok(Value::Dict(Vec::new())),
        };
        Ok(Value::Object { class, state: Box::new(state?) })
    }

    fn tensor(&mut self, view: &View) -> Result<Value, String> {
        let dtype = view.dtype;
        let is_kept = dtype.is_float() || (dtype.is_integer() && view.numel() == Ok(1));
        if !is_kept {
            return self.opaque(&format!("{} tensor {:?}", dtype.name, view.shape));
        }
        let storage = match &view.data {
            ViewData::Storage(storage) => {
                self.storages.range(self.graph, storage.key, self.source, self.budget)?
            }
            ViewData::Bytes(bytes) => bytes.range,
        };
        let checked = view.check(storage)?;
        if dtype.is_integer() {
            let value = checked.integer(self.source, self.budget)?;
            return value.map_or_else(
                || self.opaque("an integer that needs more than 63 bits"),
                |n| Ok(Value::Int(n)),
            );
        }
        let values = checked.floats(self.source, self.budget)?;
        let shape = view.shape.iter().map(|size| *size as usize).collect();
        Ok(Value::Tensor(HostTensor { shape, values }))
    }

    fn long_text(&mut self, range: Range) -> Result<Value, String> {
        self.budget.object(range.len as usize)?;
        let mut bytes = vec![0; range.len as usize];
        self.source.read_at(range.at, &mut bytes)?;
        String::from_utf8(bytes)
            .map(Value::Text)
            .map_err(|_| "a string in the pickle is not valid UTF-8".to_owned())
    }

    fn opaque(&mut self, what: &str) -> Result<Value, String> {
        self.text(what).map(Value::Opaque)
    }

    fn text(&mut self, text: &str) -> Result<String, String> {
        self.budget.object(text.len())?;
        Ok(text.to_owned())
    }
}
