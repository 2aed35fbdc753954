//! The content of a checkpoint file as a flat list of named tensors. `networks` then searches the list for networks.
//!
//! A nested dict becomes a path, so the weights of `{"model": {"cls_token": ...}}` are at `model.cls_token`. A pickled
//! module (`torch.save(model)`) gets the same tensor names as its `state_dict()`.

use super::facts::Settings;
use super::pickle::Value;
use super::{HostTensor, OptimizerState, pickled};
use std::collections::BTreeMap;

/// A tensor with its full name. `internal` is Paddle's name of the parameter, if the file stores it.
#[derive(Debug)]
pub(super) struct Entry {
    pub name: String,
    pub internal: Option<String>,
    pub tensor: HostTensor,
}

/// The tensors and settings of one or more checkpoint files.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub entries: Vec<Entry>,
    /// Pairs (name, description) of tensors that are not floats. A description is like `int64 tensor [3]`.
    pub others: Vec<(String, String)>,
    /// Attributes of pickled modules. A key is a path such as `blocks.0.attn.num_heads`.
    pub attributes: BTreeMap<String, Attribute>,
    /// The settings in the checkpoint files.
    pub settings: Settings,
    /// The `state_dict()` of the optimizer, as (key, value) pairs.
    pub optimizer: Option<Vec<(Value, Value)>>,
    /// The optimizer state and the training position (as JSON) of an unfinished job.
    pub state: Option<(OptimizerState, String)>,
    /// The first keys of the outermost dict in a pickle, for an error message.
    pub first_keys: Vec<String>,
    /// Total length of all tensor names and attribute names so far, in bytes.
    names: usize,
}

#[derive(Debug, PartialEq)]
pub(super) enum Attribute {
    Count(usize),
    Number(f64),
    Word(String),
}

/// Maximum length in bytes of the path to a dict, list or module in a pickle. Deeper items are ignored.
const LONGEST_PATH: usize = 256;
/// Maximum total length of all tensor names and attribute names in bytes. Limits the memory.
const NAMES: usize = 16 << 20;
/// Attributes of pickled modules that change a network's outputs.
const ATTRIBUTES: [&str; 4] = ["num_heads", "num_attention_heads", "eps", "global_pool"];
/// Tensors with one of these parts in their dotted name are optimizer state, not weights.
const OPTIMIZER: [&str; 6] =
    ["opt", "exp_avg", "exp_avg_sq", "momentum_buffer", "grads", "gradients"];

impl Content {
    /// Collects the tensors and settings of an unpickled file.
    pub(super) fn of_pickle(tree: Value) -> Result<Self, String> {
        let mut content = Self::default();
        let tree = match tree {
            Value::Dict(mut top) => {
                let args = pickled::take(&mut top, "args");
                let epoch = pickled::take(&mut top, "epoch");
                content.settings = pickled::settings(args.as_ref(), epoch.as_ref());
                if let Some(Value::Dict(state)) = pickled::take(&mut top, "optimizer") {
                    content.optimizer = Some(state);
                }
                content.first_keys =
                    top.iter().take(5).map(|(key, _)| pickled::key_text(key)).collect();
                Value::Dict(top)
            }
            Value::List(_) | Value::Object { .. } => tree,
            _ => return Err("the file does not contain a dict of tensors".to_owned()),
        };
        content.walk(tree, &mut String::new())?;
        Ok(content)
    }

    /// Adds the content of another file of the same sharded checkpoint.
    pub(super) fn append(&mut self, mut other: Self) {
        self.entries.append(&mut other.entries);
        self.others.append(&mut other.others);
        self.attributes.append(&mut other.attributes);
    }

    fn walk(&mut self, value: Value, path: &mut String) -> Result<(), String> {
        match value {
            Value::Dict(pairs) => {
                for (key, value) in pairs {
                    if let Value::Text(key) = key {
                        self.item(key, value, path)?;
                    }
                }
            }
            Value::List(items) => {
                for (index, item) in items.into_iter().enumerate() {
                    if !matches!(item, Value::Int(_) | Value::Float(_)) {
                        self.item(index.to_string(), item, path)?;
                    }
                }
            }
            Value::Object { class, state } => self.object(&class, *state, path)?,
            _ => {}
        }
        Ok(())
    }

    /// Adds the tensor `value`, or all tensors in the dict, list or module `value`. Ignores optimizer state.
    fn item(&mut self, key: String, value: Value, path: &mut String) -> Result<(), String> {
        if is_of_optimizer(&key) {
            return Ok(());
        }
        let is_pair = matches!(&value, Value::List(items)
            if matches!(items[..], [Value::Text(_), Value::Tensor(_)]));
        match value {
            Value::Opaque(what) if what.contains(" tensor ") => {
                let name = self.full_name(key, path)?;
                self.others.push((name, what));
            }
            Value::Tensor(_) => self.tensor(key, value, path)?,
            Value::List(_) if is_pair => self.tensor(key, value, path)?,
            Value::Dict(_) | Value::List(_) | Value::Object { .. } => {
                let before = path.len();
                if before + key.len() < LONGEST_PATH {
                    path.push_str(&key);
                    path.push('.');
                    self.walk(value, path)?;
                    path.truncate(before);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn tensor(&mut self, key: String, value: Value, path: &str) -> Result<(), String> {
        if let Some((internal, tensor)) = pickled::tensor(value) {
            let name = self.full_name(key, path)?;
            self.entries.push(Entry { name, internal, tensor });
        }
        Ok(())
    }

    fn full_name(&mut self, key: String, path: &str) -> Result<String, String> {
        if path.is_empty() {
            return Ok(key);
        }
        self.names += path.len() + key.len();
        if self.names > NAMES {
            return Err("all tensor names together take more than 16 MiB".to_owned());
        }
        Ok(format!("{path}{key}"))
    }

    /// Adds the tensors and attributes of a pickled module. The tensor names are those of `state_dict()`.
    fn object(&mut self, class: &str, state: Value, path: &mut String) -> Result<(), String> {
        let Value::Dict(state) = state else { return self.walk(state, path) };
        let is_module =
            state.iter().any(|(key, _)| matches!(key, Value::Text(key) if key == "_modules"));
        if !is_module {
            return self.walk(Value::Dict(state), path);
        }
        if let Some(act) = activation(class) {
            let name = self.full_name("activation".to_owned(), path)?;
            self.attributes.insert(name, Attribute::Word(act.to_owned()));
        }
        for (key, value) in state {
            let Value::Text(key) = key else { continue };
            match (key.as_str(), value) {
                ("_parameters" | "_buffers" | "_modules", content) => {
                    self.walk(content, path)?;
                }
                (key, value) if ATTRIBUTES.contains(&key) || key == "approximate" => {
                    if let Some(value) = attribute(value) {
                        let name = self.full_name(key.to_owned(), path)?;
                        self.attributes.insert(name, value);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Returns whether the dotted name `key` belongs to optimizer state.
pub(super) fn is_of_optimizer(key: &str) -> bool {
    key.split('.').any(|part| part.starts_with("optim") || OPTIMIZER.contains(&part))
}

fn attribute(value: Value) -> Option<Attribute> {
    match value {
        Value::Int(count) => usize::try_from(count).ok().map(Attribute::Count),
        Value::Float(number) => Some(Attribute::Number(number)),
        Value::Text(word) => Some(Attribute::Word(word)),
        _ => None,
    }
}

/// Returns the name of an activation class that this program does not support; otherwise `None`.
fn activation(class: &str) -> Option<&str> {
    let name = class.strip_prefix("torch.nn.modules.activation.")?;
    (!["GELU", "MultiheadAttention", "Softmax"].contains(&name)).then_some(name)
}
