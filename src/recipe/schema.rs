//! What a recipe's file may say: [`Recipe`], and its JSON Schema for editors.
//!
//! The JSON Schema is also what the merged layers are checked against (`check.rs`), so an editor
//! and the runner refuse the same keys, types and ranges.

use std::sync::LazyLock;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::plan::{Decode, DeviceKind, Format, Schedule};
use super::sizes::ModelSize;
use super::stages::{Finetune, Linprobe, Pretrain};
use super::values::{
    All, Auto, OneOrMany, Or, all_or_count_schema, auto_or_count_schema, extends_schema,
};
use crate::shape::Precision;

/// One file is one whole experiment: its stages run in order, a stage left out is not run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the experiment and of its folder under `runs/`. Default: the file's name without its
    /// ending.
    pub name: Option<String>,
    /// One or a list of recipes, relative to this file, that this one starts from; later ones win,
    /// this file wins over all of them.
    #[schemars(schema_with = "extends_schema")]
    pub extends: Option<OneOrMany<String>>,
    /// Seed of everything random.
    #[schemars(range(max = 9_223_372_036_854_775_807_u64))]
    pub seed: Option<u64>,
    /// Where the images come from.
    #[serde(default)]
    pub data: Data,
    /// The encoder and the decoder.
    #[serde(default)]
    pub model: Model,
    /// Where and how it is computed.
    #[serde(default)]
    pub runtime: Runtime,
    /// Self-supervised pre-training of the masked autoencoder.
    pub pretrain: Option<Pretrain>,
    /// Supervised fine-tuning of the whole encoder; one job for each entry of `from`.
    pub finetune: Option<Finetune>,
    /// Linear probing: a classifier on the frozen encoder; one job for each entry of `from`.
    pub linprobe: Option<Linprobe>,
    /// The grid: each key, dotted and in quotes, has the list of values it takes; one run for each
    /// combination.
    pub sweep: Option<Map<String, Value>>,
}

/// Where the images come from and what they look like when a model gets them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// How the data set is stored; `digits` and `synthetic` need no files.
    pub format: Option<Format>,
    /// The data set's folder, relative to the current directory. `${VAR}` is taken from the
    /// environment; `$${` is a plain `${`.
    pub path: Option<String>,
    /// Side of the square image a model gets, in pixels.
    #[schemars(range(min = 1, max = 16_384))]
    pub input_size: Option<usize>,
    /// Channels of an image.
    #[schemars(range(min = 1, max = 1024))]
    pub in_chans: Option<usize>,
    /// Mean of each channel on the 0..1 scale. Default: ImageNet's for 3 channels; 0.5 for `digits`
    /// and for other numbers of channels.
    #[schemars(inner(range(min = -1e6, max = 1e6)))]
    pub mean: Option<Vec<f64>>,
    /// Standard deviation of each channel on the 0..1 scale. Default: as for `mean`.
    #[schemars(inner(range(min = 1e-6, max = 1e6)))]
    pub std: Option<Vec<f64>>,
    /// File with the classes' names, relative to the current directory; `${VAR}` is taken from the
    /// environment. Default: the folders' names.
    pub class_map: Option<String>,
    /// Loader threads; no part of a run's identity.
    #[schemars(schema_with = "auto_or_count_schema")]
    pub workers: Option<Or<Auto, usize>>,
    /// How JPEG files are decoded for training: "exact" gives the pixels of Pillow and torchvision; "fast" decodes
    /// in 1/8, 1/4 or 1/2 of the size, where the crop still has `input_size` pixels on each side then, and resizes with levels
    /// that may be a few off. Evaluation is always exact.
    pub decode: Option<Decode>,
    /// Share of the training files that may turn out to be bad: another image takes the place of each, and
    /// `bad_files.csv` names it. One more stops the run; no part of a run's identity.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_bad_fraction: Option<f64>,
    /// Number of classes, where the recipe states it; checked against the data.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub num_classes: Option<usize>,
    /// Number of training images, where the recipe states it; checked against the data.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub train_images: Option<usize>,
    /// Number of validation images, where the recipe states it; checked against the data.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub val_images: Option<usize>,
}

/// Dimensions of the encoder and the decoder; a key that is spelled out overrides `size`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// An official size, which gives `patch_size`, `embed_dim`, `depth` and `num_heads`.
    pub size: Option<ModelSize>,
    /// Side of a patch, in pixels; it divides `data.input_size`. Default: the size's.
    #[schemars(range(min = 1, max = 16_384))]
    pub patch_size: Option<usize>,
    /// Width of the encoder; a multiple of 4 and of `num_heads`. Default: the size's.
    #[schemars(range(min = 1, max = 65_536))]
    pub embed_dim: Option<usize>,
    /// Blocks of the encoder. Default: the size's.
    #[schemars(range(min = 1, max = 1024))]
    pub depth: Option<usize>,
    /// Attention heads of the encoder. Default: the size's.
    #[schemars(range(min = 1, max = 65_536))]
    pub num_heads: Option<usize>,
    /// Width of a block's MLP, in widths of the block.
    #[schemars(range(max = 1024.0), extend("exclusiveMinimum" = 0))]
    pub mlp_ratio: Option<f64>,
    /// Epsilon beside the variance in every LayerNorm; the official code has 1e-6, Hugging Face's models 1e-12.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub norm_eps: Option<f64>,
    /// Width of the decoder; a multiple of 4 and of `decoder_num_heads`.
    #[schemars(range(min = 1, max = 65_536))]
    pub decoder_embed_dim: Option<usize>,
    /// Blocks of the decoder.
    #[schemars(range(min = 1, max = 1024))]
    pub decoder_depth: Option<usize>,
    /// Attention heads of the decoder.
    #[schemars(range(min = 1, max = 65_536))]
    pub decoder_num_heads: Option<usize>,
}

/// Where and how it is computed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// The backend; "auto" takes the best that starts.
    pub device: Option<DeviceKind>,
    /// GPUs that train together in this process, or "all".
    #[schemars(schema_with = "all_or_count_schema")]
    pub devices: Option<Or<All, usize>>,
    /// Arithmetic of the model; with "bf16" the master weights and the optimizer stay in fp32.
    pub precision: Option<Precision>,
    /// Whether a GPU must first agree with the CPU on a step of one block in each stage's batches; no part of a run's
    /// identity.
    pub verify_device: Option<bool>,
    /// Whether a GPU tries several kernels for every shape of bf16 products and keeps the fastest: minutes before the first
    /// step on a new kind of card. Without it, and for fp32, the shape decides; no part of a run's identity.
    pub autotune: Option<bool>,
    /// What several devices do with the fine-tunings and probes of a run: train each together ("data-parallel"), or one
    /// each ("job-parallel", which "auto" takes where there are at least as many jobs as devices); no part of a run's
    /// identity.
    pub schedule: Option<Schedule>,
    /// Whether the backward pass recomputes the activations of the blocks: about a third more computation, far less memory,
    /// the same numbers. The linear probe, whose encoder is frozen and keeps none, ignores it; no part of a run's identity.
    pub gradient_checkpointing: Option<bool>,
    /// CPU compute threads; no part of a run's identity.
    #[schemars(schema_with = "auto_or_count_schema")]
    pub threads: Option<Or<Auto, usize>>,
}

/// Gives the recipe's JSON Schema, with the built-in defaults.
pub fn schema() -> Value {
    SCHEMA.clone()
}

pub(super) static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<Recipe>().to_value();
    tidy(&mut schema);
    schema["title"] = json!("A recipe of mae");
    add_defaults(&mut schema, &DEFAULTS);
    schema["properties"]["sweep"] = sweep_schema(&schema);
    schema
});

/// The lowest layer.
pub(super) static DEFAULTS: LazyLock<toml::Table> = LazyLock::new(|| {
    include_str!("defaults.toml")
        .parse()
        .expect("defaults.toml is held by every test that resolves")
});

/// The keys that a layer may set, dotted, in the schema's order: no tables, and nothing below
/// `sweep`.
pub(super) static KEYS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut keys = Vec::new();
    collect_keys(&SCHEMA, "", &mut keys);
    keys
});

/// The schema of a dotted key, table or not.
pub(super) fn at(key: &str) -> Option<&'static Value> {
    key.split('.').try_fold(&*SCHEMA, |schema, part| schema["properties"].get(part))
}

fn collect_keys(table: &Value, prefix: &str, keys: &mut Vec<String>) {
    for (name, schema) in table["properties"].as_object().into_iter().flatten() {
        let key = format!("{prefix}{name}");
        if schema.get("properties").is_none() {
            keys.push(key);
        } else if key != "sweep" {
            collect_keys(schema, &format!("{key}."), keys);
        }
    }
}

/// Removes what Rust's types say and TOML cannot: nulls, widths of numbers, required keys, defaults
/// of tables.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            tidy_object(map);
            map.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

fn tidy_object(map: &mut Map<String, Value>) {
    map.retain(|key, value| match key.as_str() {
        "format" => !value.is_string(),
        "default" => !value.is_object(),
        "required" => !value.is_array(),
        _ => true,
    });
    if let Some(Value::String(description)) = map.get_mut("description") {
        *description = description.replace('\n', " ");
    }
    for list in ["type", "enum", "anyOf"] {
        let Some(Value::Array(items)) = map.get_mut(list) else { continue };
        let null = |item: &Value| item.is_null() || *item == "null" || item["type"] == "null";
        items.retain(|item| !null(item));
        match (list, items.as_slice()) {
            ("type", [single]) => map[list] = single.clone(),
            ("anyOf", [Value::Object(single)]) => {
                let single = single.clone();
                map.remove(list);
                for (key, value) in single {
                    map.entry(key).or_insert(value);
                }
            }
            _ => {}
        }
    }
}

fn add_defaults(schema: &mut Value, defaults: &toml::Table) {
    for (name, default) in defaults {
        let key = &mut schema["properties"][name];
        if let toml::Value::Table(table) = default {
            add_defaults(key, table);
            continue;
        }
        let description = key["description"].as_str().unwrap_or_default();
        key["description"] =
            json!(format!("{description} Default: {}.", super::write::toml_text(default)));
        key["default"] = json!(default);
    }
}

/// `[sweep]`: every key of a recipe but its name, with a list of its values.
fn sweep_schema(schema: &Value) -> Value {
    let mut keys = Vec::new();
    collect_keys(schema, "", &mut keys);
    let mut properties = Map::new();
    for key in keys.into_iter().filter(|key| !["name", "extends", "sweep"].contains(&key.as_str()))
    {
        let mut items =
            key.split('.').fold(schema, |schema, part| &schema["properties"][part]).clone();
        let description = items.as_object_mut().and_then(|items| {
            items.remove("default");
            items.remove("description")
        });
        let list =
            json!({ "description": description, "type": "array", "minItems": 1, "items": items });
        properties.insert(key, list);
    }
    json!({
        "description": schema["properties"]["sweep"]["description"],
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys without a built-in default: they follow from others, or may be left out for good.
    const DERIVED: [&str; 21] = [
        "pretrain.published_batch_size",
        "finetune.published_batch_size",
        "linprobe.published_batch_size",
        "name",
        "extends",
        "data.path",
        "data.mean",
        "data.std",
        "data.class_map",
        "data.num_classes",
        "data.train_images",
        "data.val_images",
        "model.patch_size",
        "model.embed_dim",
        "model.depth",
        "model.num_heads",
        "pretrain.checkpoint_epochs",
        "pretrain.resume",
        "pretrain.lr",
        "finetune.lr",
        "linprobe.lr",
    ];

    #[test]
    fn every_key_has_a_description_and_a_default_or_a_rule() {
        for key in KEYS.iter().filter(|key| *key != "sweep") {
            let schema = at(key).unwrap();
            assert!(schema["description"].as_str().is_some_and(|text| text.len() > 10), "{key}");
            let derived = DERIVED.contains(&key.as_str());
            assert_eq!(schema.get("default").is_none(), derived, "{key}");
        }
    }

    #[test]
    fn the_defaults_are_what_the_schema_takes() {
        let mut defaults = DEFAULTS.clone();
        assert_eq!(super::super::check::take_refused(&mut defaults), []);
    }
}
