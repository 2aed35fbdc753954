//! Modules depend in one direction: `use crate::...` names only modules that the table allows.

#![expect(clippy::unwrap_used, reason = "a source file that cannot be read is a failed test")]

use std::fs;
use std::path::Path;

/// Each module and the modules that it may use, lowest first. A module may always use itself.
const MAY_USE: [(&str, &[&str]); 18] = [
    ("shape", &[]),
    ("random", &[]),
    ("durable", &[]),
    ("text", &[]),
    ("figure", &["durable"]),
    ("ops", &[]),
    ("recipe", &["shape"]),
    ("model", &["shape", "random", "ops"]),
    ("optim", &["shape", "ops"]),
    ("data", &["shape", "recipe", "random", "durable", "text"]),
    ("checkpoint", &["shape", "model", "recipe", "durable"]),
    ("results", &["shape", "recipe", "durable", "text", "figure"]),
    ("infer", INFER),
    ("train", TRAIN),
    ("run", &["shape", "durable", "recipe", "data", "checkpoint", "results", "infer", "train"]),
    ("verify", BELOW_VERIFY),
    ("bench", BELOW_VERIFY),
    ("cli", BELOW_CLI),
];

/// The folders of `src/data`, and the parts of `data` that each may use (itself always), lowest first.
const DATA_MAY_USE: [(&str, &[&str]); 5] = [
    ("decode", &["error", "panics"]),
    ("formats", &["error", "draw", "panics", "decode"]),
    ("augment", &["batch", "draw", "recycled", "times", "decode"]),
    (
        "loader",
        &["error", "table", "batch", "draw", "recycled", "times", "decode", "formats", "augment"],
    ),
    ("tools", &["error", "table", "dataset", "decode", "formats", "augment", "loader"]),
];

const INFER: &[&str] =
    &["shape", "random", "durable", "figure", "ops", "recipe", "model", "data", "checkpoint"];

const TRAIN: &[&str] = &[
    "shape",
    "random",
    "durable",
    "figure",
    "ops",
    "recipe",
    "model",
    "optim",
    "data",
    "checkpoint",
    "results",
    "infer",
];

const BELOW_VERIFY: &[&str] = &[
    "shape",
    "random",
    "durable",
    "figure",
    "ops",
    "recipe",
    "model",
    "optim",
    "data",
    "checkpoint",
    "results",
    "infer",
    "train",
    "run",
];

const BELOW_CLI: &[&str] = &[
    "shape",
    "random",
    "durable",
    "text",
    "figure",
    "ops",
    "recipe",
    "model",
    "optim",
    "data",
    "checkpoint",
    "results",
    "infer",
    "train",
    "run",
    "verify",
    "bench",
];

/// Returns the modules that `text` names after `prefix`, in imports (nested ones, too) and in paths. Comments do not count.
fn modules_named(text: &str, prefix: &str) -> Vec<String> {
    let code: Vec<&str> =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    code.join("\n").split(prefix).skip(1).flat_map(first_names).collect()
}

/// Returns the first name of a path, or of every path in a group: `a` and `c` of `{a::B, c::{D, E}}`.
fn first_names(rest: &str) -> Vec<String> {
    let name = |path: &str| -> String {
        path.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(group) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let mut depth = 0;
    let mut names = vec![name(group)];
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(name(&group[at + 1..])),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Checks that the files below `path`, which belong to `module`, name only `allowed` modules after `prefix`.
fn check(path: &Path, prefix: &str, module: &str, allowed: &[&str], found: &mut usize) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            check(&entry.unwrap().path(), prefix, module, allowed, found);
        }
        return;
    }
    if path.extension().is_none_or(|e| e != "rs") {
        return;
    }
    for used in modules_named(&fs::read_to_string(path).unwrap(), prefix) {
        *found += 1;
        assert!(
            used == module || allowed.contains(&used.as_str()),
            "{}: `{module}` may not use `{used}`",
            path.display()
        );
    }
}

#[test]
fn grouped_and_nested_imports_name_all_their_modules() {
    let text = "use crate::data::{Batch, Loader};\n\
                // use crate::comment;\n\
                pub use crate::{\n    model,\n    optim::{self, Rule},\n    recipe::Plan,\n};\n\
                let x = crate::ops::product(a, b); // crate::comment\n";
    assert_eq!(modules_named(text, "crate::"), ["data", "model", "optim", "recipe", "ops"]);
}

#[test]
fn modules_use_only_what_lies_below_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = 0;
    for (module, allowed) in MAY_USE {
        check(&src.join(module), "crate::", module, allowed, &mut found);
    }
    assert!(found > 100, "the imports were not found");
    for entry in fs::read_dir(&src).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            let name = entry.file_name().into_string().unwrap();
            assert!(MAY_USE.iter().any(|(module, _)| *module == name), "`{name}` is in no layer");
        }
    }
}

/// Each folder of `src/data` uses only folders below it. For example, the formats do not use `dataset`, which chooses one of them.
#[test]
fn folders_of_data_use_only_what_lies_below_them() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/data");
    let mut found = 0;
    for (folder, allowed) in DATA_MAY_USE {
        check(&data.join(folder), "crate::data::", folder, allowed, &mut found);
        // A path that leaves the folder without `crate::data::` would not be checked.
        check(&data.join(folder), "super::super::", folder, &[], &mut 0);
    }
    assert!(found > 50, "the imports were not found");
}
