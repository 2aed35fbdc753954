//! Branching off: `pretrain.resume` continues from a kept checkpoint or a saved state of another run.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "these files are the user's")]

use super::program::{Bench, TINY, losses};
use mae::train::JobEnd;
use std::fs;
use std::path::Path;

const KEPT: &str = "runs/a/pretrain/checkpoints/epoch-0002";

fn weights(bench: &Bench, run: &str, epoch: usize) -> Vec<u8> {
    let kept = format!("{run}/pretrain/checkpoints/epoch-{epoch:04}/model.safetensors");
    fs::read(bench.path(&kept)).unwrap()
}

/// Runs the pre-training of the recipe under a name, with more `--set`s.
fn pretrain(name: &str, set: &[&str]) -> Vec<String> {
    let mut args: Vec<String> = ["run", "r.toml", "--stage", "pretrain"].map(str::to_owned).into();
    for set in [&format!("name={name}")].into_iter().map(String::as_str).chain(set.iter().copied())
    {
        args.extend(["--set".to_owned(), set.to_owned()]);
    }
    args
}

fn args(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

fn done(bench: &Bench, name: &str, set: &[&str]) -> String {
    let output = bench.mae(&args(&pretrain(name, set)));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    log
}

fn start_files(bench: &Bench, run: &str) -> serde_json::Value {
    let text = bench.read(&format!("{run}/provenance.json"));
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["start_files"].clone()
}

#[test]
fn a_branch_from_a_kept_checkpoint_continues_with_its_optimizer() {
    let bench = Bench::new(TINY);
    done(&bench, "a", &[]);
    let resume = format!("pretrain.resume={KEPT}");
    let plan = bench.done(&["plan", "r.toml", "--set", "name=b", "--set", &resume]);
    assert!(plan.contains("to do from epoch 3"), "{plan}");
    // Without another change, the branch ends with the same weights.
    let log = done(&bench, "b", &[&resume]);
    assert!(!log.contains("new optimizer state"), "{log}");
    assert_eq!(weights(&bench, "runs/b", 3), weights(&bench, "runs/a", 3));
    assert_eq!(weights(&bench, "runs/b", 2), weights(&bench, "runs/a", 2));
    let epochs = bench.read("runs/b/pretrain/epochs.csv");
    assert!(epochs.lines().count() == 2 && epochs.lines().nth(1).unwrap().starts_with("3,"));
    let files = start_files(&bench, "runs/b");
    for (index, name) in ["model.safetensors", "optimizer.safetensors"].iter().enumerate() {
        let path = format!("{KEPT}/{name}");
        let hash = blake3::hash(&fs::read(bench.path(&path)).unwrap()).to_hex().to_string();
        let expected = serde_json::json!({ "job": "pretrain", "path": path, "blake3": hash,
            "bytes": fs::metadata(bench.path(&path)).unwrap().len(), "epoch": 2 });
        assert_eq!(files[index], expected);
    }
    // Another learning rate: its own epochs differ, and the name must be new.
    done(&bench, "c", &[&resume, "pretrain.blr=1e-3"]);
    assert_ne!(weights(&bench, "runs/c", 3), weights(&bench, "runs/a", 3));
    assert_eq!(weights(&bench, "runs/c", 2), weights(&bench, "runs/a", 2));
    let refused = bench.refused(&args(&pretrain("a", &[&resume])), 2);
    assert!(refused.contains("pretrain.resume: was not set"), "{refused}");
    // What the weights were trained with cannot change.
    for (set, expected) in [
        ("pretrain.mask_ratio=0.5", "`--set pretrain.mask_ratio=0.75`"),
        ("model.decoder_num_heads=1", "model.decoder_num_heads = 2"),
        (
            "pretrain.epochs=2",
            "the checkpoint was trained for 2 epochs, but `pretrain.epochs` is 2",
        ),
    ] {
        let refused = bench.refused(&args(&pretrain("d", &[&resume, set])), 2);
        assert!(refused.contains(expected), "{set}: {refused}");
    }
}

#[test]
fn without_its_optimizer_state_a_checkpoint_continues_with_a_warning_and_needs_less_space() {
    let bench = Bench::new(TINY);
    done(&bench, "a", &["pretrain.keep_optimizer=false"]);
    let kept = |run: &str| -> Vec<String> {
        let entries = fs::read_dir(bench.path(&format!("{run}/pretrain/checkpoints/epoch-0002")));
        let names = entries.unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    assert_eq!(kept("runs/a"), ["meta.json", "model.safetensors"]);
    let log = done(&bench, "b", &[&format!("pretrain.resume={KEPT}")]);
    assert!(log.contains("WARN") && log.contains("a new optimizer state"), "{log}");
    assert_ne!(weights(&bench, "runs/b", 3), weights(&bench, "runs/a", 3));
    assert_eq!(weights(&bench, "runs/b", 2), weights(&bench, "runs/a", 2));
    // The key is no part of the identity: the weights are the same.
    done(&bench, "c", &[]);
    assert_eq!(weights(&bench, "runs/c", 3), weights(&bench, "runs/a", 3));
    assert_eq!(kept("runs/c"), ["meta.json", "model.safetensors", "optimizer.safetensors"]);
    done(&bench, "c", &["pretrain.keep_optimizer=false"]);
    let disk = |set: &str| {
        let plan = bench.done(&["plan", "r.toml", "--json", "--set", set]);
        let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
        ["disk_bytes", "disk_optimizer_bytes"]
            .map(|key| plan["jobs"][0][key].as_f64().unwrap() as u64)
    };
    let [all, optimizer] = disk("pretrain.keep_optimizer=true");
    assert_eq!(disk("pretrain.keep_optimizer=false"), [all - optimizer, 0]);
    let bytes: u64 = ["model", "optimizer"]
        .iter()
        .map(|name| format!("runs/c/pretrain/checkpoints/epoch-0002/{name}.safetensors"))
        .map(|path| fs::metadata(bench.path(&path)).unwrap().len())
        .sum();
    let planned = all as f64 / 2.0;
    assert!((bytes as f64 / planned - 1.0).abs() < 0.2, "{bytes} bytes, planned {planned}");
    let plan = bench.done(&["plan", "r.toml"]);
    assert!(plan.contains("of optimizer state (`pretrain.keep_optimizer`)"), "{plan}");
}

#[test]
fn a_branch_from_a_saved_state_continues_within_its_epoch() {
    let bench = Bench::new(TINY);
    bench.done(&["run", "r.toml", "--stage", "pretrain", "--runs", "whole"]);
    // Epochs have 7 updates: this is the third of the second epoch.
    assert_eq!(bench.run_for(10), JobEnd::Interrupted);
    fs::copy(bench.path("runs/tiny/pretrain/resume.safetensors"), bench.path("s.safetensors"))
        .unwrap();
    // The branch keeps no checkpoint of an epoch that it has not finished itself.
    done(&bench, "b", &["pretrain.resume=s.safetensors"]);
    for epoch in [2, 3] {
        assert_eq!(weights(&bench, "runs/b", epoch), weights(&bench, "whole/tiny", epoch));
    }
    let refused = |set: &[&str]| {
        let set = [&["pretrain.resume=s.safetensors"], set].concat();
        bench.refused(&args(&pretrain("c", &set)), 2)
    };
    let error = refused(&["pretrain.accum_iter=1"]);
    assert!(error.contains("from the middle of epoch 2, with 192 images per update"), "{error}");
    let error = refused(&["pretrain.checkpoint_epochs=[1]"]);
    assert!(error.contains("checkpoint_epochs` cannot contain 1"), "{error}");
    // In its run folder, the state is checked against the recipe of the run.
    let own = "pretrain.resume=runs/tiny/pretrain/resume.safetensors";
    let error = bench.refused(&args(&pretrain("c", &[own, "model.num_heads=4"])), 2);
    assert!(
        error.contains("model.num_heads = 2`, but the recipe has `model.num_heads = 4`"),
        "{error}"
    );
    // The states of other stages have no decoder.
    let text = TINY.replace("[pretrain]", "[x]").split_once("[x]").unwrap().0.to_owned()
        + "[finetune]\nfrom = 'scratch'\nepochs = 3\naa = ''\nwarmup_epochs = 1\n";
    let other = Bench::new(&text);
    assert_eq!(other.run_for(3), JobEnd::Interrupted);
    let state = other.path("runs/tiny/finetune/from-scratch/resume.safetensors");
    let error =
        bench.refused(&args(&pretrain("c", &[&format!("pretrain.resume={}", state.display())])), 2);
    assert!(error.contains("the checkpoint has no decoder"), "{error}");
}

#[test]
fn a_branch_that_was_stopped_resumes_without_the_checkpoint_it_came_from() {
    let bench = Bench::new(&TINY.replace("epochs = 3\n", "epochs = 4\n"));
    done(&bench, "a", &[]);
    let resume = format!("pretrain.resume={}", bench.path(KEPT).display());
    done(&bench, "whole", &[&resume]);
    let with = bench.read("r.toml").replace(
        "[pretrain]\n",
        &format!("[pretrain]\nresume = \"{}\"\n", bench.path(KEPT).display()),
    );
    fs::write(bench.path("r.toml"), with).unwrap();
    // In its first epoch, before the table has a row.
    assert_eq!(bench.run_for(3), JobEnd::Interrupted);
    fs::remove_dir_all(bench.path(KEPT)).unwrap();
    bench.done(&["run", "r.toml", "--stage", "pretrain"]);
    assert_eq!(weights(&bench, "runs/tiny", 4), weights(&bench, "runs/whole", 4));
    assert_eq!(losses(&bench, "pretrain").len(), 2);
    assert_eq!(start_files(&bench, "runs/tiny").as_array().unwrap().len(), 2);
}

#[test]
fn an_optimizer_state_of_another_epoch_or_with_a_damaged_byte_is_refused() {
    let bench = Bench::new(TINY);
    done(&bench, "a", &[]);
    let optimizer = |epoch: usize| {
        bench.path(&format!("runs/a/pretrain/checkpoints/epoch-{epoch:04}/optimizer.safetensors"))
    };
    let copy = bench.path("copy");
    let fill = |from: &Path| {
        fs::create_dir_all(&copy).unwrap();
        for entry in fs::read_dir(from).unwrap().flatten() {
            fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
    };
    fill(&bench.path(KEPT));
    fs::copy(optimizer(3), copy.join("optimizer.safetensors")).unwrap();
    let error = bench.refused(&args(&pretrain("b", &["pretrain.resume=copy"])), 2);
    assert!(
        error.contains("the optimizer state is from epoch 3, but the weights are from epoch 2"),
        "{error}"
    );
    let mut bytes = fs::read(optimizer(2)).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(optimizer(2), bytes).unwrap();
    let error = bench.refused(&args(&pretrain("b", &[&format!("pretrain.resume={KEPT}")])), 2);
    assert!(error.contains("optimizer.safetensors") && error.contains("checksum"), "{error}");
    assert!(!bench.path("runs/b").exists());
}
