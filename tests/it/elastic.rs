//! A run may continue with a different number of devices, if each update keeps its images.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use super::program::{Bench, TINY, column, losses};
use mae::train::JobEnd;
use std::fs;

/// Returns [`TINY`] for `devices` with `accum_iter`. An epoch has 31 micro-batches, which is not a multiple of 4.
fn recipe(devices: usize, accum_iter: usize) -> String {
    let runtime = format!(
        "[runtime]\ndevice = 'cpu'\ndevices = {devices}\nschedule = 'data-parallel'\nthreads = 2\n[pretrain]"
    );
    TINY.replace("accum_iter = 2", "")
        .replace("batch_size = 96", &format!("batch_size = 46\naccum_iter = {accum_iter}"))
        .replace("[pretrain]", &runtime)
}

fn rewrite(bench: &Bench, recipe: &str) {
    mae::durable::write(&bench.path("r.toml"), recipe.as_bytes()).unwrap();
}

fn layouts(bench: &Bench) -> Vec<u64> {
    let provenance: serde_json::Value =
        serde_json::from_str(&bench.read("runs/tiny/provenance.json")).unwrap();
    let all = provenance["layouts"].as_array().unwrap().iter();
    all.map(|layout| layout["devices"].as_u64().unwrap()).collect()
}

#[test]
fn a_run_that_changes_its_devices_ends_like_an_unchanged_run() {
    let whole = Bench::new(&recipe(1, 4));
    whole.done(&["run", "r.toml"]);
    let bench = Bench::new(&recipe(1, 4));
    assert_eq!(bench.run_for(3), JobEnd::Interrupted); // within the first epoch
    rewrite(&bench, &recipe(4, 1));
    assert_eq!(bench.run_for(11), JobEnd::Interrupted); // at the end of the second epoch
    rewrite(&bench, &recipe(2, 2));
    let output = bench.mae(&["run", "r.toml"]);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let change = "continues with devices 2 (was 4), pretrain.accum_iter 2 (was 1)";
    assert!(log.contains(change), "{log}");
    assert_eq!(layouts(&bench), [1, 4, 2]);
    assert!(bench.read("runs/tiny/recipe.toml").contains("devices = 2"));
    for job in ["pretrain", "finetune/from-scratch", "finetune/from-0003", "linprobe/from-0003"] {
        let rates = |bench: &Bench| column(bench, &format!("runs/tiny/{job}/epochs.csv"), "lr");
        assert_eq!(rates(&bench), rates(&whole), "{job}");
        for (a, b) in losses(&bench, job).iter().zip(losses(&whole, job)) {
            assert!((a - b).abs() <= 1e-4 * b, "{job}: {a}, expected {b}");
        }
    }
}

/// Returns the arguments that pre-train with the settings `sets`.
fn run<'a>(sets: &[&'a str]) -> Vec<&'a str> {
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    ["run", "r.toml", "--stage", "pretrain"].into_iter().chain(sets).collect()
}

#[test]
fn only_a_change_that_keeps_each_update_is_accepted() {
    let bench = Bench::new(&recipe(1, 4));
    bench.done(&run(&[]));
    let refused = bench.refused(&run(&["runtime.devices=2"]), 2);
    assert!(
        refused.contains(
            "pretrain: was 184 images (`batch_size` 46 x `accum_iter` 4 x devices 1), now 368 images"
        ),
        "{refused}"
    );
    let restoring =
        ["pretrain", "finetune", "linprobe"].map(|stage| format!("--set {stage}.accum_iter=2"));
    assert!(refused.contains(&format!("hint: add `{}`", restoring.join(" "))), "{refused}");
    let refused = bench.refused(&run(&["finetune.batch_size=92", "finetune.accum_iter=2"]), 2);
    assert!(
        refused.contains("hint: add `--set finetune.batch_size=46 --set finetune.accum_iter=4`"),
        "{refused}"
    );
    assert!(!bench.read("runs/tiny/provenance.json").contains("\"devices\": 2"));
    bench.done(&run(&["pretrain.batch_size=23", "pretrain.accum_iter=8"]));
    bench.done(&run(&[]));
    // A run of an older version has not recorded its first layout.
    let provenance = bench.read("runs/tiny/provenance.json");
    let mut older: serde_json::Value = serde_json::from_str(&provenance).unwrap();
    older.as_object_mut().unwrap().remove("layouts").unwrap();
    mae::durable::write(&bench.path("runs/tiny/provenance.json"), older.to_string().as_bytes())
        .unwrap();
    rewrite(&bench, &recipe(2, 2));
    bench.done(&run(&[]));
    assert_eq!(layouts(&bench), [1, 2]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_lock_of_another_host_is_refused_until_it_is_broken() {
    let bench = Bench::new(TINY);
    let run = ["run", "r.toml", "--stage", "pretrain"];
    bench.done(&run);
    let lock = bench.path("runs/tiny/.lock");
    assert_eq!(fs::read(&lock).unwrap(), b"", "a run that ends removes its name");
    let elsewhere =
        r#"{"host":"node7","pid":4711,"process_start":99,"boot":"b","since_unix_s":1795622081}"#;
    fs::File::options()
        .write(true)
        .open(&lock)
        .and_then(|mut file| std::io::Write::write_all(&mut file, elsewhere.as_bytes()))
        .unwrap();
    let refused = bench.refused(&run, 2);
    assert!(
        refused.contains("process 4711 on host node7, since 2026-11-25 15:54 UTC"),
        "{refused}"
    );
    assert!(refused.contains("add `--break-lock`"), "{refused}");
    assert_eq!(fs::read_to_string(&lock).unwrap(), elsewhere);
    bench.done(&[&run[..], &["--break-lock"]].concat());
    assert_eq!(fs::read(&lock).unwrap(), b"");
}

#[cfg(target_os = "linux")]
#[test]
fn a_second_start_names_the_process_that_works_and_a_killed_process_holds_no_lock() {
    let bench = Bench::new(&TINY.replace("epochs = 3", "epochs = 5000"));
    let run = ["run", "r.toml", "--stage", "pretrain"];
    let mut first = bench.command(&run).spawn().unwrap();
    while !bench.path("runs/tiny/pretrain/epochs.csv").exists() {
        assert!(first.try_wait().unwrap().is_none(), "the program ended before its first epoch");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    for break_lock in [&[][..], &["--break-lock"]] {
        let refused = bench.refused(&[&run[..], break_lock].concat(), 2);
        let process = format!("process {} on host ", first.id());
        assert!(
            refused.contains(&process) && refused.contains("is working in this run"),
            "{refused}"
        );
    }
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(bench.read("runs/tiny/.lock").contains(&format!("\"pid\":{}", first.id())));
    assert_eq!(bench.run_for(1), JobEnd::Interrupted);
    assert_eq!(bench.read("runs/tiny/.lock"), "");
}

#[cfg(not(feature = "mpi"))]
#[test]
fn one_of_several_processes_stops_before_it_writes() {
    let bench = Bench::new(TINY);
    for name in ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"] {
        let output = bench.command(&["run", "r.toml"]).env(name, "4").output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(&format!("as one of 4 processes ({name} = 4)")), "{stderr}");
        assert!(!bench.path("runs").exists());
    }
    let alone = ["run", "r.toml", "--stage", "pretrain", "--set", "pretrain.epochs=2"];
    let output = bench.command(&alone).env("SLURM_NTASKS", "4").output().unwrap();
    assert!(output.status.success(), "a process that is started alone in a job of 4 tasks runs");
}
