//! A job that diverges is listed with its reason, and the other jobs of the run continue.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use super::program::{Bench, TINY};
use std::process::Output;

fn log(output: Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    log
}

/// The jobs in `failed_jobs` of the provenance.
fn recorded(bench: &Bench) -> Vec<String> {
    let text = bench.read("runs/tiny/provenance.json");
    let provenance: serde_json::Value = serde_json::from_str(&text).unwrap();
    let failed = provenance["failed_jobs"].as_array().cloned().unwrap_or_default();
    failed.iter().map(|failed| failed["job"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_fine_tuning_that_diverges_is_listed_and_the_probes_are_done() {
    let bench = Bench::new(TINY);
    let args = ["run", "r.toml", "--set", "finetune.lr=1e30"];
    let output = bench.mae(&args);
    let table = String::from_utf8(output.stdout.clone()).unwrap();
    let first = log(output);
    assert!(first.contains("error: 3 of 6 jobs failed:\n  finetune/from-scratch: cannot continue"));
    assert!(first.contains("set a new `name`, and lower `finetune.lr` or raise"), "{first}");
    assert!(!first.contains("blr`"), "{first}");
    let jobs = ["finetune/from-scratch", "finetune/from-0002", "finetune/from-0003"];
    assert_eq!(recorded(&bench), jobs);
    // Both starts with a probe have a row, with empty cells for the fine-tuning; the third start has none.
    assert_eq!(bench.read("runs/tiny/accuracy.csv").replace('\r', ""), table);
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|row| row.split(',').collect()).collect();
    assert_eq!(rows.iter().map(|row| row[0]).collect::<Vec<_>>(), ["0", "3"]);
    for row in &rows {
        assert!(row[2..6].iter().all(|cell| cell.is_empty()) && !row[6].is_empty(), "{table}");
        assert!(row[10].is_empty() && row[11].starts_with("linprobe/from-"), "{table}");
    }
    let report = bench.read("runs/tiny/report.html");
    assert!(report.contains("failed jobs") && report.contains("finetune/from-0002: cannot"));
    // The next start tries them again, and only them.
    let again = log(bench.mae(&args));
    assert!(again.contains("linprobe/from-scratch: already finished"), "{again}");
    assert!(again.contains("3 of 6 jobs failed:"), "{again}");
    // A start of another stage keeps what is known of the failed jobs.
    bench.done(&[&args[..], &["--stage", "linprobe"]].concat());
    assert_eq!(recorded(&bench), jobs);
}

#[test]
fn if_the_pre_training_diverges_the_jobs_that_do_not_need_its_end_continue() {
    let bench = Bench::new(TINY);
    bench.done(&["run", "r.toml", "--stage", "pretrain", "--set", "name=a"]);
    // A branch that diverges after the epoch that it started from.
    let log = log(bench.mae(&[
        "run",
        "r.toml",
        "--set",
        "pretrain.resume=runs/a/pretrain/checkpoints/epoch-0002",
        "--set",
        "pretrain.blr=1e30",
    ]));
    for expected in [
        "3 of 6 jobs failed:\n  pretrain: cannot continue pretrain: ",
        "in epoch 3",
        "lower `pretrain.blr`",
        "With `pretrain.resume`, the new run can continue from a checkpoint of this run",
        "\n  finetune/from-0003: cannot start: the pre-training failed before it wrote the checkpoint of epoch 3",
        "\n  linprobe/from-0003: cannot start",
    ] {
        assert!(log.contains(expected), "{expected}: {log}");
    }
    let table = bench.read("runs/tiny/accuracy.csv");
    let epochs: Vec<&str> =
        table.lines().skip(1).map(|row| row.split(',').next().unwrap()).collect();
    assert_eq!(epochs, ["0", "2"], "{table}");
    assert!(table.contains("finetune/from-0002") && !table.contains("from-0003"), "{table}");
}
