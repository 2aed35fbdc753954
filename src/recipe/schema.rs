//! What a recipe file may contain: [`Recipe`], and its JSON Schema.
//!
//! The doc comments of the fields become the descriptions in the schema. `check` uses the schema, too, so an editor and
//! the program reject the same keys, types and ranges.
//!
//! This file uses `sizes` and `write`, and they use the types of this file.

use std::sync::LazyLock;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::measures::{KnnTable, RobustnessTable};
use super::official::official_flag;
use super::plan::{BadVal, Decode, DeviceKind, Format, Schedule};
use super::sizes::ModelSize;
use super::stages::{Finetune, Linprobe, Pretrain};
use super::tidy_schema::tidy;
use super::values::{
    All, Auto, Off, OneOrMany, Or, all_or_count_schema, auto_or_count_schema, extends_schema,
    input_size_schema, none_or_minutes_schema,
};
use crate::shape::{ImageSize, Precision};

/// A recipe: one TOML file that describes one experiment. A stage runs only if the recipe has its table, such as
/// `[pretrain]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the experiment and of its folder in `runs/`. Default: the file name without its extension.
    pub name: Option<String>,
    /// Base recipes of this recipe: a path or a list of paths, relative to this file. Later recipes override earlier
    /// recipes, and this file overrides all of them.
    #[schemars(schema_with = "extends_schema")]
    pub extends: Option<OneOrMany<String>>,
    /// Seed of all random numbers.
    #[schemars(range(max = 9_223_372_036_854_775_807_u64))]
    pub seed: Option<u64>,
    /// The data set, and the size and normalization of its images.
    #[serde(default)]
    pub data: Data,
    /// Dimensions of the encoder and the decoder. Explicit dimensions override `size`.
    #[serde(default)]
    pub model: Model,
    /// Devices, precision and speed.
    #[serde(default)]
    pub runtime: Runtime,
    /// How often a run saves the state of an unfinished job.
    #[serde(default)]
    pub checkpoint: Checkpoint,
    /// Self-supervised pre-training of the masked autoencoder.
    pub pretrain: Option<Pretrain>,
    /// Supervised fine-tuning of the encoder; one job for each entry of `from`.
    pub finetune: Option<Finetune>,
    /// Linear probing: a classifier on the frozen encoder; one job for each entry of `from`.
    pub linprobe: Option<Linprobe>,
    /// k-nearest-neighbour classification of every kept pre-training checkpoint, without training. The accuracy is in
    /// the column `knn_top1` of `accuracy.csv`. You can add this table to an existing run.
    pub knn: Option<KnnTable>,
    /// Test sets besides the validation split. mae measures every fine-tuned checkpoint on each test set. The
    /// accuracies are in the columns `NAME_top1` of `accuracy.csv`. You can add this table to an existing run.
    pub robustness: Option<RobustnessTable>,
    /// A grid of runs. Each entry is a dotted recipe key in quotes with a list of values. Each combination of values is
    /// one run.
    pub sweep: Option<Map<String, Value>>,
}

/// The data set, and the size and normalization of its images.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Format of the data set; `digits` and `synthetic` need no files.
    pub format: Option<Format>,
    /// Folder of the data set, relative to the current directory. mae replaces `${VAR}` by the environment variable,
    /// and `$${` by a plain `${`.
    pub path: Option<String>,
    /// Height and width of the images that the model gets, in pixels: one number for square images, or
    /// `[height, width]`.
    #[schemars(schema_with = "input_size_schema")]
    pub input_size: Option<ImageSize>,
    /// Number of channels of an image.
    #[schemars(range(min = 1, max = 1024))]
    pub in_chans: Option<usize>,
    /// `[lo, hi]`: the smallest and largest number in TIFF, PNG or `.npy` files. mae reads the `in_chans` channels as
    /// they are and maps `lo` to 0 and `hi` to 1. Numbers below `lo` become 0, and numbers above `hi` become 1.
    /// Default: none; mae converts images to 8-bit grey or RGB, as Pillow does.
    pub range: Option<[f64; 2]>,
    /// Mean of each channel, for pixel values from 0 to 1. Default: the ImageNet mean for 3 channels; 0.5 for `digits`
    /// and for other numbers of channels.
    #[schemars(inner(range(min = -1e6, max = 1e6)))]
    pub mean: Option<Vec<f64>>,
    /// Standard deviation of each channel, for pixel values from 0 to 1. Default: the ImageNet standard deviation for 3
    /// channels; 0.5 for `digits` and for other numbers of channels.
    #[schemars(inner(range(min = 1e-6, max = 1e6)))]
    pub std: Option<Vec<f64>>,
    /// CSV or text file with one class name per line, relative to the current directory. mae replaces `${VAR}` by the
    /// environment variable. Default: the names of the class folders.
    pub class_map: Option<String>,
    /// Where a sample has its image. In tar shards: the part of the file name after the first dot, such as `depth.png`.
    /// In parquet files: the column, such as `image.bytes`. Separate several values by `;`; mae uses the first value
    /// that the sample has. Default: in tar shards, `jpg;png;webp;jpeg`, then other extensions; in parquet files,
    /// `image` or `img`, then other columns.
    pub image_key: Option<String>,
    /// Number of threads of the data loader. You can change this key when a run resumes.
    #[schemars(schema_with = "auto_or_count_schema")]
    pub workers: Option<Or<Auto, usize>>,
    /// How JPEG files are decoded for training. "exact" gives the same pixels as Pillow and torchvision. "fast" decodes
    /// at 1/8, 1/4 or 1/2 of the size if the crop then still has `input_size` pixels on each side. The pixel values may
    /// then differ by a few levels out of 256. Evaluation always uses "exact".
    pub decode: Option<Decode>,
    /// Largest fraction of training files that may be unreadable. Above this fraction, the run stops. Another image
    /// replaces each unreadable image, and `bad_files.csv` lists the unreadable images. You can change this key when a
    /// run resumes.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_bad_fraction: Option<f64>,
    /// What happens if validation images are unreadable. "stop": the run stops before its first job and lists the
    /// unreadable images. "skip": every accuracy ignores the unreadable images, and the column `val_skipped` counts
    /// them.
    pub bad_val: Option<BadVal>,
    /// Expected number of classes. If the data has a different number, the run stops. Optional.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub num_classes: Option<usize>,
    /// Expected number of training images. If the data has a different number, the run stops. Optional.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub train_images: Option<usize>,
    /// Expected number of validation images. If the data has a different number, the run stops. Optional.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub val_images: Option<usize>,
}

/// Dimensions of the encoder and the decoder. Explicit dimensions override `size`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Official model size. It sets `patch_size`, `embed_dim`, `depth` and `num_heads`. The official function names, such
    /// as `mae_vit_base_patch16` and `mae_vit_base_patch16_dec512d8b`, are aliases.
    pub size: Option<ModelSize>,
    /// Height and width of a patch, in pixels; must divide `data.input_size`. Default: from `size`.
    #[schemars(range(min = 1, max = 16_384))]
    pub patch_size: Option<usize>,
    /// Width of the encoder; a multiple of 4 and of `num_heads`. Default: from `size`.
    #[schemars(range(min = 1, max = 65_536))]
    pub embed_dim: Option<usize>,
    /// Number of blocks of the encoder. Default: from `size`.
    #[schemars(range(min = 1, max = 1024))]
    pub depth: Option<usize>,
    /// Number of attention heads of the encoder. Default: from `size`.
    #[schemars(range(min = 1, max = 65_536))]
    pub num_heads: Option<usize>,
    /// Hidden width of each MLP, divided by the width of its block.
    #[schemars(range(max = 1024.0), extend("exclusiveMinimum" = 0))]
    pub mlp_ratio: Option<f64>,
    /// Epsilon of every LayerNorm. The official code uses 1e-6, Hugging Face's models 1e-12.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub norm_eps: Option<f64>,
    /// Width of the decoder; a multiple of 4 and of `decoder_num_heads`.
    #[schemars(range(min = 1, max = 65_536))]
    pub decoder_embed_dim: Option<usize>,
    /// Number of blocks of the decoder.
    #[schemars(range(min = 1, max = 1024))]
    pub decoder_depth: Option<usize>,
    /// Number of attention heads of the decoder.
    #[schemars(range(min = 1, max = 65_536))]
    pub decoder_num_heads: Option<usize>,
    /// Give the encoder mask tokens instead of the hidden patches during pre-training. In the paper, only the decoder
    /// gets mask tokens.
    pub encoder_mask_token: Option<bool>,
}

/// Devices, precision and speed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// Device backend. "auto" uses the best backend that works.
    pub device: Option<DeviceKind>,
    /// Number of GPUs that train together in this process, or "all". You can change this key when a run resumes, if
    /// each update keeps its number of images.
    #[schemars(schema_with = "all_or_count_schema")]
    pub devices: Option<Or<All, usize>>,
    /// Number of hosts that train together, each with one process and `devices` GPUs. "auto": the number of processes
    /// that `mpirun` or `srun` started. More than 1 host needs a build with MPI. You can change this key when a run
    /// resumes, if each update keeps its number of images.
    #[schemars(schema_with = "auto_or_count_schema")]
    pub hosts: Option<Or<Auto, usize>>,
    /// Bandwidth of the network between hosts in Gbit/s, for the estimates of `mae plan`. You can change this key when
    /// a run resumes.
    #[schemars(range(max = 100_000.0), extend("exclusiveMinimum" = 0))]
    pub link_gbit: Option<f64>,
    /// Precision of the model's arithmetic. With "bf16" and "fp16", the master weights and the optimizer stay in fp32.
    /// With "fp16", the loss is scaled, and the run skips updates whose scaled gradient overflows.
    pub precision: Option<Precision>,
    /// Before each stage on a GPU, compare one training step of a one-block model with the same step on the CPU. You
    /// can change this key when a run resumes.
    pub verify_device: Option<bool>,
    /// Measure several GPU kernels for each shape of bf16 matrix products and use the fastest. On a new GPU model this
    /// takes minutes before the first step. With `false` or fp32, a fixed rule chooses a kernel for each shape. You can
    /// change this key when a run resumes.
    pub autotune: Option<bool>,
    /// How the devices of all hosts share the fine-tuning and linear-probe jobs. "data-parallel": all devices train each
    /// job together. "job-parallel": each device trains its own job. "auto": "job-parallel" if there are at least as
    /// many jobs as devices. You can change this key when a run resumes.
    pub schedule: Option<Schedule>,
    /// Recompute the activations of the blocks in the backward pass. This needs about a third more computation and far
    /// less memory, and the results are the same. Linear probing ignores this key, because the frozen encoder keeps no
    /// activations. You can change this key when a run resumes.
    pub gradient_checkpointing: Option<bool>,
    /// Number of CPU threads for computing. You can change this key when a run resumes.
    #[schemars(schema_with = "auto_or_count_schema")]
    pub threads: Option<Or<Auto, usize>>,
}

/// How often a run saves the state of an unfinished job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Minutes between two saves of the state within an epoch. The run also saves after each epoch. A killed run loses
    /// at most about this much work. 0 saves as often as the disk allows. "none" saves only after each epoch. The
    /// results do not depend on this key. You can change this key when a run resumes.
    #[schemars(schema_with = "none_or_minutes_schema")]
    pub every_minutes: Option<Or<Off, f64>>,
}

/// Returns the JSON Schema of a recipe, with the built-in defaults.
pub fn schema() -> Value {
    SCHEMA.clone()
}

pub(super) static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<Recipe>().to_value();
    tidy(&mut schema);
    schema["title"] = json!("A recipe of mae");
    add_defaults(&mut schema, &DEFAULTS);
    add_flags(&mut schema, "");
    schema["properties"]["sweep"] = sweep_schema(&schema);
    schema
});

/// The stages in running order.
pub(super) const STAGES: [&str; 3] = ["pretrain", "finetune", "linprobe"];

/// Tables whose defaults apply only if the recipe contains the table.
pub(super) const OPTIONAL_TABLES: [&str; 5] =
    ["pretrain", "finetune", "linprobe", "knn", "robustness"];

/// The built-in defaults, which have the lowest priority.
pub(super) static DEFAULTS: LazyLock<toml::Table> =
    LazyLock::new(|| include_str!("defaults.toml").parse().expect("defaults.toml is valid TOML"));

/// All dotted keys of a recipe, without tables, in the order of the schema.
pub(super) static KEYS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut keys = Vec::new();
    collect_keys(&SCHEMA, "", &mut keys);
    keys
});

/// Returns the JSON Schema of a key or table; `None` if the key is unknown.
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

/// Adds the official flag, such as `--blr`, to the description of each key.
fn add_flags(table: &mut Value, prefix: &str) {
    let Some(properties) = table.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    for (name, key) in properties {
        let dotted = format!("{prefix}{name}");
        if let Some(flag) = official_flag(&dotted) {
            let description = key["description"].as_str().unwrap_or_default();
            let (meaning, default) = match description.split_once(" Default: ") {
                Some((meaning, default)) => (meaning, format!(" Default: {default}")),
                None => (description, String::new()),
            };
            key["description"] = json!(format!("{meaning} Official flag: {flag}.{default}"));
        }
        add_flags(key, &format!("{dotted}."));
    }
}

/// Returns the schema of `[sweep]`: each key has a list of values.
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

    /// Keys without a built-in default. They are derived from other keys, or optional.
    const DERIVED: [&str; 28] = [
        "robustness.sets",
        "pretrain.published_batch_size",
        "finetune.published_batch_size",
        "linprobe.published_batch_size",
        "name",
        "extends",
        "data.path",
        "data.range",
        "data.mean",
        "data.std",
        "data.class_map",
        "data.image_key",
        "data.num_classes",
        "data.train_images",
        "data.val_images",
        "model.patch_size",
        "model.embed_dim",
        "model.depth",
        "model.num_heads",
        "pretrain.checkpoint_epochs",
        "pretrain.from",
        "pretrain.resume",
        "pretrain.prefix",
        "finetune.prefix",
        "linprobe.prefix",
        "pretrain.lr",
        "finetune.lr",
        "linprobe.lr",
    ];

    #[test]
    fn every_key_has_a_description_and_a_default_unless_it_is_derived() {
        for key in KEYS.iter().filter(|key| *key != "sweep") {
            let schema = at(key).unwrap();
            assert!(schema["description"].as_str().is_some_and(|text| text.len() > 10), "{key}");
            let derived = DERIVED.contains(&key.as_str());
            assert_eq!(schema.get("default").is_none(), derived, "{key}");
        }
    }

    #[test]
    fn the_schema_accepts_the_defaults() {
        let mut defaults = DEFAULTS.clone();
        assert_eq!(super::super::check::take_refused(&mut defaults), []);
    }
}
