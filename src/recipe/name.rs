//! The name of the experiment. It must be a valid folder name on every file system.

use std::path::Path;

use toml::Value;

use super::context::Context;
use super::error::Origin;
use super::layers::{Merged, Placed};

/// Characters that are invalid in Windows file names.
const UNFIT: &str = "<>:\"/\\|?*";
const LONGEST: usize = 200;

/// If the recipe has no `name`, uses the recipe's file name without extension.
pub(super) fn default_to_file(merged: &mut Merged, path: &Path) {
    if merged.tree.contains_key("name") {
        return;
    }
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    merged.tree.insert("name".to_owned(), Value::String(stem));
    let origin = Origin::File { path: path.to_owned(), line: 0 };
    merged.origins.insert("name".to_owned(), Placed { origin, rank: 0, order: (0, 0) });
}

/// Adds a problem if the experiment's name is not a valid folder name.
pub(super) fn check(name: &str, cx: &mut Context<'_>) {
    let why = if name.trim().is_empty() {
        "is empty"
    } else if let Some(bad) = name.chars().find(|c| UNFIT.contains(*c) || c.is_control()) {
        return refuse(name, &format!("is not a valid folder name: it contains {bad:?}"), cx);
    } else if name.contains("..") {
        "is not a valid folder name: it contains `..`"
    } else if name.starts_with('.') {
        "starts with a dot, so its folder would be hidden"
    } else if name != name.trim() || name.ends_with('.') {
        "is not a valid folder name: it starts or ends with a space, or ends with a dot"
    } else if name.len() > LONGEST {
        return refuse(name, &format!("is too long: a name has at most {LONGEST} bytes"), cx);
    } else {
        return;
    };
    refuse(name, why, cx);
}

fn refuse(name: &str, why: &str, cx: &mut Context<'_>) {
    let hint = "use letters, digits, `_`, `-` and `.`, because the name becomes a folder name";
    cx.refuse("name", Value::String(name.to_owned()), why, hint);
}

/// Replaces special characters by `_`, and trims `.` and `_` at both ends.
pub(super) fn fitted(text: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || "._-+".contains(c) { c } else { '_' };
    text.chars().map(fit).collect::<String>().trim_matches(['.', '_']).to_owned()
}

/// Converts text to a folder name. Different texts get different names.
pub(super) fn safe(text: &str) -> String {
    let fitted = fitted(text);
    if fitted == text && !text.is_empty() {
        fitted
    } else {
        format!("{fitted}-{}", fingerprint(text))
    }
}

/// Returns an FNV-1a hash as eight hexadecimal digits.
pub(super) fn fingerprint(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{:08x}", (hash ^ (hash >> 32)) as u32)
}
