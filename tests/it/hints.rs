//! Slips that many people make: each gets one error that says what to do instead.

#![expect(clippy::disallowed_methods, reason = "a test writes a picture")]

use super::program::{Bench, TINY};
use std::fs;

#[test]
fn commands_point_to_what_the_user_meant() {
    let bench = Bench::new(TINY);
    bench.done(&["run", "r.toml", "--stage", "pretrain"]);
    fs::write(bench.path("a.png"), "a picture").unwrap();
    let checkpoints = "runs/tiny/pretrain/checkpoints";
    for (args, expected) in [
        (
            &["run", "runs/tiny"][..],
            "this is a folder\nhint: pass the recipe in this folder, runs/tiny/recipe.toml",
        ),
        (&["plan", "runs"], "this is a folder\nhint: pass a TOML file"),
        (&["verify", "runs/tiny"], "hint: run `mae check runs/tiny`"),
        (&["data", "check", "runs/tiny"], "hint: run `mae check runs/tiny`"),
        (&["data", "check", "a.png"], "this is an image file\nhint: pass the folder"),
        (
            &["report", "runs/tiny", "-o", "none/a.html"],
            "the folder of this file does not exist\nhint: create",
        ),
        (&["trash", "list", "--runs", "none"], "the folder does not exist\nhint: set `--runs DIR`"),
        (&["man", "a.png"], "this is not a folder\nhint: pass a folder"),
        (
            &["eval", &format!("{checkpoints}/epoch-0001")],
            "in the same folder: epoch-0002, epoch-0003",
        ),
    ] {
        let output = bench.mae(args);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(expected), "{args:?}: {error}");
    }
    assert!(!bench.path("none").exists());
}

#[test]
fn help_fits_a_terminal_of_80_columns() {
    let bench = Bench::new("");
    for (command, most) in [("run", 40), ("reconstruct", 60)] {
        let mut help = bench.command(&[command, "--help"]);
        let text = String::from_utf8(help.env("COLUMNS", "80").output().unwrap().stdout).unwrap();
        assert!(text.lines().count() <= most, "{text}");
        let usage = text.lines().find(|line| line.starts_with("Usage")).unwrap();
        assert!(usage.chars().count() <= 80, "{usage}");
    }
}

#[test]
fn a_check_says_what_it_leaves_unchecked_and_what_an_older_version_left_out() {
    let bench = Bench::new(TINY);
    bench.done(&["run", "r.toml", "--stage", "pretrain"]);
    fs::write(bench.path("runs/tiny/notes.txt"), "mine").unwrap();
    let text = bench.done(&["check", "runs/tiny"]);
    assert!(text.contains("; not checked: ") && text.contains("TensorBoard files"), "{text}");
    assert!(text.contains("1 other file or folder that mae did not write"), "{text}");
    // As an older version left it.
    fs::remove_file(bench.path("runs/tiny/mae-manifest.jsonl")).unwrap();
    let said = |args: &[&str]| {
        let log = String::from_utf8(bench.mae(args).stderr).unwrap();
        log.matches("an older version of mae wrote").count()
    };
    assert_eq!(said(&["check", "runs/tiny"]), 1);
    assert_eq!(said(&["report", "runs/tiny", "-o", "r.html"]), 1);
    assert_eq!(said(&["run", "r.toml", "--stage", "pretrain"]), 1);
    assert_eq!(said(&["run", "r.toml", "--stage", "pretrain"]), 0);
}
