//! `--fresh` moves only files that the program wrote, and deletes nothing.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "these files are the user's, and helpers of tests fail as tests do"
)]

use super::program::{Bench, TINY};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A recipe with one job that takes a moment.
fn small() -> String {
    let pretraining = TINY.split("[finetune]").next().unwrap();
    pretraining.replace("epochs = 3", "epochs = 1").replace("checkpoint_epochs = [2]", "")
}

/// Returns the files below a folder with their bytes; of a link, its target.
pub(super) fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.symlink_metadata().unwrap().is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read_link(&path).map_or_else(
                    |_| fs::read(&path).unwrap(),
                    |to| to.display().to_string().into(),
                );
                found.insert(path.strip_prefix(root).unwrap().to_owned(), bytes);
            }
        }
    }
    found
}

fn put(bench: &Bench, path: &str, text: &str) {
    fs::create_dir_all(bench.path(path).parent().unwrap()).unwrap();
    fs::write(bench.path(path), text).unwrap();
}

fn trash_of(bench: &Bench, runs: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(bench.path(runs).join(".trash")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_users_folder_with_a_recipe_in_it_is_not_a_run() {
    let bench = Bench::new(&small());
    put(&bench, "flowers/recipe.toml", &small().replace("tiny", "flowers"));
    put(&bench, "flowers/thesis.tex", "years of work");
    put(&bench, "flowers/train/rose/1.jpg", "a rose");
    let before = tree(&bench.path("flowers"));
    let command = ["run", "flowers/recipe.toml", "--runs", "."];
    for more in [&[][..], &["--fresh"]] {
        let refused = bench.refused(&[&command, more].concat(), 2);
        assert!(refused.contains("cannot use ./flowers as a run folder"), "{refused}");
        assert!(!refused.contains("--fresh"), "{refused}");
        assert_eq!(tree(&bench.path("flowers")), before);
    }
    // With the provenance of a different run, the folder is still not a run of this name.
    bench.done(&["run", "r.toml"]);
    fs::copy(bench.path("runs/tiny/provenance.json"), bench.path("flowers/provenance.json"))
        .unwrap();
    fs::write(bench.path("flowers/recipe.toml"), bench.read("runs/tiny/recipe.toml")).unwrap();
    let before = tree(&bench.path("flowers"));
    bench.refused(&["run", "r.toml", "--set", "name=flowers", "--runs", ".", "--fresh"], 2);
    assert_eq!(tree(&bench.path("flowers")), before);
}

#[test]
fn fresh_moves_what_the_run_wrote_and_names_what_stays() {
    let bench = Bench::new(&small());
    bench.done(&["run", "r.toml"]);
    let run = bench.path("runs/tiny");
    let first = tree(&run);
    put(&bench, "runs/tiny/notes.txt", "mine");
    put(&bench, "runs/tiny/pretrain/checkpoints/epoch-0001/mine/weights.pth", "mine");
    put(&bench, "runs/tiny/.tmp-mine", "mine");
    let set = ["--set", "pretrain.mask_ratio=0.5"];
    let refused = bench.refused(&[&["run", "r.toml"], &set[..]].concat(), 2);
    assert!(refused.contains("--fresh"), "{refused}");
    let output = bench.mae(&[&["run", "r.toml", "--fresh"], &set[..]].concat());
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    for stayed in ["notes.txt", "pretrain/checkpoints/epoch-0001/mine", ".tmp-mine"] {
        assert!(log.contains(stayed), "{log}");
    }
    let [trash] = trash_of(&bench, "runs").try_into().unwrap();
    let mut moved = tree(&trash);
    let manifest = moved.remove(Path::new("mae-manifest.jsonl")).unwrap();
    assert!(String::from_utf8(manifest).unwrap().contains("moving_to"));
    let mut expected = first.clone();
    expected.retain(|path, _| !path.ends_with(".lock") && !path.ends_with("mae-manifest.jsonl"));
    assert_eq!(moved, expected);
    let now = tree(&run);
    for (path, text) in [
        ("notes.txt", "mine"),
        (".tmp-mine", "mine"),
        ("pretrain/checkpoints/epoch-0001/mine/weights.pth", "mine"),
    ] {
        assert_eq!(now[Path::new(path)], text.as_bytes(), "{path}");
    }
    assert!(bench.read("runs/tiny/recipe.toml").contains("mask_ratio = 0.5"));
    // Patterns skip the trash. Only `mae trash empty` empties it.
    let listed = bench.done(&["trash", "list"]);
    assert!(listed.starts_with("tiny-") && listed.lines().count() == 1, "{listed}");
    bench.done(&["run", "r.toml", "--set", "name=other"]);
    let compared = bench.done(&["compare", "runs/*"]);
    assert!(!compared.contains(".trash"), "{compared}");
    let name = trash.file_name().unwrap().to_str().unwrap();
    put(&bench, &format!("runs/.trash/{name}/mine.txt"), "mine");
    put(&bench, "runs/.trash/somebody/else.txt", "theirs");
    bench.done(&["trash", "empty", "--older-than", "1"]);
    assert!(trash.join("recipe.toml").exists());
    bench.refused(&["trash", "empty", "nothing-of-this-name"], 2);
    bench.done(&["trash", "empty"]);
    assert_eq!(tree(&trash).keys().filter(|path| !path.ends_with("mae-manifest.jsonl")).count(), 1);
    assert_eq!(bench.read("runs/.trash/somebody/else.txt"), "theirs");
}

#[test]
fn a_link_to_a_larger_disk_is_moved_and_what_it_points_to_stays() {
    let bench = Bench::new(&small());
    bench.done(&["run", "r.toml"]);
    let (kept, large) = (bench.path("runs/tiny/pretrain/checkpoints"), bench.path("large"));
    fs::rename(&kept, &large).unwrap();
    std::os::unix::fs::symlink(&large, &kept).unwrap();
    let before = tree(&large);
    bench.done(&["run", "r.toml", "--fresh"]);
    let [trash] = trash_of(&bench, "runs").try_into().unwrap();
    assert!(trash.join("pretrain/checkpoints").is_symlink());
    bench.done(&["trash", "empty"]);
    assert_eq!(tree(&large), before);
}

#[test]
fn a_foreign_file_where_a_run_would_write_is_refused() {
    let bench = Bench::new(&small());
    bench.done(&["run", "r.toml"]);
    for file in ["accuracy.csv", "pretrain/resume.safetensors", "finetune/from-0001/epochs.csv"] {
        let path = format!("runs/tiny/{file}");
        put(&bench, &path, "mine");
        for more in [&[][..], &["--fresh"]] {
            let refused = bench.refused(&[&["run", "r.toml"], more].concat(), 2);
            assert!(refused.contains(&format!("cannot write {path}")), "{refused}");
        }
        assert_eq!(bench.read(&path), "mine");
        fs::remove_file(bench.path(&path)).unwrap();
    }
    // The table of a sweep, and a report that the user wrote.
    put(&bench, "sweeps/s/accuracy.csv", "mine");
    let sweep = format!("{}\n[sweep]\nseed = [0, 1]\n", small().replace("\"tiny\"", "\"s\""));
    fs::write(bench.path("s.toml"), sweep).unwrap();
    let refused = bench.refused(&["run", "s.toml", "--runs", "sweeps"], 2);
    assert!(refused.contains("cannot write sweeps/s/accuracy.csv"), "{refused}");
    assert_eq!(tree(&bench.path("sweeps")).len(), 1);
    bench.done(&["run", "r.toml", "--runs", "reported"]);
    fs::remove_file(bench.path("reported/tiny/mae-manifest.jsonl")).unwrap();
    put(&bench, "reported/tiny/report.html", "mine");
    let refused = bench.refused(&["report", "reported/tiny"], 2);
    assert!(refused.contains("cannot write reported/tiny/report.html"), "{refused}");
    assert_eq!(bench.read("reported/tiny/report.html"), "mine");
}

#[test]
fn a_run_of_a_version_without_manifests_goes_on_and_can_be_moved() {
    let bench = Bench::new(&small());
    bench.done(&["run", "r.toml"]);
    let run = bench.path("runs/tiny");
    put(&bench, "runs/tiny/notes.txt", "mine");
    fs::remove_file(run.join("mae-manifest.jsonl")).unwrap();
    let before = tree(&run);
    bench.done(&["run", "r.toml"]);
    let mut after = tree(&run);
    assert!(after.remove(Path::new("mae-manifest.jsonl")).is_some());
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    fs::remove_file(run.join("mae-manifest.jsonl")).unwrap();
    bench.done(&["run", "r.toml", "--fresh"]);
    let [trash] = trash_of(&bench, "runs").try_into().unwrap();
    let moved = tree(&trash);
    let expected = before.len() - 2; // The notes and the lock stay.
    assert_eq!(moved.len() - 1, expected, "{moved:?}");
    assert_eq!(bench.read("runs/tiny/notes.txt"), "mine");
}

#[test]
fn a_move_to_the_trash_that_was_interrupted_is_finished_by_the_next_start() {
    let bench = Bench::new(&small());
    bench.done(&["run", "r.toml"]);
    let manifest = bench.path("runs/tiny/mae-manifest.jsonl");
    let noted = format!(
        "{}{{\"moving_to\":{{\"folder\":\"tiny-x\"}}}}\n",
        fs::read_to_string(&manifest).unwrap()
    );
    fs::write(&manifest, noted).unwrap();
    put(&bench, "runs/.trash/tiny-x/.keep", "");
    fs::rename(bench.path("runs/tiny/recipe.toml"), bench.path("runs/.trash/tiny-x/recipe.toml"))
        .unwrap();
    // Without --fresh, a half-moved run must not continue with a different recipe.
    bench.done(&["run", "r.toml", "--set", "pretrain.mask_ratio=0.5"]);
    assert!(bench.path("runs/.trash/tiny-x/pretrain/epochs.csv").exists());
    assert!(bench.read("runs/tiny/recipe.toml").contains("mask_ratio = 0.5"));
    assert_eq!(bench.read("runs/tiny/pretrain/epochs.csv").lines().count(), 2);
}

#[test]
fn a_move_to_the_trash_that_was_killed_at_its_end_leaves_a_run_folder_with_a_manifest() {
    let bench = Bench::new(&small());
    bench.done(&["run", "r.toml"]);
    put(&bench, "runs/tiny/pretrain/notes.txt", "mine");
    let whole = tree(&bench.path("runs/tiny"));
    bench.done(&["run", "r.toml", "--fresh"]);
    let [trash] = trash_of(&bench, "runs").try_into().unwrap();
    // The state before the manifest is replaced: all files are in the trash, and so is a copy of the manifest.
    let run = bench.path("runs/tiny");
    fs::remove_dir_all(&run).unwrap();
    put(&bench, "runs/tiny/pretrain/notes.txt", "mine");
    fs::copy(trash.join("mae-manifest.jsonl"), run.join("mae-manifest.jsonl")).unwrap();
    let log = bench.done(&["run", "r.toml"]);
    assert_eq!(bench.read("runs/tiny/pretrain/notes.txt"), "mine", "{log}");
    assert_eq!(trash_of(&bench, "runs"), std::slice::from_ref(&trash));
    // The name of a TensorBoard file contains the second of its start.
    let names = |tree: BTreeMap<PathBuf, Vec<u8>>| {
        let name =
            |path: PathBuf| path.to_string_lossy().split(".tfevents").next().unwrap().to_owned();
        tree.into_keys().map(name).collect::<Vec<_>>()
    };
    assert_eq!(names(tree(&run)), names(whole.clone()));
    let moved = tree(&trash).len();
    let kept = whole.keys().filter(|path| path.ends_with("notes.txt") || path.ends_with(".lock"));
    assert_eq!(moved, whole.len() - kept.count());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn no_start_removes_or_changes_a_foreign_file(
        files in prop::collection::btree_set(
            prop::sample::select(vec![
                "x", ".lock", ".tmp-x", ".tmp-x-1-2", "recipe.toml", "tiny/recipe.toml", "tiny/accuracy.csv",
                "tiny/pretrain/x", "tiny/.tmp-x-1-2", "tiny/train/a/1.jpg", "tiny/provenance.json",
                "tiny/mae-manifest.jsonl", ".trash/mine/x", ".trash/mine/mae-manifest.jsonl", "tiny/finetune/x/y",
                "tiny/pretrain/checkpoints/epoch-0001/model.safetensors", "tiny/pretrain/checkpoints/best.pth",
            ]), 0..6),
        earlier in any::<bool>(),
        here in any::<bool>(),
        fresh in prop::collection::vec(any::<bool>(), 1..3),
    ) {
        let bench = Bench::new(&small());
        let runs = if here { "." } else { "runs" };
        if earlier {
            bench.done(&["run", "r.toml", "--runs", runs]);
        }
        let mut foreign = BTreeMap::new();
        for file in files {
            let path = bench.path(runs).join(file);
            // A file of the run itself is not foreign.
            if path.symlink_metadata().is_err() {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, file).unwrap();
                foreign.insert(path, file);
            }
        }
        for fresh in fresh {
            let more: &[&str] = if fresh { &["--fresh"] } else { &[] };
            let output = bench.mae(&[&["run", "r.toml", "--runs", runs], more].concat());
            prop_assert!(matches!(output.status.code(), Some(0..=2)));
            bench.mae(&["trash", "empty", "--runs", runs]);
            for (path, text) in &foreign {
                let now = fs::read_to_string(path).ok();
                prop_assert_eq!(now.as_deref(), Some(*text), "{}", path.display());
            }
        }
    }
}
