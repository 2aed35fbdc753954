//! Runs on a user's own folder of images, and later checks against their data.

#![expect(clippy::disallowed_methods, reason = "these are files of a user")]

use super::program::own_pictures;
use std::fs;

#[test]
fn a_comparison_uses_the_number_of_validation_images() {
    let bench = own_pictures(2, "");
    bench.done(&["run", "r.toml"]);
    bench.done(&["run", "r.toml", "--set", "name=other", "--set", "finetune.blr=1e-3"]);
    assert!(bench.read("runs/tiny/provenance.json").contains("\"val_images\": 6"));
    let text = bench.done(&["compare", "runs/tiny", "runs/other"]);
    assert!(text.contains("2 sqrt(p1 (1 - p1)/6 + p2 (1 - p2)/6)"), "{text}");
    assert!(!text.contains('…'), "{text}");
    // A job without its last epoch is unfinished.
    for file in ["epochs.csv", "tensorboard/log.txt"] {
        let path = bench.path(&format!("runs/other/finetune/from-scratch/{file}"));
        let text = fs::read_to_string(&path).unwrap();
        let first: Vec<&str> = text.split_inclusive('\n').take(2).collect();
        mae::durable::write(&path, first.concat().as_bytes()).unwrap();
    }
    let text = bench.done(&["compare", "runs/tiny", "runs/other"]);
    assert!(text.contains(" … ") && text.contains("… the job has not finished"), "{text}");
}

#[test]
fn a_bad_validation_picture_is_an_error_before_training() {
    let bench = own_pictures(2, "");
    fs::write(bench.path("own/val/owl/1.png"), "no picture").unwrap();
    let error = bench.refused(&["run", "r.toml"], 2);
    assert!(error.contains("1.png") && !bench.path("runs").exists(), "{error}");
    let sweep = ["run", "r.toml", "--set", "sweep.seed=[0, 1]"];
    assert!(bench.refused(&sweep, 2).contains("1.png") && !bench.path("runs").exists());
    // Pre-training alone does not read the validation split.
    bench.done(&["run", "r.toml", "--stage", "pretrain", "--set", "pretrain.epochs=3"]);
}

#[test]
fn data_may_move_but_not_change() {
    let bench = own_pictures(2, "");
    bench.done(&["run", "r.toml", "--stage", "pretrain"]);
    fs::rename(bench.path("own"), bench.path("moved")).unwrap();
    let moved = ["run", "r.toml", "--set", "data.path=moved"];
    bench.done(&moved);
    assert!(bench.read("runs/tiny/recipe.toml").contains("path = \"moved\""));
    let picture = bench.path("moved/train/cat/0.png");
    fs::write(&picture, [&fs::read(&picture).unwrap()[..], b"longer"].concat()).unwrap();
    assert!(bench.refused(&moved, 2).contains("the data has changed since this run started"));
    let output = bench.mae(&["plan", "r.toml", "--set", "data.path=moved"]);
    let warning = String::from_utf8(output.stderr).unwrap();
    assert!(warning.contains("the data has changed since this run started"), "{warning}");
    // Without the stored fingerprint, changed data cannot be detected.
    fs::remove_file(bench.path("runs/tiny/provenance.json")).unwrap();
    fs::rename(bench.path("moved"), bench.path("own")).unwrap();
    assert!(bench.refused(&["run", "r.toml"], 2).contains("data.path: "));
    // Changes of the recipe are reported first.
    let digits = ["run", "r.toml", "--set", "data.format=digits"];
    assert!(bench.refused(&digits, 2).contains("data.format: "));
}

#[test]
fn eval_rejects_classes_in_a_different_order() {
    let bench = own_pictures(2, "");
    bench.done(&["run", "r.toml", "--stage", "finetune", "--set", "finetune.from=scratch"]);
    let checkpoint = "runs/tiny/finetune/from-scratch/checkpoints/epoch-0002";
    bench.done(&["eval", checkpoint]);
    let rename = |from: &str, to: &str| {
        for split in ["train", "val"] {
            let path = |name: &str| bench.path(&format!("own/{split}/{name}"));
            fs::rename(path(from), path(to)).unwrap();
        }
    };
    rename("cat", "zebra");
    let error = bench.refused(&["eval", checkpoint], 2);
    assert!(
        error.contains("`dog` is class 1 in the checkpoint, but class 0 in the data"),
        "{error}"
    );
    rename("zebra", "caterpillar");
    let output = bench.mae(&["eval", checkpoint]);
    let warning = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{warning}");
    assert!(warning.contains("class 0 is `cat` in the checkpoint, but `caterpillar`"), "{warning}");
}

#[test]
fn a_run_from_an_own_checkpoint_is_compared_with_its_recipe() {
    let bench = own_pictures(2, "");
    bench.done(&["run", "r.toml", "--stage", "pretrain"]);
    let from = "linprobe.from=runs/tiny/pretrain/checkpoints/epoch-0003";
    let probe = ["run", "r.toml", "--stage", "linprobe", "--set", "name=probe", "--set", from];
    let error = bench.refused(&[&probe[..], &["--set", "model.num_heads=4"]].concat(), 2);
    assert!(
        error.contains(
            "the checkpoint has `model.num_heads = 2`, but the recipe has `model.num_heads = 4`"
        ),
        "{error}"
    );
    let other = ["--set", "data.mean=[0.1, 0.2, 0.3]"];
    let output = bench.mae(&[&probe[..], &other].concat());
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    assert!(log.contains("the checkpoint was trained with mean [0.485, 0.456, 0.406]"), "{log}");
    assert!(
        !String::from_utf8(bench.mae(&[&probe[..], &["--runs", "b"]].concat()).stderr)
            .unwrap()
            .contains("normalized")
    );
}

#[test]
fn files_without_an_image_extension_are_counted() {
    let bench = own_pictures(2, "");
    for name in ["train/cat/a.gif", "train/dog/b.GIF", "val/owl/notes", "train/.hidden"] {
        fs::write(bench.path(&format!("own/{name}")), "x").unwrap();
    }
    let text = bench.done(&["data", "check", "own"]);
    let counted = "files without an image extension: 2 .gif, 1 without an extension";
    assert!(text.contains(counted), "{text}");
}

#[test]
fn normalization_must_be_on_the_0_to_1_scale() {
    let bench = own_pictures(2, "");
    let error = bench.refused(&["plan", "r.toml", "--set", "data.mean=[123, 116, 103]"], 2);
    assert!(
        error.contains("mae normalizes pixel values from 0 to 1") && error.contains("by 255"),
        "{error}"
    );
}

#[cfg(unix)]
#[test]
fn an_interrupted_bench_exits_with_130() {
    let bench = own_pictures(2, "");
    for bench_of in ["train", "data"] {
        let mut child = bench
            .command(&[
                "bench",
                bench_of,
                "r.toml",
                "--seconds",
                "60",
                "--set",
                "pretrain.accum_iter=1",
            ])
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1500));
        let id = child.id().to_string();
        let killed = std::process::Command::new("kill").args(["-INT", &id]).status();
        assert!(killed.unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(130), "{bench_of}");
    }
}
