//! `precision = "fp16"` with dynamic loss scaling, on the CPU.

use super::program::{Bench, TINY, losses, results};
use mae::train::JobEnd;

const FP16: &str = "[runtime]\nprecision = \"fp16\"\n[pretrain]";

#[test]
fn fp16_follows_fp32_and_writes_its_loss_scale() {
    let bench = Bench::new(TINY);
    bench.done(&["run", "r.toml"]);
    let jobs = ["pretrain", "finetune/from-0003", "linprobe/from-0003"];
    let expected = jobs.map(|job| losses(&bench, job));
    mae::durable::write(&bench.path("r.toml"), TINY.replace("[pretrain]", FP16).as_bytes())
        .unwrap();
    bench.done(&["run", "r.toml", "--fresh"]);
    for (job, expected) in jobs.into_iter().zip(expected) {
        let found = losses(&bench, job);
        assert_ne!(found, expected, "{job} was not computed in fp16");
        for (found, expected) in found.iter().zip(&expected) {
            // fp16 has 11 significant bits; updates of a few epochs add up the differences.
            assert!((found / expected - 1.0).abs() < 5e-3, "{job}: {found}, in fp32 {expected}");
        }
        let table = bench.read(&format!("runs/tiny/{job}/epochs.csv"));
        let (header, rows) = table.split_once('\n').unwrap();
        assert_eq!(header.rsplit(',').next().map(str::trim), Some("loss_scale"));
        assert!(rows.lines().all(|row| row.ends_with(",65536.0")), "{table}");
    }
}

#[test]
fn an_interrupted_fp16_run_resumes_to_the_same_bytes() {
    let bench = Bench::new(&TINY.replace("[pretrain]", FP16));
    bench.done(&["run", "r.toml", "--runs", "whole"]);
    assert_eq!(bench.run_for(5), JobEnd::Interrupted);
    let state = std::fs::read(bench.path("runs/tiny/pretrain/resume.safetensors")).unwrap();
    let text = String::from_utf8_lossy(&state[..state.len().min(20_000)]).into_owned();
    assert!(text.contains("loss_scale") && text.contains("good_updates"), "the scale is not saved");
    bench.done(&["run", "r.toml"]);
    assert_eq!(results(&bench.path("runs/tiny")), results(&bench.path("whole/tiny")));
}
