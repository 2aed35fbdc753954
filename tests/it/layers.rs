//! The arrows between modules point one way: `use crate::…` names only what a module may use.

#![expect(clippy::unwrap_used, reason = "a source file that cannot be read is a failed test")]

use std::fs;
use std::path::Path;

/// Each module, and those it may use (itself always), lowest first.
const MAY_USE: [(&str, &[&str]); 14] = [
    ("random", &[]),
    ("durable", &[]),
    ("figure", &["durable"]),
    ("recipe", &[]),
    ("ops", &[]),
    ("model", &["random", "ops"]),
    ("optim", &[]),
    ("data", &["recipe", "random", "durable"]),
    ("checkpoint", &["model", "durable"]),
    ("runs", &["recipe", "durable"]),
    (
        "train",
        &[
            "random",
            "durable",
            "figure",
            "recipe",
            "ops",
            "model",
            "optim",
            "data",
            "checkpoint",
            "runs",
        ],
    ),
    ("verify", &["random", "recipe", "model", "optim", "data", "checkpoint", "train"]),
    ("bench", &["recipe", "ops", "data", "train"]),
    (
        "cli",
        &[
            "random",
            "figure",
            "recipe",
            "model",
            "data",
            "checkpoint",
            "runs",
            "train",
            "verify",
            "bench",
        ],
    ),
];

fn check(path: &Path, module: &str, found: &mut usize) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            check(&entry.unwrap().path(), module, found);
        }
        return;
    }
    if path.extension().is_none_or(|e| e != "rs") {
        return;
    }
    let (_, allowed) = MAY_USE.iter().find(|(name, _)| *name == module).unwrap();
    let text = fs::read_to_string(path).unwrap();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for rest in line.split("crate::").skip(1) {
            let used: String =
                rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let own = used == module;
            *found += 1;
            assert!(
                own || allowed.contains(&used.as_str()),
                "{}: `{module}` may not use `{used}`",
                path.display()
            );
        }
    }
}

#[test]
fn modules_use_only_what_lies_below_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = 0;
    for (module, _) in MAY_USE {
        check(&src.join(module), module, &mut found);
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
