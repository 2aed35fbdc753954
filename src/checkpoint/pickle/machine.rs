//! The stack machine that runs the opcodes of pickle protocols 2 to 5 and builds a graph. It never calls Python.

use super::budget::Budget;
use super::graph::{Graph, Item, Node, Object};
use super::source::Reader;
use std::collections::BTreeMap;
use std::mem::discriminant;

/// Memory per memo entry in bytes.
const MEMO: usize = 48;

pub(super) struct Machine<'a, 'file> {
    pub(super) reader: &'a mut Reader<'file>,
    pub(super) graph: &'a mut Graph,
    pub(super) budget: &'a mut Budget,
    stack: Vec<Item>,
    /// Number of stack items below each `MARK`.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Item>,
}

/// Runs the opcodes of a pickle up to `STOP`, and returns the resulting object.
pub(super) fn run(
    reader: &mut Reader<'_>,
    graph: &mut Graph,
    budget: &mut Budget,
) -> Result<Item, String> {
    let (stack, marks, memo) = (Vec::new(), Vec::new(), BTreeMap::new());
    let mut machine = Machine { reader, graph, budget, stack, marks, memo };
    loop {
        let at = machine.reader.at();
        let op = machine.reader.byte()?;
        if op == b'.' {
            return machine.stop();
        }
        machine.step(op).map_err(|e| format!("{e} (pickle opcode {op:#04x} at byte {at})"))?;
    }
}

impl Machine<'_, '_> {
    fn step(&mut self, op: u8) -> Result<(), String> {
        match op {
            0x80 => self.protocol(),
            0x95 => self.reader.array::<8>().map(drop), // FRAME: only a hint to read ahead
            b'N' => self.push(Item::None),
            0x88 => self.push(Item::Bool(true)),
            0x89 => self.push(Item::Bool(false)),
            b'G' | b'J' | b'K' | b'M' | 0x8a | 0x8b => self.number(op),
            b'X' | b'U' | b'T' | 0x8c | 0x8d => self.text(op),
            b'B' | b'C' | 0x8e | 0x96 => self.bytes(op),
            b')' | b']' | b'}' | 0x8f => self.empty(op),
            b't' | b'l' | b'd' | 0x91 | 0x85..=0x87 => self.collect(op),
            b'a' | b'e' | 0x90 => self.append(op == b'a'),
            b's' | b'u' => self.set_items(op == b's'),
            b'(' | b'0' | b'1' | b'2' => self.rearrange(op),
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.remember(op),
            b'c' | 0x93 => self.global(op),
            b'R' | 0x81 | 0x92 | b'i' | b'o' | b'b' | b'Q' => self.object(op),
            _ => Err(refused(op).to_owned()),
        }
    }

    fn stop(mut self) -> Result<Item, String> {
        let object = self.pop();
        let stack = self.stack.capacity() * size_of::<Item>();
        let marks = self.marks.capacity() * size_of::<usize>();
        self.budget.give_back(stack + marks + self.memo.len() * MEMO);
        object
    }

    fn protocol(&mut self) -> Result<(), String> {
        match self.reader.byte()? {
            0..=5 => Ok(()),
            protocol => Err(format!("mae does not support pickle protocol {protocol}")),
        }
    }

    fn empty(&mut self, op: u8) -> Result<(), String> {
        self.add(match op {
            b')' => Node::Tuple(Box::default()),
            b'}' => Node::Dict(Vec::new()),
            _ => Node::List(Vec::new()),
        })
    }

    /// Replaces items on top of the stack by one list, dict or tuple. `op` decides the type and the number of items.
    fn collect(&mut self, op: u8) -> Result<(), String> {
        let start = match op {
            0x85..=0x87 => self.above(usize::from(op - 0x84))?,
            _ => self.pop_mark()?,
        };
        let items: Box<[Item]> = self.stack.drain(start..).collect();
        match op {
            b'l' | 0x91 => self.add(Node::List(items.into())),
            b'd' => {
                let pairs = pairs(&items)?.collect();
                self.add(Node::Dict(pairs))
            }
            _ => self.add(Node::Tuple(items)),
        }
    }

    fn append(&mut self, one: bool) -> Result<(), String> {
        let start = if one { self.above(1)? } else { self.pop_mark()? };
        let target = self.target(start, Node::List(Vec::new()))?;
        match self.graph.node_mut(target) {
            Some(Node::List(list)) => {
                self.budget.grow(list, self.stack.len() - start)?;
                list.extend(self.stack.drain(start..));
            }
            _ => return Err("the pickle appends to an object that is not a list".to_owned()),
        }
        Ok(())
    }

    fn set_items(&mut self, one: bool) -> Result<(), String> {
        let start = if one { self.above(2)? } else { self.pop_mark()? };
        let target = self.target(start, Node::Dict(Vec::new()))?;
        match self.graph.node_mut(target) {
            Some(Node::Dict(dict)) => {
                let pairs = pairs(&self.stack[start..])?;
                self.budget.grow(dict, pairs.len())?;
                dict.extend(pairs);
            }
            _ => return Err("the pickle sets a key of an object that is not a dict".to_owned()),
        }
        self.stack.truncate(start);
        Ok(())
    }

    /// Returns the list or dict to which an opcode adds stack items. `start` is the index of the first item.
    ///
    /// For a Python object, returns the object's own list or dict. If the object has none, adds `fresh` to the object.
    fn target(&mut self, start: usize, fresh: Node) -> Result<Item, String> {
        let floor = self.floor();
        let below = start.checked_sub(1).filter(|below| *below >= floor);
        let target = self.stack[below.ok_or_else(underflow)?];
        let Some(Node::Object(object)) = self.graph.node(target) else { return Ok(target) };
        // An object with list items and dict items keeps only the last container. Real files do not have such objects.
        let is_same = |node: &Node| discriminant(node) == discriminant(&fresh);
        if let Some(items) =
            object.items.filter(|items| self.graph.node(*items).is_some_and(is_same))
        {
            return Ok(items);
        }
        let items = self.graph.add(fresh, self.budget)?;
        if let Some(Node::Object(object)) = self.graph.node_mut(target) {
            object.items = Some(items);
        }
        Ok(items)
    }

    fn rearrange(&mut self, op: u8) -> Result<(), String> {
        match op {
            b'(' => {
                self.budget.grow(&mut self.marks, 1)?;
                self.marks.push(self.stack.len());
            }
            b'1' => {
                let start = self.pop_mark()?;
                self.stack.truncate(start);
            }
            b'2' => {
                let top = self.stack[self.above(1)?];
                self.push(top)?;
            }
            _ if self.stack.len() == self.floor() => drop(self.pop_mark()?),
            _ => drop(self.pop()?),
        }
        Ok(())
    }

    fn remember(&mut self, op: u8) -> Result<(), String> {
        let index = match op {
            b'q' | b'h' => self.reader.byte()?.into(),
            b'r' | b'j' => u32::from_le_bytes(self.reader.array()?),
            _ => self.memo.len() as u32,
        };
        if matches!(op, b'h' | b'j') {
            let item =
                self.memo.get(&index).ok_or("the pickle reads a memo entry that does not exist")?;
            return self.push(*item);
        }
        let top = self.stack[self.above(1)?];
        if self.memo.insert(index, top).is_none() {
            self.budget.object(MEMO)?;
        }
        Ok(())
    }

    fn global(&mut self, op: u8) -> Result<(), String> {
        let name = if op == b'c' {
            self.global_line()?
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            let (Some(module), Some(name)) = (self.graph.text(module), self.graph.text(name))
            else {
                return Err("the pickle has a class without a name".to_owned());
            };
            format!("{module}.{name}")
        };
        self.add(Node::Global(name.into()))
    }

    fn global_line(&mut self) -> Result<String, String> {
        Ok(format!("{}.{}", self.reader.line()?, self.reader.line()?))
    }

    /// Runs an opcode that creates or changes a Python object.
    fn object(&mut self, op: u8) -> Result<(), String> {
        match op {
            b'b' => {
                let state = self.pop()?;
                let target = self.stack[self.above(1)?];
                return self.build(target, state);
            }
            b'Q' => {
                let id = self.pop()?;
                return self.persistent(id);
            }
            b'i' => {
                let class = self.global_line()?;
                let class = self.graph.add(Node::Global(class.into()), self.budget)?;
                self.collect(b't')?;
                let args = self.pop()?;
                return self.add(object(class, args));
            }
            0x92 => drop(self.pop()?), // NEWOBJ_EX: keyword arguments are dropped
            b'o' => self.collect(b't')?,
            _ => {}
        }
        let args = self.pop()?;
        if op != b'o' {
            let callable = self.pop()?;
            return self.call(callable, args);
        }
        let class = self.graph.items(args).and_then(|items| items.first().copied());
        self.add(object(class.ok_or("the pickle has an object without a class")?, args))
    }

    /// Adds a node to the graph and pushes its index onto the stack.
    pub(super) fn add(&mut self, node: Node) -> Result<(), String> {
        let item = self.graph.add(node, self.budget)?;
        self.push(item)
    }

    pub(super) fn push(&mut self, item: Item) -> Result<(), String> {
        self.budget.grow(&mut self.stack, 1)?;
        self.stack.push(item);
        Ok(())
    }

    fn pop(&mut self) -> Result<Item, String> {
        self.above(1)?;
        self.stack.pop().ok_or_else(underflow)
    }

    fn pop_mark(&mut self) -> Result<usize, String> {
        self.marks.pop().ok_or_else(|| "the pickle is corrupt: its stack has no MARK".to_owned())
    }

    /// Returns the stack index of the `n`-th item from the top. Fails if this item is below the last `MARK`.
    fn above(&self, n: usize) -> Result<usize, String> {
        let floor = self.floor();
        self.stack.len().checked_sub(n).filter(|start| *start >= floor).ok_or_else(underflow)
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }
}

pub(super) fn object(class: Item, args: Item) -> Node {
    Node::Object(Object { class, args, items: None, state: None }.into())
}

fn pairs(items: &[Item]) -> Result<impl ExactSizeIterator<Item = (Item, Item)>, String> {
    let (pairs, []) = items.as_chunks::<2>() else {
        return Err("a dict key in the pickle has no value".to_owned());
    };
    Ok(pairs.iter().map(|[key, value]| (*key, *value)))
}

fn underflow() -> String {
    "the pickle is corrupt: an operation needs more items than its stack has".to_owned()
}

fn refused(op: u8) -> &'static str {
    match op {
        b'I' | b'L' | b'F' | b'S' | b'V' | b'g' | b'p' | b'P' => {
            "mae does not support the opcodes of pickle protocol 0"
        }
        0x82..=0x84 => "mae does not support pickle extension codes",
        0x97 | 0x98 => "mae does not support pickles with buffers outside the file",
        _ => "unknown opcode",
    }
}
