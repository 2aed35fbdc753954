//! The experiment's name, which is a folder's name on any file system.

use std::path::Path;

use toml::Value;

use super::context::Context;
use super::error::Origin;
use super::layers::{Merged, Placed};

/// Characters that Windows has no file names with, path separators among them.
const UNFIT: &str = "<>:\"/\\|?*";
const LONGEST: usize = 200;

/// Names a recipe without a name after its file.
pub(super) fn default_to_file(merged: &mut Merged, path: &Path) {
    if merged.tree.contains_key("name") {
        return;
    }
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    merged.tree.insert("name".to_owned(), Value::String(stem));
    let origin = Origin::File { path: path.to_owned(), line: 0 };
    merged.origins.insert("name".to_owned(), Placed { origin, rank: 0, order: (0, 0) });
}

/// Refuses a name that is no folder's name.
pub(super) fn check(name: &str, cx: &mut Context<'_>) {
    let why = if name.trim().is_empty() {
        "is empty"
    } else if let Some(bad) = name.chars().find(|c| UNFIT.contains(*c) || c.is_control()) {
        return refuse(name, &format!("is no folder name: it has the character {bad:?}"), cx);
    } else if name.contains("..") {
        "is no folder name: it has `..`"
    } else if name.starts_with('.') {
        "is no folder name: it would be hidden, for it begins with a dot"
    } else if name != name.trim() || name.ends_with('.') {
        "is no folder name: it begins or ends with a space, or ends with a dot"
    } else if name.len() > LONGEST {
        "is too long for a folder name"
    } else {
        return;
    };
    refuse(name, why, cx);
}

fn refuse(name: &str, why: &str, cx: &mut Context<'_>) {
    let hint = "the name is the run's folder: letters, digits, `_`, `-` and `.` are safe";
    cx.refuse("name", Value::String(name.to_owned()), why, hint);
}
