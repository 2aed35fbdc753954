//! Converts Hugging Face's tensor names and `config.json`, in both directions.
//!
//! Hugging Face has separate query, key and value tensors. The official `attn.qkv` concatenates them in this order.

use super::HostTensor;
use super::dialects::Named;
use super::facts::Settings;
use serde_json::Value;
use std::collections::BTreeMap;

/// Names of tensors outside of the blocks, as (Hugging Face, official).
const OUTER: [(&str, &str); 12] = [
    ("vit.embeddings.cls_token", "cls_token"),
    ("vit.embeddings.position_embeddings", "pos_embed"),
    ("vit.embeddings.patch_embeddings.projection", "patch_embed.proj"),
    ("vit.layernorm", "norm"),
    ("classifier", "head"),
    ("decoder.mask_token", "mask_token"),
    ("decoder.decoder_pos_embed", "decoder_pos_embed"),
    ("decoder.decoder_embed", "decoder_embed"),
    ("decoder.decoder_norm", "decoder_norm"),
    ("decoder.decoder_pred", "decoder_pred"),
    // Some Hugging Face classes have a pooler. Classification does not use the pooler, so mae ignores it.
    ("vit.pooler.dense", ""),
    // Only training with masked images uses this token.
    ("vit.embeddings.mask_token", ""),
];

/// Names of layers inside a block, as (Hugging Face, official).
const INNER: [(&str, &str); 8] = [
    ("layernorm_before", "norm1"),
    ("layernorm_after", "norm2"),
    ("attention.output.dense", "attn.proj"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
    // transformers 5 uses the next names only in memory. Its files have the names above.
    ("attention.o_proj", "attn.proj"),
    ("mlp.fc1", "mlp.fc1"),
    ("mlp.fc2", "mlp.fc2"),
];

/// Prefixes of block names, as (Hugging Face, official). Export uses only the first two pairs.
const BLOCKS: [(&str, &str); 4] = [
    ("vit.encoder.layer.", "blocks."),
    ("decoder.decoder_layers.", "decoder_blocks."),
    ("decoder.decoder_encoder.layer.", "decoder_blocks."),
    ("vit.layers.", "blocks."),
];

const PARTS: [&str; 3] =
    ["attention.attention.query", "attention.attention.key", "attention.attention.value"];
/// Names of query, key and value in a transformers 5 model in memory. Files have the names in [`PARTS`].
const PARTS_IN_MEMORY: [&str; 3] = ["attention.q_proj", "attention.k_proj", "attention.v_proj"];

/// Possible names of Hugging Face's encoder module.
pub(super) const BASES: [&str; 6] =
    ["vit", "deit", "beit", "dinov2", "dinov2_with_registers", "base_model"];

/// Adds the prefix `vit.` to a tensor name of the encoder. Returns all other names unchanged.
fn full(name: &str) -> String {
    let bare = ["embeddings.", "encoder.layer.", "layers.", "layernorm.", "pooler."];
    match name.split_once('.') {
        Some((base, rest)) if BASES.contains(&base) => format!("vit.{rest}"),
        _ if bare.iter().any(|start| name.starts_with(start)) => format!("vit.{name}"),
        _ => name.to_owned(),
    }
}

/// Converts a Hugging Face tensor name to the official name.
pub(super) fn official_name(name: &str) -> Named {
    let name = full(name);
    let name = name.as_str();
    for (theirs, ours) in BLOCKS {
        let Some((index, rest)) = name.strip_prefix(theirs).and_then(|rest| rest.split_once('.'))
        else {
            continue;
        };
        let (part, ending) = rest.rsplit_once('.').unwrap_or((rest, ""));
        let third = |parts: [&str; 3]| parts.iter().position(|third| *third == part);
        if let Some(i) = third(PARTS).or(third(PARTS_IN_MEMORY)) {
            return Named::Part(format!("{ours}{index}.attn.qkv.{ending}"), i);
        }
        if let Some((_, inner)) = INNER.iter().find(|(theirs, _)| *theirs == part) {
            return Named::As(format!("{ours}{index}.{inner}.{ending}"));
        }
    }
    for (theirs, ours) in OUTER {
        let ending = name.strip_prefix(theirs).filter(|e| e.is_empty() || e.starts_with('.'));
        match ending {
            Some(_) if ours.is_empty() => return Named::LeftOut,
            Some(ending) => return Named::As(format!("{ours}{ending}")),
            None => {}
        }
    }
    Named::Unknown
}

/// Converts official tensor names to Hugging Face's names. Splits `qkv` into query, key and value.
pub(super) fn from_official(
    tensors: &BTreeMap<String, HostTensor>,
) -> BTreeMap<String, HostTensor> {
    let mut theirs = BTreeMap::new();
    for (name, tensor) in tensors {
        if let Some((before, ending)) = name.split_once(".attn.qkv.") {
            let block = their_block(before).unwrap_or_else(|| before.to_owned());
            let third = tensor.values.len() / 3;
            for (i, part) in PARTS.iter().enumerate() {
                let mut shape = tensor.shape.clone();
                shape[0] /= 3;
                let values = tensor.values[i * third..(i + 1) * third].to_vec();
                let name = format!("{block}.{part}.{ending}");
                theirs.insert(name, HostTensor { shape, values });
            }
        } else {
            theirs.insert(their_name(name), tensor.clone());
        }
    }
    theirs
}

/// Returns Hugging Face's name of a block, such as `vit.encoder.layer.3` for `blocks.3`.
fn their_block(block: &str) -> Option<String> {
    BLOCKS
        .iter()
        .find_map(|(theirs, ours)| block.strip_prefix(ours).map(|index| format!("{theirs}{index}")))
}

fn their_name(name: &str) -> String {
    let parts: Vec<&str> = name.splitn(3, '.').collect();
    if let [list, index, rest] = parts[..]
        && let Some(block) = their_block(&format!("{list}.{index}"))
        && let Some((part, ending)) = rest.rsplit_once('.')
        && let Some((inner, _)) = INNER.iter().find(|(_, ours)| *ours == part)
    {
        return format!("{block}.{inner}.{ending}");
    }
    for (theirs, ours) in OUTER.iter().filter(|(_, ours)| !ours.is_empty()) {
        if let Some(ending) = name.strip_prefix(ours)
            && (ending.is_empty() || ending.starts_with('.'))
        {
            return format!("{theirs}{ending}");
        }
    }
    name.to_owned()
}

/// Returns the settings in `config.json` and `preprocessor_config.json`.
///
/// A missing file is `Value::Null`.
pub(super) fn settings(config: &Value, preprocessor: &Value) -> Result<Settings, String> {
    let count = |key: &str| config[key].as_u64().map(|n| n as usize);
    let act = config["hidden_act"].as_str().unwrap_or("gelu");
    if act != "gelu" {
        return Err(format!(
            "`config.json` has `hidden_act = {act:?}`, but mae supports only \"gelu\""
        ));
    }
    let floats = |key: &str| -> Option<Vec<f64>> {
        preprocessor[key].as_array()?.iter().map(Value::as_f64).collect()
    };
    let mae = config["model_type"] == "vit_mae";
    // transformers always writes this value, but it may be missing in a hand-written file.
    let norm_eps = config["layer_norm_eps"].as_f64().unwrap_or(1e-12);
    Ok(Settings {
        num_heads: count("num_attention_heads"),
        input_size: serde_json::from_value(config["image_size"].clone()).ok(),
        decoder_num_heads: count("decoder_num_attention_heads").filter(|_| mae),
        norm_pix_loss: config["norm_pix_loss"].as_bool().filter(|_| mae),
        mask_ratio: config["mask_ratio"].as_f64().filter(|_| mae),
        norm_eps: Some(norm_eps),
        mean: floats("image_mean"),
        std: floats("image_std"),
        class_names: class_names(config),
        ..Settings::default()
    })
}

/// Returns the class names in label order; empty if all names are placeholders such as `LABEL_0`.
fn class_names(config: &Value) -> Vec<String> {
    let Some(labels) = config["id2label"].as_object() else { return Vec::new() };
    let name = |i: usize| labels.get(&i.to_string())?.as_str().map(str::to_owned);
    let names: Vec<String> = (0..labels.len()).map_while(name).collect();
    let said = names.iter().enumerate().any(|(i, name)| *name != format!("LABEL_{i}"));
    if said && names.len() == labels.len() { names } else { Vec::new() }
}
