//! Interprets parts of a pickled checkpoint: tensors, the arguments of the training script, and the epoch.
//!
//! Paddle gives each tensor a second, internal name, and stores linear weights as `[in, out]`.

use super::HostTensor;
use super::facts::Settings;
use super::pickle::Value;

#[derive(Debug)]
pub(super) struct Weight {
    pub name: String,
    pub internal: Option<String>,
    pub shape: Vec<usize>,
}

pub(super) fn key_text(key: &Value) -> String {
    match key {
        Value::Text(text) => format!("`{}`", text.chars().take(40).collect::<String>()),
        Value::Int(int) => int.to_string(),
        _ => "an object".to_owned(),
    }
}

/// Removes `key` from a dict and returns its value.
pub(super) fn take(dict: &mut Vec<(Value, Value)>, key: &str) -> Option<Value> {
    let at = dict.iter().position(|(k, _)| matches!(k, Value::Text(text) if text == key))?;
    Some(dict.swap_remove(at).1)
}

/// Returns (Paddle's name if stored, tensor); `None` if `value` is not a tensor.
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

pub(super) fn transpose(tensor: &mut HostTensor) {
    let [rows, columns] = tensor.shape[..] else { return };
    let old = &tensor.values;
    let values = (0..columns).flat_map(|c| (0..rows).map(move |r| old[r * columns + c])).collect();
    *tensor = HostTensor { shape: vec![columns, rows], values };
}

/// Returns the settings in a checkpoint of the official code or of timm.
///
/// `args` is a pickled `argparse.Namespace`. `epoch` is the last trained epoch, counted from 0.
pub(super) fn settings(args: Option<&Value>, epoch: Option<&Value>) -> Settings {
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
    let model_args = |name: &str| match arg("model_kwargs") {
        Some(Value::Dict(dict)) => dict
            .iter()
            .find(|(k, _)| matches!(k, Value::Text(text) if text == name))
            .map(|(_, v)| v),
        _ => None,
    };
    Settings {
        // `global_pool` is a bool in the official scripts and a word in timm.
        average_pool: match (arg("global_pool"), arg("gp"), model_args("global_pool")) {
            (Some(Value::Bool(on)), _, _) => Some(*on),
            (_, Some(Value::Text(word)), _) | (_, _, Some(Value::Text(word))) => {
                Some(word == "avg")
            }
            _ => None,
        },
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
