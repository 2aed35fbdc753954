//! A damaged byte in a file of a run never changes a result.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "files are damaged on purpose")]

use super::program::{Bench, TINY, results};
use std::fs;
use std::path::{Path, PathBuf};

/// Flips one bit of a file, at a place that `seed` chooses.
fn flip(path: &Path, seed: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = seed.wrapping_mul(2_654_435_761) % bytes.len();
    bytes[at] ^= 1 << (seed % 8);
    fs::write(path, bytes).unwrap();
}

/// The files of a run that a later start or command reads.
fn read_back(bench: &Bench) -> Vec<PathBuf> {
    let run = bench.path("runs/tiny");
    let manifest = fs::read_to_string(run.join("mae-manifest.jsonl")).unwrap();
    let paths =
        manifest.lines().filter_map(|line| line.split("\"path\":\"").nth(1)?.split('"').next());
    let mut paths: Vec<PathBuf> = paths.map(|path| run.join(path)).collect();
    let names = ["epochs.csv", "model.safetensors", "meta.json", "provenance.json", "accuracy.csv"];
    paths.retain(|path| path.is_file() && names.iter().any(|name| path.ends_with(name)));
    paths.sort();
    paths.dedup();
    paths
}

#[test]
fn a_flipped_bit_in_any_file_that_is_read_back_is_named_and_changes_no_number() {
    let bench = Bench::new(TINY);
    bench.done(&["run", "r.toml"]);
    bench.done(&["run", "r.toml", "--runs", "good"]);
    let table = bench.read("runs/tiny/accuracy.csv");
    let checked = bench.done(&["check", "runs/tiny"]);
    assert!(checked.contains("verified") && checked.lines().count() == 1, "{checked}");
    for (seed, path) in read_back(&bench).into_iter().enumerate() {
        let good = fs::read(&path).unwrap();
        flip(&path, seed);
        let name = path.strip_prefix(bench.dir.path()).unwrap().display().to_string();
        let found = bench.mae(&["check", "runs/tiny"]);
        let listed = String::from_utf8(found.stdout).unwrap();
        assert!(found.status.code() == Some(1) && listed.contains("damaged"), "{name}: {listed}");
        if name.ends_with("pretrain/checkpoints/epoch-0003/model.safetensors") {
            // Without its folder, the job starts over from the damaged checkpoint. The run must refuse this.
            let job = bench.path("runs/tiny/finetune/from-0003");
            fs::rename(&job, bench.path("aside")).unwrap();
            let refused = bench.refused(&["run", "r.toml"], 2);
            assert!(refused.contains(&name) && refused.contains("checksum"), "{refused}");
            fs::remove_dir_all(&job).ok();
            fs::rename(bench.path("aside"), &job).unwrap();
        }
        if name.ends_with("model.safetensors") || name.ends_with("meta.json") {
            let checkpoint = path.parent().unwrap().display().to_string();
            let refused = bench.refused(&["convert", &checkpoint, "out"], 2);
            assert!(refused.contains("checksum"), "{refused}");
        }
        if path.extension().is_some_and(|end| end == "csv") {
            for command in [&["compare", "runs/tiny", "good/tiny"][..], &["report", "runs/tiny"]] {
                let refused = bench.refused(command, 2);
                assert!(refused.contains(&name) && refused.contains("checksum"), "{refused}");
            }
        }
        fs::write(&path, good).unwrap();
    }
    bench.done(&["run", "r.toml"]);
    assert_eq!(bench.read("runs/tiny/accuracy.csv"), table);
}

#[test]
fn a_run_resumes_from_the_previous_state_if_the_newest_is_damaged() {
    let bench = Bench::new(TINY);
    bench.done(&["run", "r.toml", "--runs", "whole"]);
    let whole = results(&bench.path("whole/tiny"));
    // After the first update of the second epoch, there are two saved states.
    bench.run_for(8);
    let (newest, previous) = ("resume.safetensors", "previous-resume.safetensors");
    let job = bench.path("runs/tiny/pretrain");
    assert!(job.join(newest).exists() && job.join(previous).exists());
    flip(&job.join(newest), 3);
    let output = bench.mae(&["run", "r.toml"]);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && log.contains("resumes from the previous state"), "{log}");
    assert!(!job.join(newest).exists() && !job.join(previous).exists());
    assert_eq!(results(&bench.path("runs/tiny")), whole);
}

#[test]
fn a_damaged_manifest_is_named_with_its_line() {
    let bench = Bench::new(TINY);
    bench.done(&["run", "r.toml", "--stage", "pretrain"]);
    let manifest = bench.path("runs/tiny/mae-manifest.jsonl");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replacen("\"wrote\"", "\"wrXte\"", 1)).unwrap();
    for command in [&["run", "r.toml", "--stage", "pretrain"][..], &["check", "runs/tiny"]] {
        let output = bench.mae(command);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains("is corrupt in line 2"), "{error}");
    }
    for cut in [0, 8, 20] {
        fs::write(&manifest, &text[..cut]).unwrap();
        for command in [&["run", "r.toml", "--stage", "pretrain"][..], &["check", "runs/tiny"]] {
            let error = String::from_utf8(bench.mae(command).stderr).unwrap();
            let expected = "mae-manifest.jsonl is corrupt in line 1";
            assert!(
                error.contains(expected) && error.contains("hint: restore this file"),
                "{error}"
            );
        }
    }
    // Cut at the end of a line: the files that followed are not listed.
    let lines: Vec<&str> = text.split_inclusive('\n').take(3).collect();
    fs::write(&manifest, lines.concat()).unwrap();
    let check = bench.mae(&["check", "runs/tiny"]);
    let found = String::from_utf8(check.stdout).unwrap();
    assert_eq!(check.status.code(), Some(1));
    assert!(found.contains("pretrain/epochs.csv: not listed in `mae-manifest.jsonl`"), "{found}");
    let error = bench.refused(&["run", "r.toml", "--stage", "pretrain"], 2);
    assert!(
        error.contains("restore `mae-manifest.jsonl` from a backup. Without a backup, remove"),
        "{error}"
    );
    // Remove the manifest, as the hint says.
    fs::remove_file(&manifest).unwrap();
    bench.done(&["run", "r.toml", "--stage", "pretrain"]);
    bench.done(&["check", "runs/tiny"]);
}

#[test]
fn a_run_that_an_older_version_began_is_verified_to_its_end() {
    let bench = Bench::new(TINY);
    bench.run_for(8);
    fs::remove_file(bench.path("runs/tiny/mae-manifest.jsonl")).unwrap();
    bench.done(&["run", "r.toml"]);
    let checked = bench.done(&["check", "runs/tiny"]);
    assert!(checked.contains("verified") && checked.lines().count() == 1, "{checked}");
}
