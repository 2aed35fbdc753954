//! The grid of `[sweep]`. Each axis is a swept key, and each point is one run with its own folder.

use serde_json::Value as Schema;
use toml::{Table, Value};

use super::check::fits;
use super::error::{Origin, Problem, RecipeError};
use super::layers::Merged;
use super::name::{fingerprint, fitted, safe};
use super::schema::{self, OPTIONAL_TABLES};
use super::write::toml_text;

/// Maximum number of runs in a sweep.
const MOST_POINTS: usize = 10_000;
/// Maximum length of a run's folder name, in bytes. File systems allow about 255.
const LONGEST_NAME: usize = 200;

/// A swept key and its values, without duplicates.
#[derive(Debug)]
pub(super) struct Axis {
    pub(super) key: String,
    pub(super) values: Vec<Value>,
}

/// One combination of swept values: (dotted key, value).
pub(super) type Point<'a> = Vec<(&'a str, &'a Value)>;

/// Removes `[sweep]` from the recipe. Returns the swept keys and values.
///
/// Adds a problem for each key that cannot be swept.
pub(super) fn take_axes(merged: &mut Merged, problems: &mut Vec<RecipeError>) -> Vec<Axis> {
    let Some(Value::Table(sweep)) = merged.tree.remove("sweep") else { return Vec::new() };
    let placed = |key: &str| merged.origins.get(&format!("sweep.{key}"));
    let mut axes: Vec<_> =
        sweep.into_iter().filter_map(|(key, values)| axis(key, &values)).collect();
    axes.sort_by_key(|axis| placed(&axis.key).map(|placed| placed.order));
    axes.retain(|axis| {
        let problem = refusal(axis, merged);
        let fine = problem.is_none();
        problems.extend(problem.map(|problem| RecipeError {
            key: format!("sweep.{}", axis.key),
            origin: placed(&axis.key).map_or(Origin::Default, |placed| placed.origin.clone()),
            problem,
        }));
        fine
    });
    let points = axes.iter().fold(1_usize, |points, axis| points.saturating_mul(axis.values.len()));
    if points > MOST_POINTS {
        problems.push(RecipeError {
            key: "sweep".to_owned(),
            origin: merged
                .origins
                .get("sweep")
                .map_or(Origin::Default, |placed| placed.origin.clone()),
            problem: Problem::Refused {
                found: String::new(),
                why: format!("has {points} combinations of values, but the limit is {MOST_POINTS}"),
                hint: "sweep fewer keys or values".to_owned(),
            },
        });
        axes.clear();
    }
    axes
}

fn axis(key: String, values: &Value) -> Option<Axis> {
    let schema = schema::at(&key)?;
    let mut distinct: Vec<Value> = Vec::new();
    for value in values.as_array()? {
        let value = canonical(value, schema);
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    Some(Axis { key, values: distinct })
}

/// Converts a value to the type in `schema`, such as `1` to `1.0`.
pub(super) fn canonical(value: &Value, schema: &Schema) -> Value {
    if let Some(any) = schema["anyOf"].as_array() {
        return any
            .iter()
            .find(|one| fits(value, one))
            .map_or(value.clone(), |one| canonical(value, one));
    }
    match value {
        Value::Integer(whole) if schema["type"] == "number" => Value::Float(*whole as f64),
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| canonical(item, &schema["items"])).collect())
        }
        other => other.clone(),
    }
}

/// Returns why the key of `axis` cannot be swept; `None` if sweeping is possible.
fn refusal(axis: &Axis, merged: &Merged) -> Option<Problem> {
    let refused =
        |why: String, hint: String| Some(Problem::Refused { found: String::new(), why, hint });
    let table = axis.key.split('.').next().filter(|table| OPTIONAL_TABLES.contains(table));
    if let Some(table) = table.filter(|table| !merged.tree.contains_key(*table)) {
        let why = format!("sweeps `[{table}]`, but the recipe has no `[{table}]`");
        return refused(why, format!("add `[{table}]`, or remove this key from `[sweep]`"));
    }
    let origin = merged.origins.get(&axis.key).map(|placed| &placed.origin);
    if let Some(origin @ (Origin::Env { .. } | Origin::Set { .. })) = origin {
        let single = at(&merged.tree, &axis.key).map(toml_text).unwrap_or_default();
        let why = format!("sweeps a key that {origin} also sets");
        return refused(
            why,
            format!(
                "remove one of the two settings, or use `--set 'sweep.{}=[{single}]'` to run only this value",
                axis.key
            ),
        );
    }
    None
}

/// Returns the value of a dotted key in nested tables; `None` if the key is missing.
pub(super) fn at<'a>(tree: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => tree.get(key),
        Some((table, rest)) => at(tree.get(table)?.as_table()?, rest),
    }
}

/// Returns all combinations of swept values. The first key changes slowest.
///
/// Without swept keys, returns one empty combination.
pub(super) fn grid(axes: &[Axis]) -> Vec<Point<'_>> {
    axes.iter().fold(vec![Vec::new()], |points, axis| {
        let each =
            points.iter().flat_map(|point| axis.values.iter().map(move |value| (point, value)));
        each.map(|(point, value)| [point.as_slice(), &[(&axis.key, value)]].concat()).collect()
    })
}

/// Sets the value of a dotted key in nested tables. Adds missing tables.
pub(super) fn put(tree: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            tree.insert(key.to_owned(), value);
        }
        Some((table, rest)) => {
            let inner = tree.entry(table).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

/// Returns the folder name of a run in a sweep: `key=value,key=value`.
///
/// Different runs have different names, even if the file system ignores case.
pub(super) fn folder(point: &Point<'_>) -> String {
    let parts: Vec<_> =
        point.iter().map(|(key, value)| format!("{key}={}", in_a_name(value))).collect();
    let name = parts.join(",");
    if name.len() <= LONGEST_NAME {
        return name;
    }
    let start: String = name.chars().take(LONGEST_NAME).collect(); // all characters are ASCII
    format!("{start}-{}", fingerprint(&name))
}

/// Converts a value to a part of a folder name. Adds a hash to text with special characters.
fn in_a_name(value: &Value) -> String {
    match value {
        Value::String(word)
            if word.starts_with(|c: char| c.is_ascii_lowercase()) && is_lower(word) =>
        {
            safe(word)
        }
        Value::Array(items) if items.iter().all(|item| item.is_integer() || item.is_float()) => {
            let items: Vec<_> = items.iter().map(toml_text).collect();
            if items.len() < 2 { format!("{}_", items.concat()) } else { items.join("_") }
        }
        Value::String(text) => format!("{}-{}", fitted(text), fingerprint(text)),
        Value::Array(_) => {
            format!("{}-{}", fitted(&toml_text(value)), fingerprint(&toml_text(value)))
        }
        other => toml_text(other),
    }
}

fn is_lower(text: &str) -> bool {
    !text.chars().any(char::is_uppercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(values: &[Value]) -> Vec<String> {
        let points: Vec<_> = values.iter().map(|value| vec![("k", value)]).collect();
        points.iter().map(folder).collect()
    }

    #[test]
    fn plain_values_stay_readable() {
        let list = Value::Array(vec![Value::Float(0.2), Value::Float(1.0)]);
        let values = [
            Value::Float(0.25),
            Value::Float(1.5e-4),
            Value::Boolean(true),
            Value::from("fp32"),
            list,
        ];
        assert_eq!(names(&values), ["k=0.25", "k=1.5e-4", "k=true", "k=fp32", "k=0.2_1.0"]);
    }

    #[test]
    fn different_values_have_different_folders_on_every_file_system() {
        let list = Value::Array(vec![Value::from("a"), Value::from("b")]);
        let long = "x".repeat(300);
        let texts = ["a/b", "a b", "a_b", "A_B", "", "..", "é", &long, &format!("{long}y")]
            .map(Value::from);
        let names = names(&[texts.as_slice(), &[list]].concat());
        let mut lower: Vec<_> = names.iter().map(|name| name.to_lowercase()).collect();
        lower.sort();
        lower.dedup();
        assert_eq!(lower.len(), names.len(), "{names:?}");
        for name in names {
            assert!(
                name.len() < 255 && !name.contains(['/', ' ', '\\']) && !name.ends_with('.'),
                "{name}"
            );
        }
    }
}
