//! Writes recipes and values as TOML text, and compares recipes.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::jobs::Job;
use super::schema::{Recipe, STAGES};
use super::stage_plan::Source;
use crate::shape::StageKind;

/// Keys that may change when a run resumes, because the results differ only by rounding.
const NO_IDENTITY: [&str; 16] = [
    "pretrain.on_nan_limit",
    "finetune.on_nan_limit",
    "linprobe.on_nan_limit",
    "pretrain.keep_optimizer",
    "pretrain.published_batch_size",
    "finetune.published_batch_size",
    "linprobe.published_batch_size",
    "runtime.link_gbit",
    "runtime.threads",
    "runtime.verify_device",
    "runtime.autotune",
    "runtime.schedule",
    "runtime.gradient_checkpointing",
    "checkpoint.every_minutes",
    "data.workers",
    "data.max_bad_fraction",
];
/// Tables whose keys can all change when a run resumes, because they only measure checkpoints.
const NO_IDENTITY_TABLES: [&str; 2] = ["knn.", "robustness."];
/// Keys that are not settings of a run.
const NO_SETTING: [&str; 3] = ["name", "extends", "sweep"];

/// Returns the recipe as TOML, with the keys in the order of the schema.
pub fn recipe_toml(recipe: &Recipe) -> String {
    let mut text = String::from(
        "# The resolved recipe of this run, with all default values. To repeat the run, run this recipe.\n",
    );
    write_table(&mut text, "", &tree(recipe));
    text
}

/// The text for a key that a recipe does not set.
pub const NOT_SET: &str = "not set";

/// Returns whether `key` is the table of a stage, such as `pretrain`.
pub fn is_stage(key: &str) -> bool {
    STAGES.contains(&key)
}

/// Returns the settings that differ between two recipes: (dotted key, value in `a`, value in `b`).
///
/// Values are TOML text or [`NOT_SET`]. If only one recipe has a stage, this is one entry: ("finetune", "set", "not set").
pub fn differences(a: &Recipe, b: &Recipe) -> Vec<(String, String, String)> {
    let rows = differing(&[a, b]).into_iter();
    rows.filter_map(|(key, values)| <[String; 2]>::try_from(values).ok().map(|[a, b]| (key, a, b)))
        .collect()
}

/// Returns the settings that differ between recipes: (dotted key, value in each recipe).
///
/// Values are TOML text or [`NOT_SET`]. If some recipes lack a stage, the stage itself is an entry, such as "finetune".
pub fn differing(recipes: &[&Recipe]) -> Vec<(String, Vec<String>)> {
    let all: Vec<Settings> = recipes.iter().map(|recipe| settings(recipe)).collect();
    let mut keys: Vec<&str> = Vec::new();
    for (key, _) in all.iter().flatten() {
        let stage = stage_of(key).filter(|stage| !all.iter().all(|of| has_stage(of, stage)));
        for key in stage.into_iter().chain([key.as_str()]) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    let rows =
        keys.into_iter().map(|key| (key.to_owned(), all.iter().map(|of| value(of, key)).collect()));
    rows.filter(|(key, values): &(String, Vec<String>)| {
        let has = |of: &Settings| stage_of(key).is_none_or(|stage| has_stage(of, stage));
        let mut compared = all.iter().zip(values).filter(|(of, _)| has(of)).map(|(_, value)| value);
        let first = compared.next();
        compared.any(|value| Some(value) != first)
    })
    .collect()
}

/// Settings as (dotted key, TOML text).
pub(super) type Settings = Vec<(String, String)>;

fn stage_of(key: &str) -> Option<&str> {
    key.split_once('.').map(|(table, _)| table).filter(|table| is_stage(table))
}

fn has_stage(settings: &Settings, stage: &str) -> bool {
    settings.iter().any(|(key, _)| stage_of(key) == Some(stage))
}

fn value(settings: &Settings, key: &str) -> String {
    if is_stage(key) {
        return if has_stage(settings, key) { "set" } else { NOT_SET }.to_owned();
    }
    let found = settings.iter().find(|(k, _)| k == key);
    found.map_or_else(|| NOT_SET.to_owned(), |(_, value)| value.clone())
}

/// Returns whether `job` gives the same result with the settings `a` and `b`.
pub(super) fn same_job(a: &Settings, b: &Settings, job: &Job) -> bool {
    let (own, before) = (job.stage.to_string(), StageKind::Pretrain.to_string());
    let from = format!("{own}.from");
    // `job` has the path of `pretrain.from`, but not the prefix.
    let start = matches!(job.from, Some(Source::Start(_))).then_some("pretrain.prefix");
    let sees = |(key, _): &&(String, String)| match stage_of(key) {
        Some(stage) => {
            let is_before = stage == before && job.is_after_pretraining();
            *key != from && (stage == own || is_before) || start == Some(key)
        }
        None => true,
    };
    a.iter().filter(sees).eq(b.iter().filter(sees))
}

/// Returns a value as TOML text. Floats are as short as possible without losing precision.
pub(super) fn toml_text(value: &toml::Value) -> String {
    match value {
        toml::Value::Float(float) => float_text(*float),
        toml::Value::Array(items) => {
            format!("[{}]", items.iter().map(toml_text).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

fn float_text(float: f64) -> String {
    let small = float != 0.0 && float.abs() < 1e-3;
    if small || float.abs() >= 1e15 && float.is_finite() {
        format!("{float:e}")
    } else {
        toml::Value::Float(float).to_string()
    }
}

/// Returns the recipe as a TOML table. Leaves out keys that are not set.
pub(super) fn toml_table(recipe: &Recipe) -> toml::Table {
    toml::Table::try_from(recipe).expect("a recipe has string keys and finite numbers")
}

/// Returns the recipe as JSON. Leaves out keys that are not set.
fn tree(recipe: &Recipe) -> Map<String, Value> {
    let mut tree =
        serde_json::to_value(recipe).expect("a recipe has string keys and finite numbers");
    drop_nulls(&mut tree);
    match tree {
        Value::Object(map) => map,
        _ => unreachable!("a struct serializes as an object"),
    }
}

fn drop_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(drop_nulls);
    }
}

fn json_text(value: &Value) -> String {
    toml_text(&toml::Value::try_from(value).expect("nulls were removed, and the numbers fit TOML"))
}

fn write_table(text: &mut String, path: &str, table: &Map<String, Value>) {
    let is_table = |value: &Value| value.is_object();
    if !path.is_empty() && table.values().any(|value| !is_table(value)) {
        let _ = write!(text, "\n[{path}]\n");
    }
    for (key, value) in table.iter().filter(|(_, value)| !is_table(value)) {
        let quoted = if path == "sweep" { format!("\"{key}\"") } else { key.clone() };
        let _ = writeln!(text, "{quoted} = {}", json_text(value));
    }
    for (key, value) in table {
        if let Value::Object(inner) = value {
            let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            write_table(text, &below, inner);
        }
    }
}

/// Returns the settings of a recipe as (dotted key, TOML text).
///
/// Leaves out `name`, `extends`, `sweep`, and keys that may change when a run resumes.
pub fn settings(recipe: &Recipe) -> Vec<(String, String)> {
    let mut tree = tree(recipe);
    tree.retain(|key, _| !NO_SETTING.contains(&key.as_str()));
    let mut leaves = Vec::new();
    collect_leaves("", &tree, &mut leaves);
    leaves.retain(|(key, _)| {
        let measures = NO_IDENTITY_TABLES.iter().any(|table| key.starts_with(table));
        !measures && !NO_IDENTITY.contains(&key.as_str())
    });
    leaves
}

fn collect_leaves(prefix: &str, table: &Map<String, Value>, leaves: &mut Vec<(String, String)>) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        match value {
            Value::Object(inner) => collect_leaves(&format!("{key}."), inner, leaves),
            leaf => leaves.push((key, json_text(leaf))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_that_only_some_recipes_have_is_one_row() {
        let recipe = |text: &str| toml::from_str::<Recipe>(text).unwrap();
        let (a, b, c) = (
            recipe("seed = 1\n[pretrain]\nepochs = 8\n[finetune]\nepochs = 5\nmixup = 0.5"),
            recipe("seed = 1\n[pretrain]\nepochs = 8"),
            recipe("seed = 1\n[pretrain]\nepochs = 8\n[finetune]\nepochs = 6\nmixup = 0.5"),
        );
        let row =
            |key: &str, values: [&str; 3]| (key.to_owned(), values.map(str::to_owned).to_vec());
        let expected =
            [row("finetune", ["set", NOT_SET, "set"]), row("finetune.epochs", ["5", NOT_SET, "6"])];
        assert_eq!(differing(&[&a, &b, &c]), expected);
        assert_eq!(differing(&[&a, &a, &a]), []);
    }

    #[test]
    fn floats_are_short_and_read_back() {
        for (float, text) in [
            (0.75, "0.75"),
            (1.5e-4, "1.5e-4"),
            (1.0, "1.0"),
            (0.0, "0.0"),
            (1e-3, "0.001"),
            (1e20, "1e20"),
        ] {
            assert_eq!(toml_text(&toml::Value::Float(float)), text);
            let table: toml::Table = format!("v = {text}").parse().unwrap();
            assert_eq!(table["v"], toml::Value::Float(float));
        }
    }
}
