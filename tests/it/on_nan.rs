//! `on_nan = "skip"`: updates with NaN or infinity are skipped, counted and limited.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "these files are the user's")]

use super::program::{Bench, TINY, results};
use mae::train::JobEnd;
use std::fs;

/// A pre-training of one epoch that takes one huge step in its second update: the first has a learning rate of 0. From the third
/// on, all gradients are infinite.
fn diverging() -> Bench {
    let (head, _) = TINY.split_once("[finetune]").unwrap();
    let text = head
        .replace("blr = 3e-3", "blr = 1e30\non_nan = \"skip\"")
        .replace("accum_iter = 2", "accum_iter = 1")
        .replace("checkpoint_epochs = [2]\n", "")
        .replace("epochs = 3", "epochs = 1");
    Bench::new(&text)
}

/// The column `skipped_updates` of the pre-training.
fn skipped(bench: &Bench, run: &str) -> Vec<usize> {
    let table = bench.read(&format!("{run}/pretrain/epochs.csv"));
    let mut lines = table.lines();
    assert!(lines.next().unwrap().ends_with(",data_wait_s,skipped_updates"), "{table}");
    lines.map(|line| line.rsplit(',').next().unwrap().parse().unwrap()).collect()
}

const LIMIT: &str = "pretrain.on_nan_limit=13";

/// The weights and tables of a run, without the recipe and the accuracy table.
fn numbers(bench: &Bench, run: &str) -> Vec<(String, Vec<u8>)> {
    let mut files = results(&bench.path(run));
    files.retain(|(name, _)| name != "recipe.toml");
    files
}

#[test]
fn skipped_updates_are_counted_and_limited() {
    let bench = diverging();
    let output = bench.mae(&["run", "r.toml", "--set", LIMIT, "--runs", "whole"]);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    assert_eq!(skipped(&bench, "whole/tiny"), [12]);
    assert!(log.contains("WARN pretrain: skipped 12 updates in epoch 1"), "{log}");
    assert!(log.contains("(12 of at most 13 in this epoch)"), "{log}");
    // Another limit stops earlier, names the update, and a start with a higher limit goes on.
    let error = bench.refused(&["run", "r.toml", "--set", "pretrain.on_nan_limit=1"], 1);
    assert!(error.contains("update 4 (lr"), "{error}");
    assert!(error.contains("after 1 skipped update of this epoch: the training has"), "{error}");
    bench.done(&["run", "r.toml", "--set", LIMIT]);
    assert_eq!(numbers(&bench, "runs/tiny"), numbers(&bench, "whole/tiny"));
    // Whether updates are skipped is part of what the run computes.
    let error = bench.refused(&["run", "r.toml", "--set", "pretrain.on_nan=stop"], 2);
    assert!(error.contains("pretrain.on_nan: was \"skip\", now \"stop\""), "{error}");
    let error = diverging().refused(&["run", "r.toml", "--set", "pretrain.on_nan=stop"], 1);
    assert!(error.contains("the training has diverged") && !error.contains("skipped"), "{error}");
}

#[test]
fn skipping_does_not_depend_on_threads_and_interruptions() {
    for accum_iter in [1, 2] {
        let set = format!("pretrain.accum_iter={accum_iter}");
        let bench = diverging();
        let threads = |count: usize| {
            let (threads, runs) = (format!("runtime.threads={count}"), format!("t{count}"));
            let more = ["--set", &set, "--set", LIMIT, "--set", &threads, "--runs", &runs];
            bench.done(&[&["run", "r.toml"][..], &more].concat());
            numbers(&bench, &format!("{runs}/tiny"))
        };
        let whole = threads(1);
        assert_eq!(skipped(&bench, "t1/tiny"), [14 / accum_iter - 2]);
        assert_eq!(threads(3), whole);
        let text =
            bench.read("r.toml").replace("accum_iter = 1", &format!("accum_iter = {accum_iter}"));
        let text = text.replace("[pretrain]\n", "[pretrain]\non_nan_limit = 13\n");
        fs::write(bench.path("r.toml"), text).unwrap();
        while bench.run_for(3) == JobEnd::Interrupted {}
        assert_eq!(numbers(&bench, "runs/tiny"), whole);
    }
}

#[test]
fn without_a_bad_update_every_stage_has_the_same_weights_as_without_skipping() {
    let bench = Bench::new(TINY);
    bench.done(&["run", "r.toml"]);
    let skip = ["pretrain", "finetune", "linprobe"].map(|stage| format!("{stage}.on_nan=skip"));
    let set = skip.iter().flat_map(|set| ["--set", set]);
    let args: Vec<&str> = ["run", "r.toml", "--runs", "skip"].into_iter().chain(set).collect();
    bench.done(&args);
    let weights = |run: &str| {
        let mut files = numbers(&bench, run);
        files.retain(|(name, _)| name.ends_with(".safetensors") || name == "accuracy.csv");
        files
    };
    assert_eq!(weights("skip/tiny"), weights("runs/tiny"));
    assert!(bench.read("skip/tiny/linprobe/from-0003/epochs.csv").contains("skipped_updates\n"));
    assert!(!bench.read("runs/tiny/linprobe/from-0003/epochs.csv").contains("skipped"));
    // A table with and one without the column can be compared and reported.
    bench.done(&["compare", "runs/tiny", "skip/tiny"]);
    bench.done(&["report", "skip/tiny"]);
}
