//! What a job started from is remembered: a changed file is refused, and a finished job does not need its file.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "these files are the user's")]

use super::program::{Bench, TINY, results};
use mae::train::JobEnd;
use std::fs;

/// A bench with two checkpoints of the same model, `a.safetensors` and `b.safetensors`, and a recipe that starts from
/// `w.safetensors`, a copy of the first.
fn bench(sweep: &str) -> Bench {
    let bench = Bench::new(TINY);
    bench.done(&["run", "r.toml", "--stage", "pretrain", "--runs", "source"]);
    for (epoch, name) in [(2, "a"), (3, "b")] {
        let weights =
            format!("source/tiny/pretrain/checkpoints/epoch-{epoch:04}/model.safetensors");
        fs::copy(bench.path(&weights), bench.path(&format!("{name}.safetensors"))).unwrap();
    }
    let (head, rest) = TINY.split_once("[pretrain]").unwrap();
    let stages = rest.split_once("[finetune]").unwrap().1;
    let file = bench.path("w.safetensors").display().to_string();
    let stages = stages
        .replace(r#"["scratch", "checkpoints"]"#, &format!("{file:?}"))
        .replace(r#"["scratch", "last"]"#, &format!("{file:?}"));
    fs::write(bench.path("r.toml"), format!("{head}[finetune]{stages}{sweep}")).unwrap();
    put(&bench, "a");
    bench
}

fn put(bench: &Bench, name: &str) {
    fs::copy(bench.path(&format!("{name}.safetensors")), bench.path("w.safetensors")).unwrap();
}

fn remove(bench: &Bench) {
    fs::remove_file(bench.path("w.safetensors")).unwrap();
}

/// The job and the hash of each start file in the provenance of a run.
fn recorded(bench: &Bench, run: &str) -> Vec<(String, String)> {
    let provenance = bench.read(&format!("{run}/provenance.json"));
    let provenance: serde_json::Value = serde_json::from_str(&provenance).unwrap();
    let files = provenance["start_files"].as_array().cloned().unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    files.iter().map(|file| (text(&file["job"]), text(&file["blake3"]))).collect()
}

#[test]
fn a_file_that_changed_between_two_starts_is_refused_like_changed_data() {
    let bench = bench("");
    bench.done(&["run", "r.toml", "--runs", "whole"]);
    assert_eq!(bench.run_for(5), JobEnd::Interrupted);
    let hash = blake3::hash(&fs::read(bench.path("a.safetensors")).unwrap()).to_hex().to_string();
    let jobs = ["finetune/from-w.safetensors", "linprobe/from-w.safetensors"];
    let expected: Vec<_> = jobs.map(|job| (job.to_owned(), hash.clone())).into();
    assert_eq!(recorded(&bench, "runs/tiny"), expected);
    put(&bench, "b");
    let error = bench.refused(&["run", "r.toml"], 2);
    assert!(error.contains("w.safetensors has changed since this run started"), "{error}");
    assert!(error.contains(&hash[..16]) && error.contains("hint: restore the file"), "{error}");
    let planned = String::from_utf8(bench.mae(&["plan", "r.toml"]).stderr).unwrap();
    assert!(planned.contains("w.safetensors has changed since this run started"), "{planned}");
    put(&bench, "a");
    bench.done(&["run", "r.toml"]);
    assert_eq!(results(&bench.path("runs/tiny")), results(&bench.path("whole/tiny")));
    // A finished run: its table would name another file than it was made from.
    put(&bench, "b");
    bench.refused(&["run", "r.toml"], 2);
    bench.done(&["run", "r.toml", "--fresh"]);
    assert_ne!(recorded(&bench, "runs/tiny"), expected);
}

#[test]
fn a_finished_job_and_a_saved_state_do_not_need_the_file_but_a_probe_does() {
    let bench = bench("");
    bench.done(&["run", "r.toml", "--runs", "whole"]);
    remove(&bench);
    bench.done(&["run", "r.toml", "--runs", "whole"]);
    let error = bench.refused(&["run", "r.toml"], 2);
    assert!(
        error.contains("w.safetensors\"` does not exist") && error.contains("r.toml:"),
        "{error}"
    );
    assert!(!bench.path("runs").exists());
    put(&bench, "a");
    assert_eq!(bench.run_for(5), JobEnd::Interrupted);
    let before = recorded(&bench, "runs/tiny");
    remove(&bench);
    let error = bench.refused(&["run", "r.toml"], 2);
    assert!(error.contains("`linprobe.from = ") && !error.contains("`finetune.from"), "{error}");
    bench.done(&["run", "r.toml", "--stage", "finetune"]);
    assert_eq!(recorded(&bench, "runs/tiny"), before);
    put(&bench, "b");
    bench.refused(&["run", "r.toml"], 2);
    put(&bench, "a");
    bench.done(&["run", "r.toml"]);
    assert_eq!(results(&bench.path("runs/tiny")), results(&bench.path("whole/tiny")));
}

#[test]
fn a_run_of_an_older_version_is_accepted_and_its_files_are_recorded() {
    let bench = bench("");
    bench.run_for(5);
    let path = bench.path("runs/tiny/provenance.json");
    let mut provenance: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    provenance.as_object_mut().unwrap().remove("start_files");
    fs::write(&path, provenance.to_string()).unwrap();
    fs::remove_file(bench.path("runs/tiny/mae-manifest.jsonl")).unwrap();
    bench.done(&["run", "r.toml", "--stage", "finetune"]);
    assert_eq!(recorded(&bench, "runs/tiny").len(), 1);
    put(&bench, "b");
    bench.refused(&["run", "r.toml"], 2);
}

#[test]
fn points_of_a_sweep_share_a_job_only_if_it_started_from_the_same_content() {
    let sweep = |values: &str| format!("[sweep]\n\"finetune.drop_path\" = {values}\n");
    let bench = bench(&sweep("[0.1]"));
    bench.done(&["run", "r.toml"]);
    let first = "runs/tiny/finetune.drop_path=0.1";
    let second = "runs/tiny/finetune.drop_path=0.2";
    let before = recorded(&bench, first);
    let recipe = bench.read("r.toml").replace(&sweep("[0.1]"), &sweep("[0.1, 0.2]"));
    fs::write(bench.path("r.toml"), recipe).unwrap();
    // The probe is copied, so only the fine-tuning needs the file.
    remove(&bench);
    let error = bench.mae(&["run", "r.toml"]);
    let error = String::from_utf8(error.stderr).unwrap();
    assert!(
        error.contains("1 of 2 sweep points failed") && error.contains("does not exist"),
        "{error}"
    );
    put(&bench, "b");
    let log = String::from_utf8(bench.mae(&["run", "r.toml"]).stderr).unwrap();
    assert!(log.contains("1 of 2 sweep points failed") && !log.contains("copied from"), "{log}");
    assert_ne!(recorded(&bench, second), before);
    fs::remove_dir_all(bench.path(second)).unwrap();
    put(&bench, "a");
    let log = String::from_utf8(bench.mae(&["run", "r.toml"]).stderr).unwrap();
    assert!(log.contains("linprobe/from-w.safetensors: copied from"), "{log}");
    assert_eq!(recorded(&bench, second), before);
}

#[test]
fn a_checkpoint_folder_is_known_by_its_weights() {
    let bench = bench("");
    let folder = bench.path("kept");
    let fill = |epoch: usize| {
        let from = bench.path(&format!("source/tiny/pretrain/checkpoints/epoch-{epoch:04}"));
        fs::create_dir_all(&folder).unwrap();
        for entry in fs::read_dir(from).unwrap().flatten() {
            fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
        }
    };
    fill(2);
    let from = format!("finetune.from={}", folder.display());
    let args = ["run", "r.toml", "--stage", "finetune", "--set", &from];
    bench.done(&args);
    fill(3);
    let error = bench.refused(&args, 2);
    assert!(error.contains("kept/model.safetensors has changed"), "{error}");
    fs::remove_dir_all(&folder).unwrap();
    bench.done(&args);
}
