//! Converts the tree of a pickle to weights with the official names, settings, and the optimizer state.
//!
//! Supports files of the official code (`model`, `optimizer`, `epoch`, `args`), plain state dicts (`DeiT`, timm,
//! encoders), and files of the Paddle port. Paddle gives each tensor a second, internal name, and stores linear weights
//! as `[in, out]`.

use super::HostTensor;
use super::facts::Settings;
use super::optimizer::{self, OptimizerState};
use super::pickle::Value;
use std::collections::BTreeMap;

/// Keys under which training scripts store the weights.
const WEIGHTS: [&str; 5] =
    ["model", "state_dict", "model_state_dict", "model_ema", "state_dict_ema"];
/// Prefixes that module wrappers add to every name.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];

/// The content of a pickled checkpoint.
pub(super) struct Pickled {
    pub tensors: BTreeMap<String, HostTensor>,
    pub settings: Settings,
    /// The optimizer state, or the reason why there is none.
    pub optimizer: Result<OptimizerState, String>,
    /// A sentence that says which weights are used, if the file has several sets.
    pub note: Option<String>,
}

/// The names of a weight: the official one, and the internal one of Paddle.
pub(super) struct Weight {
    pub name: String,
    pub internal: Option<String>,
    pub shape: Vec<usize>,
}

pub(super) fn from_tree(tree: Value) -> Result<Pickled, String> {
    let Value::Dict(mut top) = tree else {
        return Err("it does not contain a dict of tensors".to_owned());
    };
    let args = take(&mut top, "args");
    let epoch = take(&mut top, "epoch");
    let optimizer = take(&mut top, "optimizer");
    let mut inner = WEIGHTS.iter().filter_map(|key| match take(&mut top, key) {
        Some(Value::Dict(dict)) => Some((key, dict)),
        _ => None,
    });
    let (taken, others) = (inner.next(), inner.map(|(key, _)| key).collect::<Vec<_>>());
    let note = taken.as_ref().and_then(|(taken, _)| {
        let other = others.first()?;
        Some(format!(
            "it contains several sets of weights; `{taken}` is used, not `{other}` (to use `{other}`, save it alone)"
        ))
    });
    let dict = taken.map_or(top, |(_, dict)| dict);
    let keys: Vec<String> = dict.iter().take(5).map(|(key, _)| key_text(key)).collect();
    let (order, mut tensors) = weights(dict);
    if tensors.is_empty() && keys.is_empty() {
        return Err("it does not contain named tensors".to_owned());
    }
    if tensors.is_empty() {
        return Err(format!(
            "it does not contain named tensors; its first keys are {}",
            keys.join(", ")
        ));
    }
    let transposed = is_transposed(&tensors);
    if transposed {
        tensors.values_mut().filter(|t| t.shape.len() == 2).for_each(transpose);
    }
    let settings = settings(args.as_ref(), epoch.as_ref());
    let optimizer = match optimizer {
        Some(Value::Dict(state)) => optimizer::from_dict(state, &order, transposed),
        _ => Err("it has no optimizer state".to_owned()),
    };
    Ok(Pickled { tensors, settings, optimizer, note })
}

fn key_text(key: &Value) -> String {
    match key {
        Value::Text(text) => format!("`{}`", text.chars().take(40).collect::<String>()),
        Value::Int(int) => int.to_string(),
        _ => "an object".to_owned(),
    }
}

/// Removes the entry `key` from a dict and returns its value.
pub(super) fn take(dict: &mut Vec<(Value, Value)>, key: &str) -> Option<Value> {
    let at = dict.iter().position(|(k, _)| matches!(k, Value::Text(text) if text == key))?;
    Some(dict.swap_remove(at).1)
}

fn weights(dict: Vec<(Value, Value)>) -> (Vec<Weight>, BTreeMap<String, HostTensor>) {
    let (mut order, mut tensors) = (Vec::new(), BTreeMap::new());
    for (key, value) in dict {
        let Value::Text(key) = key else { continue };
        let Some((internal, tensor)) = tensor(value) else { continue };
        let name = official_name(&key);
        order.push(Weight { name: name.clone(), internal, shape: tensor.shape.clone() });
        tensors.insert(name, tensor);
    }
    (order, tensors)
}

/// Returns the tensor in `value`, and its internal name if Paddle stored it as `(internal name, array)`.
pub(super) fn tensor(value: Value) -> Option<(Option<String>, HostTensor)> {
    match value {
        Value::Tensor(tensor) => Some((None, tensor)),
        Value::List(items) => match <[Value; 2]>::try_from(items).ok()? {
            [Value::Text(internal), Value::Tensor(tensor)] => Some((Some(internal), tensor)),
            _ => None,
        },
        _ => None,
    }
}

fn official_name(key: &str) -> String {
    let bare =
        WRAPPERS.iter().fold(key, |name, wrapper| name.strip_prefix(wrapper).unwrap_or(name));
    // Paddle's names of the running statistics of BatchNorm.
    match bare.rsplit_once('.') {
        Some((layer, "_mean")) => format!("{layer}.running_mean"),
        Some((layer, "_variance")) => format!("{layer}.running_var"),
        _ => bare.to_owned(),
    }
}

/// Returns whether linear weights are `[in, out]`. The shape of a `qkv` weight shows this, because `out` is three times
/// `in`.
fn is_transposed(tensors: &BTreeMap<String, HostTensor>) -> bool {
    let qkv = tensors.get("blocks.0.attn.qkv.weight").map(|tensor| &tensor.shape[..]);
    matches!(qkv, Some([a, b]) if *b == a.saturating_mul(3))
}

/// Transposes `[a, b]` to `[b, a]`.
pub(super) fn transpose(tensor: &mut HostTensor) {
    let [rows, columns] = tensor.shape[..] else { return };
    let old = &tensor.values;
    let values = (0..columns).flat_map(|c| (0..rows).map(move |r| old[r * columns + c])).collect();
    *tensor = HostTensor { shape: vec![columns, rows], values };
}

/// Returns the settings of the official code. `args` is an `argparse.Namespace`; `epoch` is the last epoch, counted from
/// 0.
fn settings(args: Option<&Value>, epoch: Option<&Value>) -> Settings {
    let args = match args {
        Some(Value::Object { state, .. }) => &**state,
        Some(other) => other,
        None => &Value::None,
    };
    let arg = |name: &str| match args {
        Value::Dict(dict) => dict
            .iter()
            .find(|(key, _)| matches!(key, Value::Text(text) if text == name))
            .map(|(_, value)| value),
        _ => None,
    };
    Settings {
        norm_pix_loss: match arg("norm_pix_loss") {
            Some(Value::Bool(on)) => Some(*on),
            _ => None,
        },
        mask_ratio: match arg("mask_ratio") {
            Some(Value::Float(ratio)) => Some(*ratio),
            _ => None,
        },
        epoch: match epoch {
            Some(Value::Int(epoch)) => usize::try_from(*epoch).ok().map(|last| last + 1),
            _ => None,
        },
        ..Settings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::{HostTensor, Value, from_tree};

    fn dict(entries: Vec<(&str, Value)>) -> Value {
        let text = |(key, value): (&str, Value)| (Value::Text(key.to_owned()), value);
        Value::Dict(entries.into_iter().map(text).collect())
    }

    fn weights(value: f32) -> Value {
        dict(vec![("w", Value::Tensor(HostTensor { shape: vec![1], values: vec![value] }))])
    }

    #[test]
    fn a_note_names_the_used_set_of_weights() {
        let both = dict(vec![("model_ema", weights(2.0)), ("model", weights(1.0))]);
        let read = from_tree(both).ok().unwrap();
        assert_eq!(read.tensors["w"].values, [1.0]);
        assert!(read.note.unwrap().contains("`model` is used, not `model_ema`"));
        let one = from_tree(dict(vec![("model", weights(1.0))])).ok().unwrap();
        assert_eq!(one.note, None);
    }

    #[test]
    fn a_file_without_named_tensors_is_refused() {
        assert_eq!(from_tree(dict(Vec::new())).err().unwrap(), "it does not contain named tensors");
    }
}
