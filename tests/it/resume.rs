//! A run that was stopped or killed and started again writes the same bytes as an uninterrupted run.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use super::program::{Bench, TINY, results};
use mae::infer::StopFlag;
use mae::train::JobEnd;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_stopped_and_resumed_run_equals_an_uninterrupted_run() {
    let whole = Bench::new(TINY);
    whole.done(&["run", "r.toml"]);
    let bench = Bench::new(TINY);
    let mut starts = 1;
    // Stopping every 5 updates stops within epochs, at their ends and between jobs.
    while bench.run_for(5) == JobEnd::Interrupted {
        starts += 1;
    }
    assert!(starts > 10, "{starts}");
    assert_eq!(results(&bench.path("runs/tiny")), results(&whole.path("runs/tiny")));
}

#[test]
fn a_killed_and_restarted_run_equals_an_uninterrupted_run() {
    let whole = Bench::new(TINY);
    let started = Instant::now();
    whole.done(&["run", "r.toml"]);
    let whole_s = started.elapsed().as_secs_f64();
    let bench = Bench::new(TINY);
    let mut landed = 0;
    for share in [0.1, 0.25, 0.4, 0.55, 0.3] {
        let mut child = bench.command(&["run", "r.toml"]).spawn().unwrap();
        thread::sleep(Duration::from_secs_f64(whole_s * share));
        landed += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(landed >= 1, "the program ended before every kill");
    bench.done(&["run", "r.toml"]);
    assert_eq!(results(&bench.path("runs/tiny")), results(&whole.path("runs/tiny")));
}

#[test]
fn saves_within_epochs_change_no_result_and_a_killed_run_continues_from_them() {
    // One epoch of 179 updates.
    let one_epoch = TINY.split("[finetune]").next().unwrap().replace("epochs = 3", "epochs = 1");
    let one_epoch =
        one_epoch.replace("checkpoint_epochs = [2]", "").replace("size = 96", "size = 8");
    let recipe = one_epoch.replace("accum_iter = 2", "accum_iter = 1");
    let whole = Bench::new(&format!("{recipe}[checkpoint]\nevery_minutes = \"none\"\n"));
    whole.done(&["run", "r.toml"]);
    let bench = Bench::new(&format!("{recipe}[checkpoint]\nevery_minutes = 0\n"));
    let mut child = bench.command(&["run", "r.toml"]).spawn().unwrap();
    let state = bench.path("runs/tiny/pretrain/resume.safetensors");
    while !state.exists() {
        assert!(child.try_wait().unwrap().is_none(), "the program ended without a save");
        thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    if !bench.path("runs/tiny/pretrain/epochs.csv").exists() {
        let newest = [state, bench.path("runs/tiny/pretrain/previous-resume.safetensors")];
        let note = newest.iter().find_map(|path| mae::checkpoint::TensorFile::read(path).ok());
        assert!(
            !note.unwrap().note.contains("\"update\":0,"),
            "the state is from within the epoch"
        );
    }
    bench.done(&["run", "r.toml"]);
    // The resolved recipes differ in the key itself.
    let results = |bench: &Bench| {
        let mut files = results(&bench.path("runs/tiny"));
        files.retain(|(name, _)| name != "recipe.toml");
        files
    };
    assert_eq!(results(&bench), results(&whole));
}

#[test]
fn a_stop_can_save_the_last_whole_update_while_the_next_one_is_computed() {
    let whole = Bench::new(TINY);
    whole.done(&["run", "r.toml"]);
    let bench = Bench::new(TINY);
    // After the first, a middle and the last update of an epoch, and in later stages.
    for updates in [1, 4, 2, 22, 30, 15, 7] {
        let save = |stop: &StopFlag| assert_eq!(stop.save_last_updates(), Ok(true));
        assert_eq!(bench.run_with(updates, save), JobEnd::Interrupted);
        let states = format!("{}/**/resume.safetensors", bench.path("runs/tiny").display());
        assert_eq!(glob::glob(&states).unwrap().count(), 1);
    }
    bench.done(&["run", "r.toml"]);
    assert_eq!(results(&bench.path("runs/tiny")), results(&whole.path("runs/tiny")));
}

/// Starts a long run, waits for its first epoch, sends it the `signals` in a row, and checks that it saved its state.
#[cfg(unix)]
fn saves_on(signals: &[&str], pause: Duration) {
    let bench = Bench::new(&TINY.replace("epochs = 3", "epochs = 5000"));
    let mut child = bench.command(&["run", "r.toml"]).spawn().unwrap();
    while !bench.path("runs/tiny/pretrain/epochs.csv").exists() {
        assert!(child.try_wait().unwrap().is_none(), "the program ended before its first epoch");
        thread::sleep(Duration::from_millis(20));
    }
    for (index, signal) in signals.iter().enumerate() {
        thread::sleep(if index == 0 { Duration::ZERO } else { pause });
        let id = child.id().to_string();
        // The program may have ended after the first one.
        std::process::Command::new("kill").args(["-s", signal, &id]).output().unwrap();
    }
    assert_eq!(child.wait().unwrap().code(), Some(130), "{signals:?}");
    let state =
        mae::checkpoint::TensorFile::read(&bench.path("runs/tiny/pretrain/resume.safetensors"));
    // The signal arrived within an epoch. Only a state that was saved at the signal has updates of that epoch.
    assert!(!state.unwrap().note.contains("\"update\":0,"), "{signals:?}: the step is lost");
}

#[cfg(unix)]
#[test]
fn every_signal_that_ends_a_job_saves_the_step_first() {
    for signal in ["INT", "TERM", "HUP", "USR1"] {
        saves_on(&[signal], Duration::ZERO);
    }
}

#[cfg(unix)]
#[test]
fn two_signals_within_milliseconds_save_the_step() {
    for pair in [["TERM", "TERM"], ["TERM", "INT"], ["HUP", "TERM"], ["INT", "HUP"]] {
        saves_on(&pair, Duration::from_millis(20));
        saves_on(&pair, Duration::ZERO);
    }
}
