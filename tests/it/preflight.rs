//! `mae plan` and `mae run` agree: the same problems in the same words, and each job does what the plan says.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "these files are the user's, and helpers of tests fail as tests do"
)]

use super::fresh::tree;
use super::program::{Bench, TINY};
use mae::train::JobEnd;
use std::collections::BTreeMap;
use std::fs;

const REFUSED: &str = "`mae run` would fail now: ";

/// What a plan says.
struct Planned {
    /// Problems that a run would have.
    problems: Vec<String>,
    /// Every warning, one after the other.
    warnings: String,
    /// For each job: the run, the job's folder, the state and the number of epochs.
    jobs: Vec<(String, String, serde_json::Value, u64)>,
}

fn plan(bench: &Bench, set: &[&str]) -> Planned {
    let output = bench.mae(&[&["plan", "r.toml", "--json"], set].concat());
    let warnings = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{warnings}");
    let problems = warnings.split("warning: ").filter_map(|text| text.strip_prefix(REFUSED));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let jobs = json["jobs"].as_array().unwrap().iter().map(|job| {
        let epochs = job["epochs"].as_u64().unwrap();
        (text(&job["run"]), text(&job["dir"]), job["state"].clone(), epochs)
    });
    Planned {
        problems: problems.map(|text| text.trim_end().to_owned()).collect(),
        jobs: jobs.collect(),
        warnings: warnings.clone(),
    }
}

/// The line that a run logs about a job in this state.
fn expected_line(dir: &str, state: &serde_json::Value, epochs: u64) -> String {
    let resumed = |done: &serde_json::Value| {
        format!("{dir}: resuming in epoch {} of {epochs}", done["epochs"].as_u64().unwrap() + 1)
    };
    match (state.as_str(), &state["begun"], &state["goes_on"], &state["shared"]) {
        (Some("to_do"), ..) => format!("{dir}: {epochs} epochs, "),
        (Some("done"), ..) => format!("{dir}: already finished"),
        (None, done @ serde_json::Value::Object(_), ..)
        | (None, _, done @ serde_json::Value::Object(_), _) => resumed(done),
        (None, _, _, serde_json::Value::Object(with)) => {
            let with = with["with"].as_str().unwrap();
            format!("{dir}: copied from runs/{with}/{dir}, because both runs have the same job")
        }
        _ => panic!("unknown state {state}"),
    }
}

/// Plans and then runs a recipe, and compares what both say. Returns the plan and the log of the run.
fn agree(bench: &Bench, set: &[&str]) -> (Planned, String) {
    let planned = plan(bench, set);
    let before = tree(bench.dir.path());
    let output = bench.mae(&[&["run", "r.toml"], set].concat());
    let log = String::from_utf8(output.stderr).unwrap();
    for problem in &planned.problems {
        assert!(log.contains(problem), "plan: {problem}\nrun: {log}");
    }
    let is_sweep = planned.jobs.iter().any(|(run, ..)| run.contains('/'));
    if !is_sweep && !planned.problems.is_empty() {
        assert_eq!(output.status.code(), Some(2), "{log}");
        let refusal = format!("error: {}", planned.problems.join("\nerror: "));
        assert!(log.trim_end().ends_with(&refusal), "plan: {refusal}\nrun: {log}");
        assert_eq!(tree(bench.dir.path()), before, "a refused run changed files");
        return (planned, log);
    }
    let expected_code = i32::from(!planned.problems.is_empty());
    assert_eq!(output.status.code(), Some(expected_code), "{log}");
    let mut expected: BTreeMap<String, usize> = BTreeMap::new();
    for (run, dir, state, epochs) in &planned.jobs {
        // A refused point of a sweep logs no jobs.
        if !log.contains(&format!("\n  {run}: ")) {
            *expected.entry(expected_line(dir, state, *epochs)).or_default() += 1;
        }
    }
    for (line, count) in &expected {
        let found = log.lines().filter(|logged| logged.contains(line)).count();
        // A copied job is also reported as finished.
        let copied = format!("{}: copied from ", line.split(": ").next().unwrap());
        let is_copied = |other: &String| other.starts_with(&copied);
        let of_finished = usize::from(line.ends_with("already finished"));
        let copies = of_finished * expected.keys().filter(|other| is_copied(other)).count();
        assert_eq!(found, *count + copies, "{line}\n{log}");
    }
    (planned, log)
}

fn states(planned: &Planned) -> Vec<String> {
    planned.jobs.iter().map(|(_, _, state, _)| state.to_string()).collect()
}

fn pretraining() -> String {
    TINY.split("[finetune]").next().unwrap().to_owned()
}

#[test]
fn a_new_a_resumed_and_a_finished_run_do_what_the_plan_says() {
    let bench = Bench::new(TINY);
    // An epoch has 7 updates, so this stops in the second epoch of the pre-training.
    assert_eq!(bench.run_for(10), JobEnd::Interrupted);
    let (planned, _) = agree(&bench, &[]);
    assert_eq!(states(&planned)[..2], ["{\"begun\":{\"epochs\":1}}", "\"to_do\""]);
    let (planned, _) = agree(&bench, &[]);
    assert_eq!(states(&planned), vec!["\"done\""; 6]);
    // A job that lost its weights starts over, because nothing of its state was kept.
    let lost = "runs/tiny/finetune/from-0003/checkpoints/epoch-0002/model.safetensors";
    fs::remove_file(bench.path(lost)).unwrap();
    let (planned, _) = agree(&bench, &[]);
    assert_eq!(states(&planned).iter().filter(|state| *state == "\"to_do\"").count(), 1);
    let (planned, _) = agree(&Bench::new(TINY), &[]);
    assert_eq!(states(&planned), vec!["\"to_do\""; 6]);
}

#[test]
fn a_run_that_was_stopped_in_its_first_epoch_is_resumed_there() {
    let bench = Bench::new(&pretraining());
    assert_eq!(bench.run_for(2), JobEnd::Interrupted);
    let (planned, _) = agree(&bench, &[]);
    assert_eq!(states(&planned), ["{\"begun\":{\"epochs\":0}}"]);
}

#[test]
fn a_changed_recipe_a_foreign_folder_and_a_foreign_file_are_refused_in_the_words_of_the_plan() {
    let bench = Bench::new(&pretraining());
    bench.done(&["run", "r.toml"]);
    let (planned, _) = agree(&bench, &["--set", "pretrain.mask_ratio=0.5"]);
    assert!(planned.problems[0].contains("pretrain.mask_ratio"), "{:?}", planned.problems);
    // Two problems are two errors.
    mae::durable::write(&bench.path("cut.pth"), b"not a checkpoint").unwrap();
    let both = ["--set", "pretrain.mask_ratio=0.5", "--set", "pretrain.resume=cut.pth"];
    assert_eq!(agree(&bench, &both).0.problems.len(), 2);
    // A table whose rows were removed.
    let table = bench.path("runs/tiny/pretrain/epochs.csv");
    let rows = fs::read_to_string(&table).unwrap();
    let cut: Vec<&str> = rows.lines().take(2).collect();
    mae::durable::write(&table, cut.join("\n").as_bytes()).unwrap();
    assert_eq!(agree(&bench, &[]).0.problems.len(), 1);
    mae::durable::write(&table, rows.as_bytes()).unwrap();
    let foreign = bench.path("runs/tiny/accuracy.csv");
    fs::write(&foreign, "mine").unwrap();
    let (planned, _) = agree(&bench, &[]);
    assert!(planned.problems[0].contains("runs/tiny/accuracy.csv"), "{:?}", planned.problems);
    // `--fresh` refuses the foreign file before it moves anything.
    let before = tree(bench.dir.path());
    let refused = bench.refused(&["run", "r.toml", "--fresh"], 2);
    assert!(refused.contains(&planned.problems[0]), "{refused}");
    assert_eq!(tree(bench.dir.path()), before);
    // The user's own folder, without a manifest.
    let other = Bench::new(&pretraining());
    fs::create_dir_all(other.path("runs/tiny")).unwrap();
    mae::durable::write(&other.path("runs/tiny/thesis.tex"), b"mine").unwrap();
    let (planned, _) = agree(&other, &[]);
    assert!(planned.problems[0].contains("mae-manifest.jsonl"), "{:?}", planned.problems);
    // A file where the folder of all runs should be.
    let (planned, _) = agree(&Bench::new(&pretraining()), &["--runs", "r.toml/runs"]);
    assert!(planned.problems[0].contains("--runs"), "{:?}", planned.problems);
    let none = pretraining().split("[pretrain]").next().unwrap().to_owned();
    let (planned, _) = agree(&Bench::new(&none), &[]);
    assert!(planned.problems[0].contains("no stage"), "{:?}", planned.problems);
}

#[test]
fn changed_and_missing_data_are_refused_in_the_words_of_the_plan() {
    let data = "format = \"imagefolder\"\npath = \"pictures\"\nin_chans = 1";
    let bench = Bench::new(&pretraining().replace("format = \"digits\"", data));
    let (planned, _) = agree(&bench, &[]);
    assert!(planned.problems[0].contains("pictures"), "{:?}", planned.problems);
    assert!(planned.warnings.contains("the number of steps is unknown"), "{}", planned.warnings);
    for i in 0..200u32 {
        let path = bench.path(&format!("pictures/{i:03}.png"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::GrayImage::from_pixel(8, 8, image::Luma([i as u8])).save(path).unwrap();
    }
    let (planned, _) = agree(&bench, &[]);
    assert_eq!(states(&planned), ["\"to_do\""]);
    fs::copy(bench.path("pictures/000.png"), bench.path("pictures/200.png")).unwrap();
    let (planned, _) = agree(&bench, &[]);
    assert!(planned.problems[0].contains("data"), "{:?}", planned.problems);
}

#[test]
fn an_unsuitable_source_file_is_refused_in_the_words_of_the_plan_and_a_missing_one_with_its_key() {
    let bench = Bench::new(TINY);
    mae::durable::write(&bench.path("cut.pth"), b"not a checkpoint").unwrap();
    for key in ["finetune.from", "pretrain.resume"] {
        let (planned, _) = agree(&bench, &["--set", &format!("{key}=cut.pth")]);
        assert!(planned.problems[0].contains("cut.pth"), "{:?}", planned.problems);
    }
    let set = ["--set", "finetune.from=nowhere.pth"];
    let planned = plan(&bench, &set);
    let refused = bench.refused(&[&["run", "r.toml"], &set[..]].concat(), 2);
    let said = "`finetune.from = \"nowhere.pth\"` does not exist";
    assert!(planned.warnings.contains(said) && refused.contains(said), "{refused}");
    assert!(!bench.path("runs").exists());
}

#[test]
fn points_of_a_sweep_share_jobs_as_planned_but_not_those_of_a_refused_point() {
    let sweep = format!("{TINY}[sweep]\n\"finetune.trained_blocks\" = [1, 2]\n");
    let bench = Bench::new(&sweep);
    let shared = "{\"shared\":{\"with\":\"tiny/finetune.trained_blocks=1\"}}";
    let count = |planned: &Planned| states(planned).iter().filter(|s| *s == shared).count();
    let (planned, _) = agree(&bench, &[]);
    assert_eq!(count(&planned), 3);
    assert_eq!(states(&agree(&bench, &[]).0), vec!["\"done\""; 12]);
    // The run of the second point was removed, so the point copies the jobs again.
    fs::remove_dir_all(bench.path("runs/tiny/finetune.trained_blocks=2")).unwrap();
    assert_eq!(count(&agree(&bench, &[]).0), 3);
    // The first point is refused, so the second point trains all its jobs.
    let bench = Bench::new(&sweep);
    fs::create_dir_all(bench.path("runs/tiny/finetune.trained_blocks=1")).unwrap();
    let theirs = bench.path("runs/tiny/finetune.trained_blocks=1/thesis.tex");
    fs::write(&theirs, "mine").unwrap();
    let (planned, log) = agree(&bench, &[]);
    assert_eq!((count(&planned), planned.problems.len()), (0, 1), "{log}");
    assert!(log.contains("1 of 2 sweep points failed"), "{log}");
    // With `--fresh`, the second point must not copy what an earlier start left in a refused point.
    let bench = Bench::new(&sweep);
    bench.done(&["run", "r.toml"]);
    let own = bench.path("runs/tiny/finetune.trained_blocks=1/finetune/from-9999/epochs.csv");
    fs::create_dir_all(own.parent().unwrap()).unwrap();
    fs::write(&own, "mine").unwrap();
    let log = String::from_utf8(bench.mae(&["run", "r.toml", "--fresh"]).stderr).unwrap();
    assert!(log.contains("1 of 2 sweep points failed") && !log.contains("copied from"), "{log}");
    assert_eq!(log.matches("pretrain: epoch 3 of 3").count(), 1, "{log}");
}
