//! Types of recipe values with two forms: a word such as "auto" or a number; one entry or a list.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A special word, such as "auto", or a value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Or<W, T> {
    Word(W),
    Value(T),
}

/// The word "auto".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auto {
    /// The program chooses the value.
    Auto,
}

/// The word "all": all devices or all blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum All {
    All,
}

/// The number of encoder blocks to train, counted from the last block.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Blocks {
    /// A number of whole blocks.
    Count(usize),
    /// Half of the last block: its MLP. The number is always 0.5.
    Half(f64),
}

/// The word "none", which disables a setting. Recipes use this word because TOML has no null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Off {
    None,
}

/// One entry, or a list of entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// One entry, written without brackets.
    One(T),
    /// A list of entries in brackets.
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// Returns the entries as a slice.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// An entry of `finetune.from` or `linprobe.from`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FromEntry {
    /// The checkpoint that the same run's pre-training saves after this epoch.
    Epoch(usize),
    /// "checkpoints", "last", "start", "scratch", or the path of a checkpoint.
    Text(String),
}

pub(super) fn auto_or_count_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "anyOf": [{ "enum": ["auto"] }, { "type": "integer", "minimum": 1, "maximum": 1024 }]
    })
}

pub(super) fn all_or_count_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "anyOf": [{ "enum": ["all"] }, { "type": "integer", "minimum": 1, "maximum": 65_536 }]
    })
}

pub(super) fn all_or_blocks_schema(_: &mut SchemaGenerator) -> Schema {
    let whole = serde_json::json!({ "type": "integer", "minimum": 0, "maximum": 1024 });
    json_schema!({ "anyOf": [{ "enum": ["all"] }, whole, { "const": 0.5 }] })
}

pub(super) fn clip_grad_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "enum": ["none"] }, { "type": "number", "exclusiveMinimum": 0 }] })
}

pub(super) fn betas_schema(_: &mut SchemaGenerator) -> Schema {
    let beta = serde_json::json!({ "type": "number", "minimum": 0, "exclusiveMaximum": 1 });
    json_schema!({ "type": "array", "items": beta, "minItems": 2, "maxItems": 2 })
}

pub(super) fn ema_schema(_: &mut SchemaGenerator) -> Schema {
    let decay = serde_json::json!({ "type": "number", "minimum": 0, "exclusiveMaximum": 1 });
    json_schema!({ "anyOf": [{ "enum": ["none"] }, decay] })
}

pub(super) fn none_or_minutes_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "enum": ["none"] }, { "type": "number", "minimum": 0, "maximum": 1_000_000 }] })
}

pub(super) fn minmax_schema(_: &mut SchemaGenerator) -> Schema {
    let share = serde_json::json!({ "type": "number", "minimum": 0, "maximum": 1 });
    json_schema!({
        "anyOf": [
            { "enum": ["none"] },
            { "type": "array", "items": share, "minItems": 2, "maxItems": 2 }
        ]
    })
}

pub(super) fn from_schema(_: &mut SchemaGenerator) -> Schema {
    let entry = [
        serde_json::json!({ "type": "string" }),
        serde_json::json!({ "type": "integer", "minimum": 1 }),
    ];
    json_schema!({
        "anyOf": [
            entry[0],
            entry[1],
            { "type": "array", "minItems": 1, "items": { "anyOf": entry } }
        ]
    })
}

pub(super) fn extends_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }]
    })
}

pub(super) fn input_size_schema(_: &mut SchemaGenerator) -> Schema {
    let side = serde_json::json!({ "type": "integer", "minimum": 1, "maximum": 16_384 });
    let sides = serde_json::json!({ "type": "array", "items": side, "minItems": 2, "maxItems": 2 });
    json_schema!({ "anyOf": [side, sides] })
}
