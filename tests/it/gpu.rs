//! A GPU, or the software that plays one: the reference numbers, and runs that follow the CPU's.
//!
//! Only in a build with `--features wgpu`, on a machine with a graphics driver (Debian's `mesa-vulkan-drivers` will do).

use super::program::Bench;
use super::program::TINY;
use super::program::losses;

/// Largest difference of a loss from the CPU's, as a share.
const CLOSE: f64 = 1e-4;

#[test]
fn reference_cases_are_within_their_tolerance_on_wgpu() {
    let bench = Bench::new(TINY);
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/");
    let cases = ["mae-1-r50-pixel", "finetune-1", "linprobe-0", "pretrain-steps-1"];
    let cases = cases.map(|case| format!("{golden}{case}"));
    let mut args = vec!["verify", "--device", "wgpu"];
    args.extend(cases.iter().map(String::as_str));
    let text = bench.done(&args);
    assert!(text.contains("4 of 4 cases pass on wgpu: "), "{text}");
}

#[test]
fn a_pre_training_on_wgpu_follows_the_cpu_and_so_does_one_that_recomputes() {
    let cpu = Bench::new(TINY);
    let short = ["run", "r.toml", "--stage", "pretrain", "--set", "pretrain.epochs=2"];
    cpu.done(&short);
    let expected = losses(&cpu, "pretrain");
    for recompute in ["false", "true"] {
        let gpu = Bench::new(TINY);
        let key = format!("runtime.gradient_checkpointing={recompute}");
        let on = ["--set", "runtime.device=wgpu", "--set", &key];
        gpu.done(&[&short[..], &on[..]].concat());
        let got = losses(&gpu, "pretrain");
        assert_eq!(got.len(), expected.len());
        for (a, b) in got.iter().zip(&expected) {
            assert!((a - b).abs() <= CLOSE * b, "recomputing {recompute}: {a}, on the CPU {b}");
        }
    }
}

#[test]
fn what_wgpu_does_not_have_is_refused() {
    let bench = Bench::new(TINY);
    let on = ["run", "r.toml", "--set", "runtime.device=wgpu", "--set"];
    for (key, expected) in [
        ("runtime.precision=bf16", "has no bf16"),
        ("runtime.devices=64", "runtime.devices = 64: wgpu finds "),
    ] {
        let error = bench.refused(&[&on[..], &[key]].concat(), 2);
        assert!(error.contains(expected) && error.contains("hint:"), "{key}: {error}");
        assert!(!bench.path("runs").exists(), "{key}");
    }
}
