//! `docs/recipe-reference.md` lists every key of the schema. `MAE_UPDATE_DOCS=1` writes it.

#![expect(clippy::unwrap_used, reason = "a page that cannot be written is a failed test")]

use mae::recipe::{official_flag, schema};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;

const INTRO: &str = "\
<!-- Generated from the schema: MAE_UPDATE_DOCS=1 cargo test --release --test it -- recipe_reference -->

# Recipe reference

Every key of a recipe. [recipes.md](recipes.md) explains how to write recipes, and which settings override others.

- The type says which values are valid. All other values are errors, as are unknown keys.
- The official flag is an option of the official PyTorch scripts `main_pretrain.py`, `main_finetune.py` and
  `main_linprobe.py`, or of the `submitit_*.py` scripts (`--ngpus`). Settings of the stages have the official defaults.
- A stage runs only if the recipe has its table. An empty table, such as `[pretrain]`, runs the stage with the defaults.
- `--set TABLE.KEY=VALUE` and the environment variable `MAE_TABLE__KEY` set one key: `--set pretrain.blr=1e-3`,
  `MAE_PRETRAIN__BLR=1e-3`.
- Resuming a run with changed settings fails, except for keys whose description says that you can change them.
";

const SWEEP: &str = "\
Each key of this table is a dotted key of another table in quotes, and its value is a list of values for this key.
Every key can be swept except `name` and `extends`. `mae run` makes one run for each combination:

```toml
[sweep]
\"pretrain.mask_ratio\" = [0.5, 0.75]
\"seed\" = [0, 1]
```
";

/// Writes the section of a table, then the sections of the tables in it.
fn section(page: &mut String, path: &str, table: &Value) {
    let keys = || table["properties"].as_object().into_iter().flatten();
    let is_table = |schema: &Value| schema["type"] == "object";
    if path.is_empty() {
        page.push_str("\n## Top level\n\n");
    } else {
        let meaning = table["description"].as_str().unwrap_or_default();
        let _ = write!(page, "\n## `[{path}]`\n\n{meaning}\n\n");
    }
    if path == "sweep" {
        page.push_str(SWEEP);
        return;
    }
    page.push_str(
        "| key | type | default | official flag | meaning |\n| --- | --- | --- | --- | --- |\n",
    );
    for (name, schema) in keys().filter(|(_, schema)| !is_table(schema)) {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let flag = official_flag(&key).map(|flag| format!("`{flag}`")).unwrap_or_default();
        let (meaning, default) = meaning_and_default(schema, &flag);
        let kind = kind(schema);
        let row = format!("| `{name}` | {kind} | {default} | {flag} | {meaning} |");
        page.push_str(&row.replace("  ", " "));
        page.push('\n');
    }
    for (name, schema) in keys().filter(|(_, schema)| is_table(schema)) {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        section(page, &path, schema);
    }
}

/// Splits a description, which ends with the official flag and the default.
fn meaning_and_default(schema: &Value, flag: &str) -> (String, String) {
    let description = schema["description"].as_str().unwrap().replace('|', "\\|");
    let (text, default) = description.split_once(" Default: ").unwrap_or((&description, ""));
    let flag = format!(" Official flag: {}.", flag.trim_matches('`'));
    let meaning = text.strip_suffix(&flag).unwrap_or(text).to_owned();
    let default = default.trim_end_matches('.');
    let is_value = schema.get("default").is_some();
    (meaning, if is_value { format!("`{default}`") } else { default.to_owned() })
}

/// Describes the values that a key takes.
fn kind(schema: &Value) -> String {
    let quoted = |word: &Value| word.as_str().map(|word| format!("`\"{word}\"`"));
    let words: Vec<String> = match (&schema["enum"], &schema["oneOf"]) {
        (Value::Array(words), _) => words.iter().filter_map(quoted).collect(),
        (_, Value::Array(words)) => {
            words.iter().filter_map(|word| quoted(&word["const"])).collect()
        }
        _ => Vec::new(),
    };
    if !words.is_empty() {
        // The description names the aliases.
        let is_alias = |word: &&String| word.contains("\"mae_vit_");
        return words.iter().filter(|word| !is_alias(word)).cloned().collect::<Vec<_>>().join(", ");
    }
    if let Some(any) = schema["anyOf"].as_array() {
        return any.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    if let Some(only) = schema["const"].as_f64() {
        return only.to_string();
    }
    let name = schema["type"].as_str().unwrap();
    if name != "array" {
        return format!("{name}{}", range(schema));
    }
    let length = match (schema["minItems"].as_u64(), schema["maxItems"].as_u64()) {
        (Some(least), Some(most)) if least == most => format!("{least} "),
        _ => String::new(),
    };
    let items = &schema["items"];
    match items["type"].as_str() {
        Some(name) => format!("list of {length}{name}s{}", range(items)),
        // `from` takes one entry or a list of them.
        None => "a list of these".to_owned(),
    }
}

/// Describes the bounds of a number, without those that only catch mistakes.
fn range(schema: &Value) -> String {
    let bound = |name: &str| schema[name].as_f64().filter(|bound| bound.abs() < 1e6);
    if let (Some(least), Some(most)) = (bound("minimum"), bound("maximum")) {
        return format!(" from {least} to {most}");
    }
    let bounds =
        [("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<")];
    let said: Vec<String> = bounds
        .iter()
        .filter_map(|(name, sign)| bound(name).map(|bound| format!("{sign} {bound}")))
        .collect();
    if said.is_empty() { String::new() } else { format!(" {}", said.join(" and ")) }
}

#[test]
fn the_reference_lists_every_key() {
    let mut page = INTRO.to_owned();
    section(&mut page, "", &schema());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recipe-reference.md");
    if std::env::var_os("MAE_UPDATE_DOCS").is_some() {
        mae::durable::write(&path, page.as_bytes()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/recipe-reference.md is not current: run this test with MAE_UPDATE_DOCS=1"
    );
}
