//! Checks the merged layers against the JSON Schema: unknown keys, wrong types, values out of range.

use serde_json::Value as Schema;
use toml::{Table, Value};

use super::error::Problem;
use super::near;
use super::schema::SCHEMA;
use super::write::toml_text;

/// Maximum number of allowed words that an error message lists.
const MOST_WORDS: usize = 8;

/// Removes each invalid value from `tree`. Returns its dotted key and the problem.
pub(super) fn take_refused(tree: &mut Table) -> Vec<(String, Problem)> {
    let mut refused = Vec::new();
    take(tree, &SCHEMA, "", &mut refused);
    refused
}

fn take(table: &mut Table, schema: &Schema, prefix: &str, refused: &mut Vec<(String, Problem)>) {
    table.retain(|name, value| {
        let key = format!("{prefix}{name}");
        let Some(schema) = schema["properties"].get(name) else {
            refused.push((key.clone(), unknown(&key, name, schema)));
            return false;
        };
        if let (Value::Table(inner), true) = (&mut *value, schema["type"] == "object") {
            take(inner, schema, &format!("{key}."), refused);
            return true;
        }
        let fits = fits(value, schema);
        if !fits {
            refused.push((key, wrong(value, schema)));
        }
        fits
    });
}

fn unknown(key: &str, name: &str, schema: &Schema) -> Problem {
    if ["sweep.name", "sweep.extends", "sweep.sweep"].contains(&key) {
        return Problem::Refused {
            found: String::new(),
            why: format!("cannot be swept: `{name}` is not a setting of a run"),
            hint: String::new(),
        };
    }
    let properties = schema["properties"].as_object();
    let siblings: Vec<_> =
        properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let near = near::word(name, siblings.iter().copied()).map(str::to_owned);
    let whole = key.strip_prefix("sweep.").unwrap_or(key);
    Problem::UnknownKey { near: near.or_else(|| near::key(whole, &siblings)) }
}

fn wrong(value: &Value, schema: &Schema) -> Problem {
    let mut found = toml_text(value);
    if found.chars().count() > 80 {
        found = found.chars().take(80).chain(['…']).collect();
    }
    Problem::WrongType { found, expected: expected(schema), near: near_value(value, schema) }
}

/// Returns whether `schema` accepts `value`.
///
/// Accepts integers as floats. Rejects NaN and infinity.
pub(super) fn fits(value: &Value, schema: &Schema) -> bool {
    if let Some(choices) = choices(schema) {
        return value.as_str().is_some_and(|word| choices.contains(&word));
    }
    if let Some(any) = schema["anyOf"].as_array() {
        return any.iter().any(|schema| fits(value, schema));
    }
    if let Some(only) = schema["const"].as_f64() {
        return value.as_float().is_some_and(|number| (number - only).abs() < 1e-12);
    }
    match (schema["type"].as_str(), value) {
        (Some("string"), Value::String(_)) | (Some("boolean"), Value::Boolean(_)) => true,
        (Some("integer" | "number"), Value::Integer(number)) => in_range(*number as f64, schema),
        (Some("number"), Value::Float(number)) => number.is_finite() && in_range(*number, schema),
        (Some("array"), Value::Array(items)) => {
            let at_least = schema["minItems"].as_u64().unwrap_or(0) as usize;
            let at_most = schema["maxItems"].as_u64().map_or(usize::MAX, |most| most as usize);
            (at_least..=at_most).contains(&items.len())
                && items.iter().all(|item| fits(item, &schema["items"]))
        }
        _ => false,
    }
}

fn in_range(number: f64, schema: &Schema) -> bool {
    let bound = |name: &str| schema[name].as_f64();
    bound("minimum").is_none_or(|least| number >= least)
        && bound("maximum").is_none_or(|most| number <= most)
        && bound("exclusiveMinimum").is_none_or(|below| number > below)
        && bound("exclusiveMaximum").is_none_or(|above| number < above)
}

/// Returns the words of an enum schema, such as "auto"; `None` for other schemas.
fn choices(schema: &Schema) -> Option<Vec<&str>> {
    let words =
        schema["enum"].as_array().map(|words| words.iter().filter_map(Schema::as_str).collect());
    words.or_else(|| {
        schema["oneOf"]
            .as_array()
            .map(|all| all.iter().filter_map(|one| one["const"].as_str()).collect())
    })
}

/// Describes the values that `schema` accepts, for an error message.
fn expected(schema: &Schema) -> String {
    if let Some(choices) = choices(schema) {
        let quoted: Vec<_> =
            choices.iter().take(MOST_WORDS).map(|word| format!("\"{word}\"")).collect();
        let more = if choices.len() > MOST_WORDS { ", …" } else { "" };
        let one_of = if choices.len() > 1 { "one of " } else { "" };
        return format!("{one_of}{}{more}", quoted.join(", "));
    }
    if let Some(any) = schema["anyOf"].as_array() {
        return any.iter().map(expected).collect::<Vec<_>>().join(" or ");
    }
    if let Some(only) = schema["const"].as_f64() {
        return only.to_string();
    }
    match schema["type"].as_str() {
        Some("object") => "a table".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some("string") => "a string".to_owned(),
        Some("integer") => format!("a whole number{}", range(schema)),
        Some("number") => format!("a finite number{}", range(schema)),
        _ => {
            let (least, most) = (schema["minItems"].as_u64(), schema["maxItems"].as_u64());
            match (least, most) {
                (Some(least), Some(most)) if least == most => {
                    format!("a list of {least} values, each {}", expected(&schema["items"]))
                }
                (Some(1), _) => {
                    format!("a list of one or more values, each {}", expected(&schema["items"]))
                }
                _ => format!("a list of values, each {}", expected(&schema["items"])),
            }
        }
    }
}

/// Describes the range of a number, such as " from 0 to 1".
fn range(schema: &Schema) -> String {
    let bound = |name: &str| schema[name].as_f64().filter(|bound| bound.abs() < 1e15);
    if let (Some(least), Some(most)) = (bound("minimum"), bound("maximum")) {
        return format!(" from {least} to {most}");
    }
    let bounds = [
        ("minimum", "of at least"),
        ("exclusiveMinimum", "above"),
        ("maximum", "of at most"),
        ("exclusiveMaximum", "below"),
    ];
    let said: Vec<_> = bounds
        .iter()
        .filter_map(|(name, word)| bound(name).map(|bound| format!("{word} {bound}")))
        .collect();
    if said.is_empty() { String::new() } else { format!(" {}", said.join(" and ")) }
}

/// Returns the valid value that the user probably meant, as TOML text.
fn near_value(value: &Value, schema: &Schema) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Float(number) if number.fract() == 0.0 && number.abs() < 1e15 => number.to_string(),
        Value::Integer(bit @ (0 | 1)) => (*bit == 1).to_string(),
        _ => return None,
    };
    let other = super::parse::parse_value(&text);
    if other != *value && fits(&other, schema) {
        return Some(toml_text(&other));
    }
    let words = |schema| choices(schema).unwrap_or_default();
    if text.eq_ignore_ascii_case("gpu") && words(schema).contains(&"cuda") {
        return Some("\"cuda\"".to_owned()); // the edit distance would suggest "cpu"
    }
    let any = schema["anyOf"].as_array().into_iter().flatten().flat_map(words);
    near::word(&text, words(schema).into_iter().chain(any)).map(|word| format!("\"{word}\""))
}
