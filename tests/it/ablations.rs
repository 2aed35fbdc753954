//! The paper's variants: masks, mask tokens in the encoder, loss over all patches, half a block, averaged weights.

#![expect(clippy::unwrap_used, reason = "these files are the user's")]

use super::program::{Bench, TINY, column, results};
use mae::checkpoint::{self, TensorFile};
use mae::train::JobEnd;
use std::fs;

/// Runs the recipe under a name, with more `--set`s.
fn done(bench: &Bench, name: &str, stage: &str, set: &[&str]) {
    let name = format!("name={name}");
    let mut args = vec!["run", "r.toml", "--stage", stage, "--set", &name];
    args.extend(set.iter().flat_map(|set| ["--set", *set]));
    bench.done(&args);
}

fn tensors(bench: &Bench, folder: &str) -> TensorFile {
    checkpoint::open(&bench.path(folder), None).unwrap().file
}

const KEPT: &str = "pretrain/checkpoints/epoch-0003";

#[test]
fn each_kind_of_mask_trains_resumes_and_is_drawn() {
    let bench = Bench::new(TINY);
    let mut rows = Vec::new();
    for (name, set) in [
        ("random", "pretrain.mask=random"),
        ("block", "pretrain.mask=block"),
        ("grid", "pretrain.mask=grid"),
        ("squares", "pretrain.mask_granularity=2"),
    ] {
        done(&bench, name, "pretrain", &[set]);
        rows.push(column(&bench, &format!("runs/{name}/pretrain/epochs.csv"), "train_loss"));
        let kept = format!("runs/{name}/{KEPT}");
        fs::copy(
            bench.path(&format!("runs/{name}/pretrain/reconstructions/epoch-0003.png")),
            bench.path("x.png"),
        )
        .unwrap();
        let args = ["reconstruct", &kept, "--images", "x.png", "-o", "out.png"];
        bench.done(&args);
        if name == "grid" {
            let error = bench.refused(&[&args[..], &["--mask-ratio", "0.5"]].concat(), 2);
            assert!(error.contains("grid masks keep one of every four patches"), "{error}");
            bench.done(
                &[&args[..], &["--mask-ratio", "0.5", "--set", "pretrain.mask=block"]].concat(),
            );
        }
    }
    for (i, row) in rows.iter().enumerate() {
        assert!(
            rows[..i].iter().all(|other| other != row),
            "two masks give the same losses: {rows:?}"
        );
    }
    // A branch must have the masks of the checkpoint.
    let resume = format!("pretrain.resume=runs/block/{KEPT}");
    let kept = "pretrain.checkpoint_epochs=[4]";
    let args = ["run", "r.toml", "--set", "name=b", "--set", "pretrain.epochs=4"];
    let args = [&args[..], &["--set", kept, "--set", &resume]].concat();
    let error = bench.refused(&args, 2);
    assert!(error.contains("`mask = block`, but the recipe has `mask = random`"), "{error}");
}

#[test]
fn impossible_masks_are_refused() {
    let bench = Bench::new(TINY);
    let refused = |set: &[&str]| {
        let mut args = vec!["run", "r.toml"];
        args.extend(set.iter().flat_map(|set| ["--set", *set]));
        let error = bench.refused(&args, 2);
        error
            .lines()
            .filter(|line| !line.trim_start().starts_with("-->"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    insta::assert_snapshot!(refused(&["pretrain.mask=grid", "pretrain.mask_ratio=0.5"]), @r#"
    error: `pretrain.mask = "grid"` keeps one of every four patches, which contradicts `pretrain.mask_ratio = 0.5`
      hint: use `--set pretrain.mask_ratio=0.75`, or set another `pretrain.mask`
    "#);
    insta::assert_snapshot!(refused(&["pretrain.mask=grid", "data.input_size=10"]), @r#"
    error: `pretrain.mask = "grid"` needs an even number of patches per side, but an image has 5
      hint: change `data.input_size` or `model.patch_size`
    "#);
    insta::assert_snapshot!(refused(&["pretrain.mask=block", "pretrain.mask_granularity=2"]), @r#"
    error: `pretrain.mask = "block"` cannot be combined with `pretrain.mask_granularity = 2`
      hint: remove `mask_granularity`, or use `--set pretrain.mask=random`
    "#);
    insta::assert_snapshot!(refused(&["pretrain.mask_granularity=3"]), @r#"
    error: `pretrain.mask_granularity = 3` does not divide the 4 patches per side of an image
      hint: set `pretrain.mask_granularity` to one of [1, 2, 4]
    "#);
    insta::assert_snapshot!(refused(&["pretrain.mask_granularity=4"]), @r#"
    error: `pretrain.mask_ratio = 0.75` hides all 16 patches of an image
      hint: lower `mask_granularity`, or set `mask_ratio` closer to 0.75
    "#);
    insta::assert_snapshot!(refused(&["finetune.trained_blocks=1.5"]), @r#"
    error: `finetune.trained_blocks = 1.5`: expected "all" or a whole number from 0 to 1024 or 0.5
    "#);
}

#[test]
fn mask_tokens_in_the_encoder_and_the_loss_over_all_patches_train_and_are_remembered() {
    let bench = Bench::new(TINY);
    done(&bench, "plain", "pretrain", &[]);
    done(&bench, "token", "pretrain", &["model.encoder_mask_token=true", "pretrain.loss_on=all"]);
    let kept = format!("runs/token/{KEPT}");
    let file = tensors(&bench, &kept);
    assert_eq!(file.tensors["encoder_mask_token"].shape, [1, 1, 16]);
    assert!(!file.tensors.contains_key("mask_token"));
    fs::copy(bench.path("runs/token/pretrain/reconstructions/epoch-0003.png"), bench.path("x.png"))
        .unwrap();
    bench.done(&["reconstruct", &kept, "--images", "x.png", "-o", "out.png"]);
    done(&bench, "tuned", "finetune", &[&format!("finetune.from={kept}")]);
    let error = bench.refused(&["convert", &kept, "hf", "--to", "huggingface"], 2);
    assert!(error.contains("the encoder of this network reads mask tokens"), "{error}");
    // A recipe without the token does not fit.
    let from = format!("pretrain.from={kept}");
    let error = bench.refused(&["run", "r.toml", "--set", "name=c", "--set", &from], 2);
    assert!(error.contains("model.encoder_mask_token = true"), "{error}");
    let stated = ["--set", "model.encoder_mask_token=false"];
    let error = bench.refused(
        &[&["reconstruct", &kept, "--images", "x.png", "-o", "out.png"][..], &stated].concat(),
        2,
    );
    assert!(error.contains("encoder_mask_token"), "{error}");
}

#[test]
fn half_a_block_trains_its_mlp_and_nothing_before_it() {
    let bench = Bench::new(TINY);
    done(&bench, "a", "pretrain", &[]);
    let kept = format!("runs/a/{KEPT}");
    let from = format!("finetune.from={kept}");
    done(&bench, "half", "finetune", &[&from, "finetune.trained_blocks=0.5"]);
    let (before, after) = (
        tensors(&bench, &kept),
        tensors(&bench, "runs/half/finetune/from-epoch-0003/checkpoints/epoch-0002"),
    );
    let encoder = after.tensors.iter().filter(|(name, _)| before.tensors.contains_key(*name));
    let mut changed = Vec::new();
    for (name, tensor) in encoder {
        if before.tensors[name] != *tensor {
            changed.push(name.as_str());
        }
    }
    let half = [
        "mlp.fc1.bias",
        "mlp.fc1.weight",
        "mlp.fc2.bias",
        "mlp.fc2.weight",
        "norm2.bias",
        "norm2.weight",
    ];
    assert_eq!(changed, half.map(|name| format!("blocks.1.{name}")));
}

const EMA: &str = "finetune.ema=0.9";

#[test]
fn averaged_weights_are_evaluated_and_kept_and_training_is_the_same() {
    let bench = Bench::new(TINY);
    let scratch = "finetune.from=scratch";
    done(&bench, "plain", "finetune", &[scratch]);
    done(&bench, "ema", "finetune", &[scratch, EMA]);
    let job = |name: &str| format!("runs/{name}/finetune/from-scratch");
    let rows = |name: &str| column(&bench, &format!("{}/epochs.csv", job(name)), "train_loss");
    assert_eq!(rows("ema"), rows("plain"));
    let kept = |name: &str| format!("{}/checkpoints/epoch-0002", job(name));
    assert_ne!(tensors(&bench, &kept("ema")), tensors(&bench, &kept("plain")));
    let table = bench.read("runs/ema/accuracy.csv");
    let top1 = table.lines().nth(1).unwrap().split(',').nth(2).unwrap().to_owned();
    let measured = bench.done(&["eval", &kept("ema"), "--json"]);
    let measured: serde_json::Value = serde_json::from_str(&measured).unwrap();
    assert!(
        (measured["top1"].as_f64().unwrap() - top1.parse::<f64>().unwrap()).abs() < 0.006,
        "{measured} {top1}"
    );
}

#[test]
fn an_interrupted_run_with_averaged_weights_resumes_to_the_same_bytes() {
    let recipe =
        TINY.replace("clip_grad = 1.0\n", "clip_grad = 1.0\nema = 0.9\nbetas = [0.9, 0.95]\n");
    let bench = Bench::new(&recipe);
    bench.done(&[
        "run",
        "r.toml",
        "--stage",
        "finetune",
        "--set",
        "finetune.from=scratch",
        "--runs",
        "other",
    ]);
    bench.done(&["run", "r.toml", "--runs", "whole"]);
    let updates = bench.read("whole/tiny/pretrain/epochs.csv").lines().count();
    assert!(updates > 1);
    // In the middle of the first fine-tuning.
    assert_eq!(bench.run_for(3 * 7 + 10), JobEnd::Interrupted);
    assert!(bench.path("runs/tiny/finetune/from-scratch/resume.safetensors").exists());
    bench.done(&["run", "r.toml"]);
    assert_eq!(results(&bench.path("runs/tiny")), results(&bench.path("whole/tiny")));
}
