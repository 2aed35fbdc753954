//! Settings that a checkpoint's weights determine. Other layers may repeat these settings, but not change them.

use std::path::Path;

use toml::{Table, Value};

use super::error::{Origin, Other, Problem, RecipeError};
use super::layers::Origins;
use super::parse;
use super::schema::{self, Recipe};
use super::sizes::ModelSize;
use super::sweep::{at, canonical};
use super::write::{toml_table, toml_text};
use crate::shape;

/// The settings that a checkpoint's weights determine, such as the depth.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stated<'a> {
    /// Path of the checkpoint, for error messages.
    pub(super) path: &'a Path,
    pub(super) settings: &'a Recipe,
}

/// Returns a problem for each recipe value that contradicts the checkpoint's settings.
///
/// Skips the keys in `faulty`, which already have a problem.
pub(super) fn contradictions(
    stated: Stated<'_>,
    tree: &Table,
    origins: &Origins,
    faulty: &[String],
) -> Vec<RecipeError> {
    let origin = |key: &str| origins.get(key).map_or(Origin::Default, |p| p.origin.clone());
    let size_is_set = matches!(origin("model.size"), Origin::Set { .. });
    let width = stated.settings.model.embed_dim.unwrap_or_default();
    let mut problems: Vec<RecipeError> = Vec::new();
    for (key, value) in parse::flat(toml_table(stated.settings)) {
        let own = at(tree, &key).map(|found| (key.as_str(), found.clone(), found.clone()));
        let by_size = size_value(tree, &key).filter(|_| own.is_none() || size_is_set);
        for (given_key, given, found) in own.into_iter().chain(by_size) {
            let reported = problems.iter().any(|problem| problem.key == given_key);
            if !reported
                && !faulty.iter().any(|key| key == given_key)
                && !agree(&key, &found, &value, width)
            {
                let given = (given_key, toml_text(&given), origin(given_key));
                problems.push(contradiction(given, &key, &value, stated.path));
            }
        }
    }
    problems
}

/// Returns ("model.size", size name, value of `key` for this size).
///
/// Returns `None` if `model.size` does not determine `key`.
fn size_value<'a>(tree: &Table, key: &str) -> Option<(&'a str, Value, Value)> {
    let name = at(tree, "model.size")?;
    let size: ModelSize = name.clone().try_into().ok()?;
    let encoder = size.encoder();
    let value = match key {
        "model.patch_size" => encoder.patch_size,
        "model.embed_dim" => encoder.embed_dim,
        "model.depth" => encoder.depth,
        "model.num_heads" => encoder.num_heads,
        _ => return None,
    };
    Some(("model.size", name.clone(), Value::Integer(value as i64)))
}

fn agree(key: &str, found: &Value, stated: &Value, width: usize) -> bool {
    let found = schema::at(key).map_or_else(|| found.clone(), |schema| canonical(found, schema));
    match (key, &found, stated) {
        ("model.mlp_ratio", Value::Float(found), Value::Float(stated)) => {
            shape::mlp_dim(width, *found) == shape::mlp_dim(width, *stated)
        }
        _ => found == *stated,
    }
}

fn contradiction(
    (key, value, origin): (&str, String, Origin),
    stated_key: &str,
    stated: &Value,
    path: &Path,
) -> RecipeError {
    let stated = toml_text(stated);
    let hint = match origin {
        Origin::Set { .. } if key == stated_key => {
            format!("remove this argument, or use `--set {key}={stated}`")
        }
        Origin::Set { .. } => "remove this argument".to_owned(),
        _ => "copy the whole checkpoint folder again, because its weights and its recipe do not match"
            .to_owned(),
    };
    let with = Other {
        key: stated_key.to_owned(),
        value: stated,
        origin: Origin::File { path: path.to_owned(), line: 0 },
    };
    let problem = Problem::Conflict {
        value,
        relation: "contradicts the checkpoint:".to_owned(),
        with: Box::new(with),
        hint,
    };
    RecipeError { key: key.to_owned(), origin, problem }
}
