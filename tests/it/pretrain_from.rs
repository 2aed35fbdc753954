//! `pretrain.from`: a new pre-training starts from the weights of a checkpoint.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "these files are the user's")]

use super::program::{Bench, TINY, results};
use mae::checkpoint;
use mae::train::JobEnd;
use std::fs;

/// A bench with `whole.safetensors`, a masked autoencoder, and `encoder.safetensors`, the same without its decoder. The
/// recipe starts from `file`, fine-tunes the start and random weights, and probes the start.
fn bench(file: &str) -> Bench {
    let bench = Bench::new(TINY);
    bench.done(&["run", "r.toml", "--stage", "pretrain", "--runs", "source"]);
    let kept = bench.path("source/tiny/pretrain/checkpoints/epoch-0003");
    fs::copy(kept.join("model.safetensors"), bench.path("whole.safetensors")).unwrap();
    let mut weights = checkpoint::open(&kept, None).unwrap().file;
    weights.tensors.retain(|name, _| !name.contains("decoder_") && name != "mask_token");
    weights.write(&bench.path("encoder.safetensors")).unwrap();
    let path = bench.path(file).display().to_string();
    let recipe = TINY
        .replace("[pretrain]", &format!("[pretrain]\nfrom = {path:?}"))
        .replace(r#"["scratch", "checkpoints"]"#, r#"["scratch", "start"]"#)
        .replace(r#"["scratch", "last"]"#, r#""start""#);
    fs::write(bench.path("r.toml"), recipe).unwrap();
    bench
}

fn tensors(bench: &Bench, path: &str) -> checkpoint::TensorFile {
    checkpoint::open(&bench.path(path), None).unwrap().file
}

#[test]
fn without_a_learning_rate_the_first_checkpoint_has_the_weights_of_the_file() {
    let bench = bench("whole.safetensors");
    bench.done(&["run", "r.toml", "--stage", "pretrain", "--set", "pretrain.lr=0"]);
    let kept = tensors(&bench, "runs/tiny/pretrain/checkpoints/epoch-0003");
    assert_eq!(kept.tensors, tensors(&bench, "whole.safetensors").tensors);
    // The epochs and the table start afresh.
    assert_eq!(bench.read("runs/tiny/pretrain/epochs.csv").lines().count(), 1 + 3);
}

#[test]
fn a_file_without_a_decoder_starts_with_a_random_decoder_and_says_so() {
    let bench = bench("encoder.safetensors");
    let set = ["--set", "pretrain.lr=0"];
    let output = bench.mae(&[&["run", "r.toml", "--stage", "pretrain"][..], &set].concat());
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    assert!(
        log.contains(
            "encoder.safetensors: the checkpoint has no decoder, so the decoder starts from random"
        ),
        "{log}"
    );
    let kept = tensors(&bench, "runs/tiny/pretrain/checkpoints/epoch-0003").tensors;
    let whole = tensors(&bench, "whole.safetensors").tensors;
    let random = &kept["decoder_embed.weight"].values;
    assert!(random.iter().any(|value| *value != 0.0));
    for (name, tensor) in &kept {
        let is_fixed = name == "decoder_pos_embed" || name.ends_with("bias");
        let is_decoder = name.contains("decoder_") || name == "mask_token";
        let same = *tensor == whole[name];
        assert!(is_fixed || name.contains("norm") || same != is_decoder, "{name}: {same}");
    }
}

#[test]
fn start_means_the_weights_of_the_file_and_scratch_stays_random() {
    let bench = bench("whole.safetensors");
    bench.done(&["run", "r.toml"]);
    let file = bench.path("whole.safetensors").display().to_string();
    let plain = TINY
        .replace(r#"["scratch", "checkpoints"]"#, &format!("[\"scratch\", {file:?}]"))
        .replace(r#"["scratch", "last"]"#, &format!("{file:?}"));
    fs::write(bench.path("plain.toml"), plain).unwrap();
    bench.done(&["run", "plain.toml", "--runs", "plain"]);
    for (own, other) in [
        ("finetune/from-start", "finetune/from-whole.safetensors"),
        ("finetune/from-scratch", "finetune/from-scratch"),
        ("linprobe/from-start", "linprobe/from-whole.safetensors"),
    ] {
        let weights = |run: &str, job: &str| {
            fs::read(bench.path(&format!("{run}/{job}/checkpoints/epoch-0002/model.safetensors")))
                .unwrap()
        };
        assert_eq!(weights("runs/tiny", own), weights("plain/tiny", other), "{own}");
    }
    let table = bench.read("runs/tiny/accuracy.csv");
    let starts: Vec<&str> =
        table.lines().skip(1).map(|row| row.split(',').next().unwrap()).collect();
    assert_eq!(starts, ["0", ""], "{table}");
    assert!(table.contains("finetune/from-start,linprobe/from-start"), "{table}");
}

#[test]
fn an_interrupted_start_resumes_to_the_same_bytes_without_the_file_and_refuses_a_changed_file() {
    let bench = bench("whole.safetensors");
    bench.done(&["run", "r.toml", "--runs", "whole"]);
    assert_eq!(bench.run_for(3), JobEnd::Interrupted);
    let file = bench.path("whole.safetensors");
    let weights = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    bench.done(&["run", "r.toml", "--stage", "pretrain"]);
    let error = bench.refused(&["run", "r.toml"], 2);
    assert!(error.contains("`pretrain.from = ") && error.contains("does not exist"), "{error}");
    assert_eq!(error.matches("does not exist").count(), 1, "{error}");
    fs::copy(bench.path("encoder.safetensors"), &file).unwrap();
    let error = bench.refused(&["run", "r.toml"], 2);
    assert!(error.contains("whole.safetensors has changed since this run started"), "{error}");
    fs::write(&file, weights).unwrap();
    bench.done(&["run", "r.toml"]);
    assert_eq!(results(&bench.path("runs/tiny")), results(&bench.path("whole/tiny")));
}

#[test]
fn another_image_size_resizes_the_position_embeddings() {
    let bench = bench("whole.safetensors");
    let set = ["--set", "data.input_size=12", "--set", "pretrain.lr=0"];
    bench.done(&[&["run", "r.toml", "--stage", "pretrain"][..], &set].concat());
    let kept = tensors(&bench, "runs/tiny/pretrain/checkpoints/epoch-0003").tensors;
    for name in ["pos_embed", "decoder_pos_embed"] {
        assert_eq!(kept[name].shape[1], 1 + 36);
        let old = &tensors(&bench, "whole.safetensors").tensors[name];
        let resized = mae::model::resize_pos_embed(&old.values, old.shape[2], 4.into(), 6.into());
        assert_eq!(kept[name].values, resized, "{name}");
    }
}

#[test]
fn a_start_that_cannot_be_is_refused() {
    let bench = bench("whole.safetensors");
    let file = bench.path("whole.safetensors").display().to_string();
    let both = format!("pretrain.resume={file}");
    let error = bench.refused(&["run", "r.toml", "--set", &both], 2);
    assert!(
        error.contains("`pretrain.from") && error.contains("cannot be combined with"),
        "{error}"
    );
    assert!(
        error.contains("remove one of the two keys. `from` starts a new pre-training"),
        "{error}"
    );
    let error = bench.refused(&["run", "r.toml", "--set", "pretrain.from="], 2);
    assert!(
        error.contains("means the weights of `pretrain.from`, but `pretrain.from` is not set"),
        "{error}"
    );
    let error = bench.refused(&["run", "r.toml", "--set", "model.decoder_embed_dim=16"], 2);
    assert!(
        error.contains("whole.safetensors") && error.contains("decoder_embed_dim = 8"),
        "{error}"
    );
    assert!(!bench.path("runs").exists());
}
