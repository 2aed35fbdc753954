//! Unreadable validation images stop a run before its first job, or are left out of every accuracy.

#![expect(clippy::disallowed_methods, reason = "these are files of a user")]
#![expect(clippy::unwrap_used, reason = "an error in a helper is a failed test")]

use super::program::{Bench, own_pictures};
use std::fs;

const SKIP: [&str; 2] = ["--set", "data.bad_val=skip"];

/// Makes 12 training and 9 validation pictures of three classes, and a recipe for them. Two validation pictures are unreadable.
fn own() -> Bench {
    let bench = own_pictures(3, "");
    fs::write(bench.path("own/val/cat/1.png"), "").unwrap();
    fs::write(bench.path("own/val/owl/2.png"), "no picture").unwrap();
    bench
}

#[test]
fn a_run_lists_all_unreadable_validation_images_before_its_first_job() {
    let bench = own();
    let said = bench.refused(&["run", "r.toml"], 2);
    assert!(
        said.contains("error: cannot evaluate: 2 of 9 validation images are unreadable:\n"),
        "{said}"
    );
    assert!(
        said.contains("\n  own/val/cat/1.png: the file is empty\n  own/val/owl/2.png: "),
        "{said}"
    );
    assert!(said.contains("set `data.bad_val = \"skip\"`"), "{said}");
    assert!(!bench.path("runs").exists());
    let sweep = ["run", "r.toml", "--set", "sweep.seed=[0, 1]"];
    assert!(bench.refused(&sweep, 2).contains("2 of 9 validation images are unreadable"));
}

#[test]
fn skipped_validation_images_are_in_the_last_column() {
    let bench = own();
    let run = bench.mae(&[&["run", "r.toml"][..], &SKIP].concat());
    let (table, said) =
        (String::from_utf8(run.stdout).unwrap(), String::from_utf8(run.stderr).unwrap());
    assert_eq!(run.status.code(), Some(0), "{said}");
    assert!(said.contains("2 of 9 validation images are unreadable. All accuracies"), "{said}");
    assert!(said.contains("own/val/owl/2.png: "), "{said}");
    let header = table.lines().next().unwrap();
    assert!(header.ends_with(",finetune_run,linprobe_run,val_skipped"), "{table}");
    assert!(table.lines().skip(1).all(|row| row.ends_with(",2")), "{table}");
    let epochs = bench.read("runs/tiny/finetune/from-scratch/epochs.csv");
    assert!(epochs.lines().next().unwrap().ends_with(",data_wait_s,val_skipped"), "{epochs}");
    assert!(
        bench
            .read("runs/tiny/pretrain/epochs.csv")
            .lines()
            .next()
            .unwrap()
            .ends_with(",data_wait_s")
    );
    let provenance = bench.read("runs/tiny/provenance.json");
    assert!(provenance.contains("\"val_images\": 7,\n  \"val_skipped\": 2"), "{provenance}");
    // The same command has nothing to do, and other commands read the table.
    assert_eq!(bench.done(&[&["run", "r.toml"][..], &SKIP].concat()), table);
    bench.done(&["report", "runs/tiny"]);
    let report = bench.read("runs/tiny/report.html");
    assert!(report.contains("The accuracies leave out 2 unreadable validation images"));
    bench.done(&["compare", "runs/tiny", "runs/tiny/accuracy.csv"]);
    let other = bench.refused(&["run", "r.toml"], 2);
    assert!(other.contains("data.bad_val: was \"skip\", now \"stop\""), "{other}");

    // `eval` measures on the same images as the run.
    let checkpoint = "runs/tiny/finetune/from-scratch/checkpoints/epoch-0002";
    let text = bench.done(&["eval", checkpoint]);
    assert!(text.contains("on 7 images (2 unreadable images left out)"), "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&bench.done(&["eval", checkpoint, "--json"])).unwrap();
    assert_eq!((&json["images"], &json["val_skipped"]), (&7.into(), &2.into()));
    let top1 = epochs.lines().last().unwrap().split(',').nth(4).unwrap().parse::<f64>().unwrap();
    assert!((json["top1"].as_f64().unwrap() - top1).abs() < 1e-9, "{epochs}");
}

#[test]
fn skipping_changes_nothing_if_all_images_are_readable() {
    let bench = own();
    for file in ["own/val/cat/1.png", "own/val/owl/2.png"] {
        fs::copy(bench.path("own/val/dog/0.png"), bench.path(file)).unwrap();
    }
    let finetune = ["run", "r.toml", "--stage", "finetune", "--set", "finetune.from=scratch"];
    let skip = bench.done(&[&finetune[..], &SKIP, &["--set", "name=skip"]].concat());
    let stop = bench.done(&[&finetune[..], &["--set", "name=stop"]].concat());
    let first = |table: &str| table.lines().nth(1).unwrap().to_owned();
    assert_eq!(first(&skip), format!("{},0", first(&stop)));
}

#[test]
fn a_run_refuses_to_mix_different_validation_images() {
    let bench = own();
    let pretrain = ["--stage", "pretrain"];
    bench.done(&[&["run", "r.toml"][..], &SKIP, &pretrain].concat());
    let finetune = [&["run", "r.toml"][..], &SKIP, &["--stage", "finetune"]].concat();
    bench.done(&finetune);
    // The size stays, so the fingerprint stays.
    let picture = bench.path("own/val/dog/0.png");
    let length = fs::metadata(&picture).unwrap().len() as usize;
    fs::write(&picture, vec![b'x'; length]).unwrap();
    let said = bench.refused(&[&["run", "r.toml"][..], &SKIP].concat(), 2);
    assert!(said.contains("3 validation images are unreadable now, but 2 were"), "{said}");
}

#[test]
fn compare_warns_if_runs_left_out_different_numbers_of_images() {
    let bench = own();
    let run = |name: &str| {
        let set = format!("name={name}");
        let knn = ["--stage", "pretrain", "--set", "knn.k=2", "--set", &set];
        bench.done(&[&["run", "r.toml"][..], &SKIP, &knn].concat());
        bench.read(&format!("runs/{name}/accuracy.csv"))
    };
    let (two, same) = (run("two"), run("same"));
    assert!(two.lines().last().unwrap().ends_with(",2"), "{two}");
    assert_eq!(two, same);
    fs::write(bench.path("own/val/dog/0.png"), "").unwrap();
    run("three");
    let warning = "different numbers of unreadable validation images";
    let compare = |runs: &[&str]| {
        let text = bench.done(&[&["compare"][..], runs].concat());
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(!compare(&["runs/two", "runs/same"]).contains(warning));
    let text = compare(&["runs/two", "runs/three"]);
    assert!(text.contains(&format!("{warning} (`val_skipped`): [1] 2, [2] 3.")), "{text}");
    // The same from tables.
    for name in ["two", "three"] {
        let table = bench.read(&format!("runs/{name}/accuracy.csv"));
        fs::write(bench.path(&format!("{name}.csv")), table).unwrap();
    }
    let text = compare(&["two.csv", "three.csv"]);
    assert!(text.contains(&format!("{warning} (`val_skipped`): [1] 2, [2] 3.")), "{text}");
}
