//! Sweeps: points share equal jobs, a failing point does not stop the others. Partial fine-tuning keeps frozen weights.

#![expect(clippy::disallowed_methods, reason = "a test writes files of others")]

use super::program::{Bench, TINY, results};
use std::fs;

/// A sweep over fine-tuning only.
const BLOCKS: &str = "[sweep]\n\"finetune.trained_blocks\" = [1, 2]\n";

#[test]
fn points_with_equal_pre_training_share_it_and_get_the_results_of_separate_runs() {
    let bench = Bench::new(&format!("{TINY}{BLOCKS}"));
    let plan = bench.done(&["plan", "r.toml"]);
    let shared = "copied from runs/tiny/finetune.trained_blocks=1";
    // The pre-training and both probes.
    assert_eq!(plan.matches(shared).count(), 3, "{plan}");
    let output = bench.mae(&["run", "r.toml"]);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    assert_eq!(log.matches("pretrain: epoch 3 of 3").count(), 1, "{log}");
    assert!(log.contains("copied from"), "{log}");
    let second = "finetune.trained_blocks=2";
    bench.done(&["run", &format!("runs/tiny/{second}/recipe.toml"), "--runs", "alone"]);
    let of = |runs: &str| results(&bench.path(&format!("{runs}/tiny/{second}")));
    assert_eq!(of("runs"), of("alone"));
    let plan = bench.done(&["plan", "r.toml"]);
    assert_eq!(plan.matches("  done\n").count(), 12, "{plan}");
}

#[test]
fn points_with_different_pre_training_share_the_jobs_that_do_not_start_from_it() {
    let bench = Bench::new(&format!("{TINY}[sweep]\n\"pretrain.mask_ratio\" = [0.5, 0.75]\n"));
    let plan = bench.done(&["plan", "r.toml"]);
    let shared = "copied from runs/tiny/pretrain.mask_ratio=0.5";
    assert_eq!(plan.matches(shared).count(), 2, "{plan}");
    let log = String::from_utf8(bench.mae(&["run", "r.toml"]).stderr).unwrap();
    for (job, trained) in [
        ("pretrain: epoch 3 of 3", 2),
        ("finetune/from-scratch: epoch 2 of 2", 1),
        ("finetune/from-0003: epoch 2 of 2", 2),
        ("linprobe/from-scratch: epoch 2 of 2", 1),
    ] {
        assert_eq!(log.matches(job).count(), trained, "{job}: {log}");
    }
    let second = "pretrain.mask_ratio=0.75";
    bench.done(&["run", &format!("runs/tiny/{second}/recipe.toml"), "--runs", "alone"]);
    let of = |runs: &str| results(&bench.path(&format!("{runs}/tiny/{second}")));
    assert_eq!(of("runs"), of("alone"));
}

#[test]
fn no_job_is_copied_from_a_folder_with_a_run_of_a_different_recipe() {
    let bench = Bench::new(&format!("{TINY}{BLOCKS}"));
    bench.done(&["run", "r.toml", "--stage", "pretrain"]);
    fs::remove_dir_all(bench.path("runs/tiny/finetune.trained_blocks=2")).unwrap();
    let other = ["--stage", "pretrain", "--set", "pretrain.mask_ratio=0.5"];
    let plan = bench.done(&["plan", "r.toml", "--set", "pretrain.mask_ratio=0.5"]);
    assert!(!plan.contains("copied from"), "{plan}");
    let output = bench.mae(&[&["run", "r.toml"][..], &other].concat());
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(
        log.contains("contains a run with a different recipe") && !log.contains("copied from"),
        "{log}"
    );
    let second = "runs/tiny/finetune.trained_blocks=2";
    let meta = bench.read(&format!("{second}/pretrain/checkpoints/epoch-0003/meta.json"));
    assert!(meta.contains("mask_ratio = 0.5"), "{meta}");
}

#[test]
fn a_shared_pre_training_that_diverges_is_tried_once() {
    let bench = Bench::new(&format!("{TINY}{BLOCKS}"));
    let output = bench.mae(&["run", "r.toml", "--set", "pretrain.blr=1e30"]);
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    // Once when it happens, and once in the list at the end.
    assert_eq!(log.matches("the training has diverged").count(), 2, "{log}");
    let second = "this run uses the pre-training of the run tiny/finetune.trained_blocks=1, \
                  and that pre-training failed";
    assert!(log.contains(second), "{log}");
    let second = "runs/tiny/finetune.trained_blocks=2";
    assert!(!bench.path(&format!("{second}/pretrain/epochs.csv")).exists());
    // Its jobs without pre-training are done.
    let table = bench.read(&format!("{second}/accuracy.csv"));
    assert!(table.lines().count() == 2 && table.contains("finetune/from-scratch"), "{table}");
    // A point without such jobs is not created.
    let set = ["pretrain.blr=1e30", "finetune.from=last", "linprobe.from=last"];
    let set: Vec<&str> = set.iter().flat_map(|set| ["--set", set]).collect();
    let output = bench.mae(&[&["run", "r.toml", "--runs", "other"][..], &set].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(!bench.path("other/tiny/finetune.trained_blocks=2").exists());
}

#[test]
fn a_point_that_cannot_run_is_listed_and_the_others_continue() {
    let bench = Bench::new(TINY);
    let stage = ["run", "r.toml", "--stage", "pretrain", "--set"];
    let output = bench.mae(&[&stage[..], &["sweep.pretrain.batch_size=[99999,96]"]].concat());
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(
        log.contains("1 of 2 sweep points failed:\n  tiny/pretrain.batch_size=99999: "),
        "{log}"
    );
    assert!(
        bench.path("runs/tiny/pretrain.batch_size=96/pretrain/checkpoints/epoch-0003").is_dir()
    );
    // A refused point does not affect those that would have shared its pre-training.
    let shared = ["run", "r.toml", "--set", "sweep.finetune.batch_size=[99998,48]", "--runs", "b"];
    let log = String::from_utf8(bench.mae(&shared).stderr).unwrap();
    assert!(log.contains("1 of 2 sweep points failed:"), "{log}");
    assert!(bench.read("b/tiny/accuracy.csv").contains("finetune.batch_size=48/finetune"), "{log}");
    let all = [&stage[..], &["sweep.pretrain.batch_size=[99999,99998]", "--runs", "none"]].concat();
    bench.refused(&all, 2);
    assert!(!bench.path("none").exists());
}

#[test]
fn points_with_different_seeds_share_no_jobs() {
    let bench = Bench::new(&format!("{TINY}[sweep]\n\"seed\" = [0, 1]\n"));
    bench.done(&["run", "r.toml", "--stage", "pretrain"]);
    let weights = |seed: usize| {
        let checkpoint = "pretrain/checkpoints/epoch-0003/model.safetensors";
        fs::read(bench.path(&format!("runs/tiny/seed={seed}/{checkpoint}"))).unwrap()
    };
    assert_ne!(weights(0), weights(1));
}

#[test]
fn partial_fine_tuning_does_not_change_frozen_weights() {
    let recipe = TINY.replace("clip_grad = 1.0\n", "clip_grad = 1.0\ntrained_blocks = 1\n");
    let bench = Bench::new(&recipe);
    bench.done(&["run", "r.toml"]);
    let tensors = |path: &str| {
        let bytes = fs::read(bench.path(&format!("runs/tiny/{path}/model.safetensors"))).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.iter().map(|(name, tensor)| (name.to_owned(), tensor.data().to_vec()));
        tensors.collect::<std::collections::BTreeMap<_, _>>()
    };
    let before = tensors("pretrain/checkpoints/epoch-0003");
    let after = tensors("finetune/from-0003/checkpoints/epoch-0002");
    for name in ["cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.mlp.fc1.bias"] {
        assert_eq!(before[name], after[name], "{name}");
    }
    assert_ne!(before["blocks.1.mlp.fc1.bias"], after["blocks.1.mlp.fc1.bias"]);
    let table = bench.read("runs/tiny/finetune/from-0003/tensorboard/log.txt");
    // Trained parameters: 3,280 of one block, 32 of the norm, 170 of the head.
    assert!(table.contains("\"n_parameters\":3482"), "{table}");
}

#[test]
fn more_blocks_than_there_are_is_refused() {
    let bench = Bench::new(TINY);
    let refused = bench.refused(&["plan", "r.toml", "--set", "finetune.trained_blocks=3"], 2);
    assert!(refused.contains("is more than the 2 blocks of the encoder"), "{refused}");
}

#[test]
fn a_warning_names_the_settings_that_restore_the_published_effective_batch() {
    let bench = Bench::new(TINY);
    let published = "pretrain.published_batch_size=384";
    let output = bench.mae(&["plan", "r.toml", "--set", published]);
    let warning = String::from_utf8(output.stderr).unwrap();
    assert!(
        warning.contains("--set pretrain.accum_iter=4` to restore the published number of images"),
        "{warning}"
    );
    let odd = ["plan", "r.toml", "--set", published, "--set", "pretrain.batch_size=100"];
    let warning = String::from_utf8(bench.mae(&odd).stderr).unwrap();
    let way = "--set pretrain.batch_size=96 --set pretrain.accum_iter=4` to restore the published number of images";
    assert!(warning.contains(way), "{warning}");
    let restored = ["plan", "r.toml", "--set", published, "--set", "pretrain.accum_iter=4"];
    assert_eq!(String::from_utf8(bench.mae(&restored).stderr).unwrap(), "");
}

#[test]
fn a_sweep_removes_only_unfinished_files_of_its_own() {
    let bench = Bench::new(&format!("{TINY}{BLOCKS}"));
    bench.done(&["run", "r.toml", "--stage", "pretrain"]);
    let [ours, theirs] = [".tmp-accuracy.csv-1-2", ".tmp-thesis.tex-1-2"]
        .map(|name| bench.path("runs/tiny").join(name));
    fs::write(&ours, "half").unwrap();
    fs::write(&theirs, "mine").unwrap();
    bench.done(&["run", "r.toml", "--stage", "pretrain"]);
    assert!(!ours.exists() && theirs.exists());
}

/// Both points share their pre-training. Here each of two processes trains it.
#[test]
fn a_shared_job_has_the_same_bytes_whichever_process_trains_it() {
    let bench = Bench::new(&format!("{TINY}{BLOCKS}"));
    let points = [1, 2].map(|n| bench.path(&format!("runs/tiny/finetune.trained_blocks={n}")));
    fs::create_dir_all(&points[0]).unwrap();
    let held = mae::durable::Lock::take(&points[0]).unwrap();
    let args = ["run", "r.toml", "--stage", "pretrain"];
    let log = String::from_utf8(bench.mae(&args).stderr).unwrap();
    assert!(log.contains("1 of 2 sweep points failed") && !log.contains("copied from"), "{log}");
    drop(held);
    let log = String::from_utf8(bench.mae(&args).stderr).unwrap();
    assert!(!log.contains("copied from"), "{log}");
    let meta = |point: &std::path::PathBuf| {
        fs::read(point.join("pretrain/checkpoints/epoch-0003/meta.json")).unwrap()
    };
    assert!(meta(&points[0]) == meta(&points[1]));
}
