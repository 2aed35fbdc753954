//! Runs on several hosts. `mpirun` starts several processes on this machine, each of which stands for a host.
//!
//! These tests need a build with the feature `mpi`. Without `mpirun`, they print that they are left out.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use super::program::{Bench, TINY, column, losses, results, save_pictures};
use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Returns [`TINY`] for `hosts` hosts, with the same effective batch for each number of hosts.
fn recipe(hosts: usize) -> String {
    let accum_iter = 4 / hosts;
    let runtime = format!("[runtime]\ndevice = 'cpu'\nhosts = {hosts}\nthreads = 1\n[pretrain]");
    TINY.replace("accum_iter = 2", "")
        .replace("batch_size = 96", &format!("batch_size = 44\naccum_iter = {accum_iter}"))
        .replace("[pretrain]", &runtime)
}

/// Returns [`recipe`] with a schedule for the jobs that follow the pre-training.
fn scheduled(hosts: usize, schedule: &str) -> String {
    recipe(hosts).replace("threads = 1", &format!("threads = 1\nschedule = '{schedule}'"))
}

/// Returns the results of a run, without the recipe.
fn results_without_recipe(bench: &Bench) -> Vec<(String, Vec<u8>)> {
    let mut results = results(&bench.path("runs/tiny"));
    results.retain(|(name, _)| name != "recipe.toml");
    results
}

/// Returns whether this machine has `mpirun`. If not, prints that a test is left out.
#[expect(clippy::print_stderr, reason = "a test that is left out must say so")]
fn has_mpirun() -> bool {
    let found = Command::new("mpirun").arg("--version").output().is_ok();
    if !found {
        eprintln!("left out: mpirun is not installed (apt-get install openmpi-bin libopenmpi-dev)");
    }
    found
}

/// Returns the command that starts the program on `hosts` hosts.
fn on_hosts(bench: &Bench, hosts: usize, args: &[&str]) -> Command {
    let mut command = Command::new("mpirun");
    command
        .args(["--oversubscribe", "-n", &hosts.to_string(), env!("CARGO_BIN_EXE_mae")])
        .args(args)
        .current_dir(bench.dir.path())
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env_remove("MAE_LOG");
    command
}

fn done(bench: &Bench, hosts: usize, args: &[&str]) -> Output {
    let output = on_hosts(bench, hosts, args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn refused(bench: &Bench, hosts: usize, args: &[&str]) -> String {
    let output = on_hosts(bench, hosts, args).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits for the end of the child, for at most 30 s.
fn ends(mut child: Child) -> i32 {
    let since = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or(-1);
        }
        if since.elapsed() > Duration::from_secs(30) {
            child.kill().unwrap();
            panic!("the job has not ended within 30 s");
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Starts a run on two hosts, waits for the next epoch of a job, and sends a signal to the process of host `host`.
fn signalled(bench: &Bench, job: &str, signal: &str, host: usize) -> i32 {
    let rank = format!("OMPI_COMM_WORLD_RANK={host}");
    let mut child = on_hosts(bench, 2, &["run", "r.toml"]).stderr(Stdio::null()).spawn().unwrap();
    let table = bench.path(&format!("runs/tiny/{job}/epochs.csv"));
    let length = || fs::metadata(&table).map_or(0, |table| table.len());
    let before = length();
    while length() == before {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before its next epoch");
        thread::sleep(Duration::from_millis(10));
    }
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let of_run = processes.map(|entry| entry.path()).find(|process| {
        let is_here = fs::read_link(process.join("cwd"))
            .is_ok_and(|cwd| cwd == bench.dir.path().canonicalize().unwrap());
        let variables = fs::read(process.join("environ")).unwrap_or_default();
        is_here && variables.split(|byte| *byte == 0).any(|variable| variable == rank.as_bytes())
    });
    let process = of_run.expect("the process of the host");
    let id = process.file_name().unwrap().to_str().unwrap();
    Command::new("kill").args(["-s", signal, id]).output().unwrap();
    ends(child)
}

#[test]
fn several_hosts_have_the_results_of_one() {
    if !has_mpirun() {
        return;
    }
    let one = Bench::new(&recipe(1));
    one.done(&["run", "r.toml"]);
    let alone = Bench::new(&recipe(1));
    done(&alone, 1, &["run", "r.toml"]);
    assert_eq!(results(&alone.path("runs/tiny")), results(&one.path("runs/tiny")));
    // Two hosts train each job together. Four hosts share the five jobs that follow the pre-training.
    for (hosts, schedule) in [(2, "data-parallel"), (4, "auto")] {
        let several = Bench::new(&scheduled(hosts, schedule));
        let output = done(&several, hosts, &["run", "r.toml"]);
        let table = several.read("runs/tiny/accuracy.csv").replace('\r', "");
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), table.trim_end());
        for job in ["pretrain", "finetune/from-scratch", "finetune/from-0003", "linprobe/from-0003"]
        {
            let (got, expected) = (losses(&several, job), losses(&one, job));
            assert_eq!(got.len(), expected.len());
            for (a, b) in got.iter().zip(expected) {
                assert!((a - b).abs() <= 1e-4 * b, "{hosts} hosts, {job}: {a}, expected {b}");
            }
        }
    }
}

#[test]
fn a_different_number_or_recipe_of_hosts_is_refused() {
    if !has_mpirun() {
        return;
    }
    let bench = Bench::new(&recipe(2));
    let refusal = refused(&bench, 3, &["run", "r.toml"]);
    assert!(
        refusal.contains("cannot run with runtime.hosts = 2: 3 processes were started"),
        "{refusal}"
    );
    assert!(refusal.contains("--set runtime.hosts=3"), "{refusal}");
    let alone = bench.refused(&["run", "r.toml"], 2);
    assert!(alone.contains("1 process was started"), "{alone}");
    let mut command = on_hosts(&bench, 1, &["run", "r.toml", ":", "-n", "1"]);
    command.args(["-x", "MAE_SEED=7", env!("CARGO_BIN_EXE_mae"), "run", "r.toml"]);
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("rank 1 on host"), "{stderr}");
    assert!(stderr.contains("has a different recipe (seed: 7, not 0)"), "{stderr}");
    assert!(!bench.path("runs").exists());
}

/// Returns [`recipe`] with measurements: kNN, and a test set that [`save_test_set`] makes.
fn measuring(hosts: usize) -> String {
    recipe(hosts) + "[knn]\nk = 5\n[robustness]\nsets = [\"digits=sets/digits\"]\n"
}

/// Saves 200 pictures of all ten classes in `sets/digits`.
fn save_test_set(bench: &Bench) {
    let names: Vec<String> = (0..10).map(|digit| digit.to_string()).collect();
    let shades: Vec<(&str, u8)> =
        names.iter().zip(0..).map(|(name, class)| (name.as_str(), 25 * class)).collect();
    save_pictures(bench, "sets/digits", &shades, 20);
}

#[test]
fn measurements_have_the_same_bytes_on_any_number_of_hosts() {
    if !has_mpirun() {
        return;
    }
    let bench = Bench::new(&measuring(2));
    save_test_set(&bench);
    done(&bench, 2, &["run", "r.toml"]);
    let tables = ["knn.csv", "robustness.csv", "finetune/from-0003/confusion.csv"];
    let tables = tables.map(|table| format!("runs/tiny/{table}"));
    let of_two = tables.clone().map(|table| bench.read(&table));
    assert_eq!(column(&bench, &tables[0], "pretrain_epoch"), ["2", "3"]);
    for table in &tables {
        fs::remove_file(bench.path(table)).unwrap();
    }
    mae::durable::write(&bench.path("r.toml"), measuring(1).as_bytes()).unwrap();
    bench.done(&["run", "r.toml"]);
    assert_eq!(tables.map(|table| bench.read(&table)), of_two);
    let checkpoint = "runs/tiny/finetune/from-0003/checkpoints/epoch-0002";
    for args in [
        &["--json"][..],
        &["--per-class", "classes.csv"],
        &["--knn", "5", "--json"],
        &["--test", "sets/digits", "--json"],
    ] {
        let args = [&["eval", checkpoint], args].concat();
        let of_one = bench.done(&args);
        for hosts in [2, 3] {
            let output = done(&bench, hosts, &args);
            assert_eq!(String::from_utf8(output.stdout).unwrap(), of_one, "{hosts}: {args:?}");
        }
    }
}

#[test]
fn an_evaluation_that_fails_on_one_host_ends_on_all() {
    if !has_mpirun() {
        return;
    }
    let bench = Bench::new(&recipe(1));
    bench.done(&["run", "r.toml", "--stage", "finetune", "--set", "finetune.from=['scratch']"]);
    let checkpoint = "runs/tiny/finetune/from-scratch/checkpoints/epoch-0002";
    for (other, expected) in [
        (&["eval", "nowhere"][..], "error: rank 1 on host "),
        (&["eval", checkpoint, "--json"], "has a different command line than rank 0"),
    ] {
        let mut command = on_hosts(&bench, 1, &["eval", checkpoint, ":", "-n", "1"]);
        let output = command.arg(env!("CARGO_BIN_EXE_mae")).args(other).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
        assert_eq!(stderr.matches("error: ").count(), 1, "{stderr}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn an_option_of_only_one_host_is_refused() {
    if !has_mpirun() {
        return;
    }
    let bench = Bench::new(&recipe(2));
    done(&bench, 2, &["run", "r.toml", "--stage", "pretrain"]);
    let before = results(&bench.path("runs/tiny"));
    let options: [&[&str]; 3] = [&["--fresh"], &["--break-lock"], &["--stage", "pretrain"]];
    for option in options {
        for (first, second) in [(&[][..], option), (option, &[])] {
            let args = [&["run", "r.toml"], first, &[":", "-n", "1"]].concat();
            let mut command = on_hosts(&bench, 1, &args);
            command.args([env!("CARGO_BIN_EXE_mae"), "run", "r.toml"]).args(second);
            let output = command.output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{stderr}");
            let with = if first.is_empty() { "with" } else { "without" };
            let expected = format!("was started {with} `{}`, but rank 0 was", option.join(" "));
            assert!(stderr.contains("rank 1 on host ") && stderr.contains(&expected), "{stderr}");
        }
    }
    assert_eq!(results(&bench.path("runs/tiny")), before);
}

#[test]
fn a_killed_host_ends_the_job_and_the_next_start_continues_to_the_same_bytes() {
    if !has_mpirun() {
        return;
    }
    let recipe = recipe(2).replace("epochs = 3", "epochs = 60");
    let [whole, bench] = [(); 2].map(|()| Bench::new(&recipe));
    done(&whole, 2, &["run", "r.toml"]);
    for host in [1, 0] {
        assert_ne!(signalled(&bench, "pretrain", "KILL", host), 0);
    }
    assert_eq!(signalled(&bench, "pretrain", "TERM", 1), 130);
    assert!(bench.path("runs/tiny").join(".lock").exists());
    assert_eq!(bench.read("runs/tiny/.lock"), "");
    done(&bench, 2, &["run", "r.toml"]);
    assert_eq!(results(&bench.path("runs/tiny")), results(&whole.path("runs/tiny")));
}

#[test]
fn hosts_that_share_jobs_write_the_bytes_of_one_host_with_as_many_devices() {
    if !has_mpirun() {
        return;
    }
    let shared = scheduled(2, "job-parallel");
    let one = Bench::new(&shared.replace("hosts = 2", "devices = 2"));
    one.done(&["run", "r.toml"]);
    let several = Bench::new(&shared);
    let output = done(&several, 2, &["run", "r.toml"]);
    let log = String::from_utf8(output.stderr).unwrap();
    for job in ["finetune/from-scratch", "finetune/from-0003", "linprobe/from-0003"] {
        assert!(log.contains(&format!("{job}: epoch 2 of 2")), "{log}");
    }
    assert_eq!(results_without_recipe(&several), results_without_recipe(&one));
    // No file is left of the other host, and the manifest knows every file.
    several.done(&["check", "runs/tiny"]);
}

#[test]
fn a_job_that_fails_on_a_host_is_listed_and_the_others_continue() {
    if !has_mpirun() {
        return;
    }
    let bench = Bench::new(&scheduled(2, "job-parallel"));
    let args = ["run", "r.toml", "--set", "finetune.lr=1e30"];
    for _ in 0..2 {
        let output = on_hosts(&bench, 2, &args).output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(
            log.contains("error: 3 of 6 jobs failed:\n  finetune/from-scratch: cannot continue")
        );
        let jobs = ["finetune/from-0002: cannot continue", "finetune/from-0003: cannot continue"];
        assert!(jobs.iter().all(|job| log.contains(&format!("\n  {job}"))), "{log}");
    }
    let table = bench.read("runs/tiny/accuracy.csv");
    assert!(table.contains("linprobe/from-scratch") && table.contains("linprobe/from-0003"));
}

#[test]
fn a_host_that_is_killed_while_hosts_share_jobs_costs_no_result() {
    if !has_mpirun() {
        return;
    }
    let recipe = scheduled(2, "job-parallel").replace("epochs = 2", "epochs = 30");
    let [whole, bench] = [(); 2].map(|()| Bench::new(&recipe));
    done(&whole, 2, &["run", "r.toml"]);
    // Host 0 trains the first job, and host 1 the second one.
    for (job, host) in [("finetune/from-0002", 1), ("finetune/from-0002", 0)] {
        assert_ne!(signalled(&bench, job, "KILL", host), 0);
    }
    assert_eq!(signalled(&bench, "finetune/from-0003", "TERM", 1), 130);
    assert_eq!(bench.read("runs/tiny/.lock"), "");
    done(&bench, 2, &["run", "r.toml"]);
    assert_eq!(results(&bench.path("runs/tiny")), results(&whole.path("runs/tiny")));
}

#[test]
fn a_host_that_fails_is_named_with_its_cause() {
    if !has_mpirun() {
        return;
    }
    let bench = Bench::new(&recipe(2));
    let mut command = on_hosts(&bench, 1, &["run", "r.toml", ":", "-n", "1"]);
    let other = ["run", "r.toml", "--set", "data.format=imagefolder", "--set", "data.path=missing"];
    command.arg(env!("CARGO_BIN_EXE_mae")).args(other);
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(stderr.contains("error: rank 1 on host ") && stderr.contains("failed: "), "{stderr}");
    assert_eq!(stderr.matches("error: ").count(), 1, "{stderr}");
}
