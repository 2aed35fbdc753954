//! Training on several devices, which the CPU simulates with the all-reduce code of GPUs, and training in bf16.

#![expect(clippy::unwrap_used, reason = "a missing file is a failed test")]

use super::program::{Bench, TINY, losses, results};
use std::fs;
use std::path::Path;

/// Returns [`TINY`] for `devices`, with the same effective batch for every number of devices.
///
/// An epoch is a multiple of 4 batches. Otherwise, the learning rates within an epoch would differ.
fn recipe(devices: usize, schedule: &str) -> String {
    let accum_iter = 4 / devices;
    let runtime = format!(
        "[runtime]\ndevice = 'cpu'\ndevices = {devices}\nschedule = '{schedule}'\nthreads = 2\n[pretrain]"
    );
    TINY.replace("accum_iter = 2", "")
        .replace("batch_size = 96", &format!("batch_size = 44\naccum_iter = {accum_iter}"))
        .replace("[pretrain]", &runtime)
}

/// Returns the numbers in each table of a run, without times.
fn tables(bench: &Bench) -> Vec<(String, Vec<f64>)> {
    let files = results(&bench.path("runs/tiny")).into_iter();
    let tables = files.filter(|(name, _)| Path::new(name).extension().is_some_and(|e| e == "csv"));
    let numbers = tables.map(|(name, text)| {
        let text = String::from_utf8(text).unwrap();
        let cells = text.split([',', '\n', '\r']).filter_map(|cell| cell.parse().ok());
        (name, cells.collect())
    });
    numbers.collect()
}

/// Asserts that losses and norms agree up to rounding. One image may change its class.
fn assert_close(got: &[(String, Vec<f64>)], expected: &[(String, Vec<f64>)]) {
    assert_eq!(got.len(), expected.len());
    for ((name, got), (_, expected)) in got.iter().zip(expected) {
        assert_eq!(got.len(), expected.len(), "{name}");
        for (a, b) in got.iter().zip(expected) {
            let allowed = if name.ends_with("accuracy.csv") { 1.0 } else { 2e-4 * b.abs() + 1.0 };
            assert!((a - b).abs() <= allowed, "{name}: {a}, expected {b}");
        }
    }
}

fn assert_same_losses(got: &Bench, expected: &Bench) {
    for job in ["pretrain", "finetune/from-scratch", "finetune/from-0003", "linprobe/from-0003"] {
        let (got, expected) = (losses(got, job), losses(expected, job));
        assert_eq!(got.len(), expected.len());
        for (a, b) in got.iter().zip(expected) {
            assert!((a - b).abs() <= 1e-4 * b, "{job}: {a}, expected {b}");
        }
    }
}

#[test]
fn any_number_of_devices_gives_the_results_of_one() {
    let one = Bench::new(&recipe(1, "auto"));
    one.done(&["run", "r.toml"]);
    for (devices, schedule) in [(2, "data-parallel"), (4, "data-parallel"), (2, "job-parallel")] {
        let several = Bench::new(&recipe(devices, schedule));
        several.done(&["run", "r.toml"]);
        assert_close(&tables(&several), &tables(&one));
        assert_same_losses(&several, &one);
    }
}

/// Returns [`recipe`] with micro-batches of one shard, whose gradients are reduced bucket by bucket.
///
/// An epoch has 102 micro-batches, a multiple of 6.
fn small(devices: usize) -> String {
    let accum_iter = format!("accum_iter = {}", 6 / devices);
    recipe(devices, "data-parallel")
        .replace("batch_size = 44", "batch_size = 14")
        .replace(&format!("accum_iter = {}", 4 / devices), &accum_iter)
}

#[test]
fn devices_that_reduce_bucket_by_bucket_give_the_results_of_one() {
    let one = Bench::new(&small(1));
    one.done(&["run", "r.toml"]);
    let [several, recomputing] = [(); 2].map(|()| Bench::new(&small(2)));
    several.done(&["run", "r.toml"]);
    assert_close(&tables(&several), &tables(&one));
    assert_same_losses(&several, &one);
    recomputing.done(&["run", "r.toml", "--set", "runtime.gradient_checkpointing=true"]);
    assert_eq!(tables(&recomputing), tables(&several));
}

#[test]
fn several_devices_stop_together_and_resume_to_the_same_bytes() {
    let whole = Bench::new(&small(2));
    whole.done(&["run", "r.toml"]);
    let bench = Bench::new(&small(2));
    let mut starts = 1;
    while bench.run_for(7) == mae::train::JobEnd::Interrupted {
        starts += 1;
    }
    assert!(starts > 3, "{starts}");
    assert_eq!(results(&bench.path("runs/tiny")), results(&whole.path("runs/tiny")));
}

#[test]
fn a_plan_says_how_devices_share_the_jobs() {
    let bench = Bench::new(&recipe(2, "auto"));
    let text = bench.done(&["plan", "r.toml"]);
    assert!(text.contains("then one job on each device (job-parallel)"), "{text}");
    let json = bench.done(&["plan", "r.toml", "--json", "--set", "runtime.schedule=data-parallel"]);
    assert!(json.contains("\"schedule\":\"data-parallel\""), "{json}");
    assert!(!json.contains("job-parallel"), "{json}");
}

#[test]
fn a_plan_for_several_hosts_needs_no_mpi() {
    let bench = Bench::new(&recipe(1, "auto"));
    let hosts = ["plan", "r.toml", "--set", "runtime.hosts=4", "--set", "pretrain.accum_iter=1"];
    let text = bench.done(&hosts);
    let shared = "pre-training on all 4 devices of 4 hosts together, then one job on each device";
    assert!(text.contains(shared) && !text.contains("# network, finetune"), "{text}");
    let together = [&hosts[..], &["--set", "runtime.schedule=data-parallel"]].concat();
    let together = bench.done(&together);
    assert!(together.contains("each on all 4 devices of 4 hosts together"), "{together}");
    assert!(together.contains("# network, finetune: in each update"), "{together}");
    assert!(text.contains("# network, pretrain: in each update, each of 4 hosts sums"), "{text}");
    let json = bench.done(&[&hosts[..], &["--json"]].concat());
    let plan: serde_json::Value = serde_json::from_str(&json).unwrap();
    let job = &plan["jobs"][0];
    assert_eq!((&job["hosts"], &job["effective_batch_size"]), (&4.into(), &176.into()));
    let bytes = |name: &str| job[name].as_f64().unwrap();
    assert!((bytes("wire_bytes") - 1.5 * bytes("reduced_bytes")).abs() < 1.0, "{job}");
}

#[test]
fn a_plan_estimates_the_speed_on_more_hosts() {
    let bench = Bench::new(&recipe(1, "auto"));
    let scale = ["plan", "r.toml", "--scale", "1,2,3,8", "--set", "runtime.device=cuda"];
    let text = bench.done(&scale);
    assert!(text.contains("network: 100 Gbit/s per host (`runtime.link_gbit`)"), "{text}");
    let json = bench.done(&[&scale[..], &["--json", "--set", "runtime.link_gbit=10"]].concat());
    let plan: serde_json::Value = serde_json::from_str(&json).unwrap();
    let rows = plan["scale"].as_array().unwrap();
    assert_eq!(rows.len(), 12, "three stages on four numbers of hosts");
    assert_eq!((&rows[0]["efficiency"], &rows[0]["communication"]), (&1.0.into(), &0.0.into()));
    assert_eq!((&rows[1]["batch_size"], &rows[1]["accum_iter"]), (&44.into(), &2.into()));
    assert_eq!((&rows[3]["batch_size"], &rows[3]["accum_iter"]), (&22.into(), &1.into()));
    assert!(rows[1]["efficiency"].as_f64().unwrap() < 1.0);
    assert!(rows[2]["accum_iter"].is_null() && rows[2]["hours"].is_null(), "{}", rows[2]);
    let refused = bench.refused(&["plan", "r.toml", "--scale", "1,0"], 2);
    assert!(refused.contains("expected numbers of hosts"), "{refused}");
}

#[test]
fn a_run_in_bf16_has_the_losses_of_fp32_and_writes_fp32_checkpoints() {
    let (wide, narrow) = (Bench::new(TINY), Bench::new(TINY));
    wide.done(&["run", "r.toml", "--stage", "pretrain"]);
    narrow.done(&["run", "r.toml", "--stage", "pretrain", "--set", "runtime.precision=bf16"]);
    for (a, b) in losses(&narrow, "pretrain").iter().zip(losses(&wide, "pretrain")) {
        assert!((a - b).abs() < 5e-3 * b && (a - b).abs() > 0.0, "{a}, in fp32 {b}");
    }
    let weights = "runs/tiny/pretrain/checkpoints/epoch-0003/model.safetensors";
    let size = |bench: &Bench| fs::metadata(bench.path(weights)).unwrap().len();
    assert_eq!(size(&narrow), size(&wide));
}

#[test]
fn several_devices_evaluate_to_exactly_the_same_metrics_as_one() {
    let bench = Bench::new(&recipe(1, "auto"));
    bench.done(&["run", "r.toml"]);
    let folder = "runs/tiny/finetune/from-0003/checkpoints/epoch-0002";
    let one = bench.done(&["eval", folder]);
    let five = bench.done(&["eval", folder, "--set", "runtime.devices=5"]);
    assert_eq!(one, five);
}
