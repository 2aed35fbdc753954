//! Wrong input exits with 2, failed work with 1, each with a clear error and without partial files.

use super::program::{Bench, TINY, save_jpeg};
use std::fs;

#[test]
fn the_version_says_what_the_program_can_train_on() {
    let version = Bench::new(TINY).done(&["--version"]);
    let expected = concat!("mae ", env!("CARGO_PKG_VERSION"), " (");
    assert!(version.starts_with(expected) && version.contains("devices: cpu"), "{version}");
}

#[test]
fn a_typo_is_refused_before_anything_is_created() {
    let bench = Bench::new(TINY);
    let error = bench.refused(&["run", "r.toml", "--set", "pretrain.mask_ration=0.5"], 2);
    assert!(error.starts_with("error: unknown key `pretrain.mask_ration`"), "{error}");
    assert!(error.contains("did you mean `mask_ratio`?"), "{error}");
    assert_eq!(fs::read_dir(bench.dir.path()).unwrap().count(), 1, "only the recipe is there");
}

#[test]
fn what_this_machine_cannot_do_is_refused_before_anything_is_created() {
    let bench = Bench::new(TINY);
    for (set, expected) in [
        ("runtime.device=cuda", "runtime.device = \"cuda\""),
        ("runtime.devices=8", "this machine has no usable GPU"),
        ("pretrain.batch_size=1000", "one update of pretrain needs"),
        ("finetune.from=nowhere.safetensors", "nowhere.safetensors"),
    ] {
        let error = bench.refused(&["run", "r.toml", "--set", set], 2);
        assert!(error.contains(expected) && error.contains("hint:"), "{set}: {error}");
        assert!(!bench.path("runs").exists(), "{set}");
    }
    let error = bench.refused(&["run", "nowhere.toml"], 2);
    assert!(error.contains("nowhere.toml"), "{error}");
    let error = bench.refused(&["run", "r.toml", "--runs", "r.toml/runs"], 2);
    assert!(error.contains("--runs"), "{error}");
    let none = Bench::new(
        "name = \"none\"\n[data]\nformat = \"digits\"\ninput_size = 8\n[model]\npatch_size = 2\n",
    );
    assert!(none.refused(&["run", "r.toml"], 2).contains("no stage"));
    assert!(!none.path("runs").exists());
    for seconds in ["nan", "-1", "1e30"] {
        bench.refused(&["bench", "train", "r.toml", &format!("--seconds={seconds}")], 2);
    }
    bench.refused(&["run"], 2);
    bench.refused(&["train", "r.toml"], 2);
}

#[test]
fn a_training_that_diverges_names_its_step_and_keeps_the_last_good_checkpoint() {
    let bench = Bench::new(
        &TINY
            .replace("blr = 3e-3", "blr = 1e30\ncheckpoint_epochs = [1]")
            .replace("checkpoint_epochs = [2]\n", ""),
    );
    let error = bench.refused(&["run", "r.toml"], 1);
    for expected in ["cannot continue pretrain", "in epoch", "update", "lr", "lower `pretrain.blr`"]
    {
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[cfg(unix)]
#[test]
fn a_run_outlives_the_terminal_that_watches_it() {
    let bench = Bench::new(TINY);
    let mut command = bench.command(&["run", "r.toml", "--stage", "pretrain"]);
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success());
    assert!(bench.path("runs/tiny/pretrain/checkpoints/epoch-0003/meta.json").is_file());
}

#[test]
fn a_damaged_resume_state_is_named_with_a_hint_and_missing_weights_are_trained_again() {
    let bench = Bench::new(TINY);
    bench.done(&["run", "r.toml"]);
    let checkpoint = bench.path("runs/tiny/finetune/from-0003/checkpoints/epoch-0002");
    let before = fs::read(checkpoint.join("model.safetensors")).unwrap();
    fs::remove_file(checkpoint.join("model.safetensors")).unwrap();
    let resume = bench.path("runs/tiny/finetune/from-0003/resume.safetensors");
    mae::durable::write(&resume, b"half a file").unwrap();
    let error = bench.refused(&["run", "r.toml"], 2);
    assert!(error.contains("resume.safetensors") && error.contains("remove the file"), "{error}");
    fs::remove_file(&resume).unwrap();
    bench.done(&["run", "r.toml"]);
    assert_eq!(fs::read(checkpoint.join("model.safetensors")).unwrap(), before);
}

#[test]
fn a_damaged_picture_is_named() {
    let bench = Bench::new(
        &TINY
            .replace("format = \"digits\"", "format = \"imagefolder\"\npath = \"photos\"")
            .replace("batch_size = 96\naccum_iter = 2", "batch_size = 4"),
    );
    let folder = bench.path("photos");
    fs::create_dir_all(&folder).unwrap();
    for i in 0..8u8 {
        let photo =
            image::RgbImage::from_fn(20, 16, |x, y| image::Rgb([x as u8 * 9, y as u8 * 7, i]));
        save_jpeg(&folder.join(format!("{i}.jpg")), &photo);
    }
    let alone = ["run", "r.toml", "--stage", "pretrain"];
    let recipe = bench.read("r.toml");
    let pretraining = recipe.split("[finetune]").next().unwrap();
    mae::durable::write(&bench.path("r.toml"), pretraining.as_bytes()).unwrap();
    bench.done(&alone); // pre-training accepts a flat folder without labels
    let checkpoint = "runs/tiny/pretrain/checkpoints/epoch-0003";
    let args = ["reconstruct", checkpoint, "--images", "photos", "-o", "r.png"];
    assert!(bench.refused(&args, 2).contains("photos: this is a folder, not an image"));
    let whole = fs::read(folder.join("5.jpg")).unwrap();
    mae::durable::write(&folder.join("5.jpg"), &whole[..whole.len() / 2]).unwrap();
    let error = bench.refused(&[&alone[..], &["--fresh"]].concat(), 2);
    assert!(error.contains("5.jpg"), "{error}");
}

#[test]
fn a_checkpoint_answers_eval_and_predict() {
    let bench = Bench::new(TINY);
    bench.done(&["run", "r.toml"]);
    let photo = image::GrayImage::from_fn(30, 30, |x, _| image::Luma([(x * 8) as u8]));
    photo.save(bench.path("a.png")).unwrap();
    for job in ["finetune/from-0003", "linprobe/from-0003"] {
        let checkpoint = format!("runs/tiny/{job}/checkpoints/epoch-0002");
        let json: serde_json::Value =
            serde_json::from_str(&bench.done(&["eval", &checkpoint, "--json"])).unwrap();
        let table = bench.read(&format!("runs/tiny/{job}/epochs.csv"));
        let last: Vec<&str> = table.lines().last().unwrap().split(',').collect();
        let csv = |i: usize| last[i].parse::<f64>().unwrap();
        assert_eq!(json["images"], 360);
        assert!((json["loss"].as_f64().unwrap() - csv(3)).abs() < 1e-6, "{json} {table}");
        assert!((json["top1"].as_f64().unwrap() - csv(4)).abs() < 1e-9, "{json} {table}");
        assert!((json["top5"].as_f64().unwrap() - csv(5)).abs() < 1e-9, "{json} {table}");
        let json: serde_json::Value =
            serde_json::from_str(&bench.done(&["predict", &checkpoint, "a.png", "--json"]))
                .unwrap();
        let classes = json["images"][0]["classes"].as_array().unwrap();
        assert_eq!(classes.len(), 5);
        assert!(classes[0]["probability"].as_f64() >= classes[1]["probability"].as_f64());
    }
    // Images are normalized as in training, even if the recipe of `--data` differs; `--set` overrides.
    let checkpoint = "runs/tiny/finetune/from-0003/checkpoints/epoch-0002";
    let other = TINY
        .replace("input_size = 8", "input_size = 8\nmean = [0.3, 0.3, 0.3]\nstd = [0.2, 0.2, 0.2]");
    mae::durable::write(&bench.path("other.toml"), other.as_bytes()).unwrap();
    let own = bench.done(&["eval", checkpoint]);
    let output = bench.mae(&["eval", checkpoint, "--data", "other.toml"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), own);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("mae normalizes images with the checkpoint's mean"), "{told}");
    let asked = ["eval", checkpoint, "--data", "other.toml", "--set", "data.mean=[0.3, 0.3, 0.3]"];
    assert_ne!(bench.done(&asked), own);
    let pretrained = "runs/tiny/pretrain/checkpoints/epoch-0003";
    assert!(bench.refused(&["eval", pretrained], 2).contains("no classification head"));
    assert!(bench.refused(&["eval", "runs/tiny"], 2).contains("not a checkpoint folder"));
    assert!(bench.refused(&["predict", checkpoint, "r.toml"], 2).contains("r.toml"));
    // An unreadable file does not keep the other files from being classified.
    let output = bench.mae(&["predict", checkpoint, "r.toml", "a.png", "none.png", "--top", "1"]);
    assert_eq!(output.status.code(), Some(2));
    let [found, told] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(found.starts_with("a.png\n  0.") && found.lines().count() == 2, "{found}");
    assert!(told.contains("r.toml") && told.contains("none.png"), "{told}");
    let model = bench.path(checkpoint).join("model.safetensors");
    let whole = fs::read(&model).unwrap();
    mae::durable::write(&model, &whole[..whole.len() - 9]).unwrap();
    assert!(bench.refused(&["eval", checkpoint], 2).contains("not a complete safetensors file"));
}

#[test]
fn plan_prints_every_job_in_numbers() {
    let bench = Bench::new(TINY);
    let json: serde_json::Value =
        serde_json::from_str(&bench.done(&["plan", "r.toml", "--json"])).unwrap();
    let jobs = json["jobs"].as_array().unwrap();
    assert_eq!(jobs.len(), 6);
    assert_eq!(jobs[0]["stage"], "pretrain");
    assert_eq!(jobs[0]["effective_batch_size"], 192);
    assert_eq!(jobs[0]["steps"], 3 * (1437 / 96 / 2));
    assert!((jobs[0]["lr"].as_f64().unwrap() - 3e-3 * 192.0 / 256.0).abs() < 1e-12);
    assert_eq!(jobs[2]["from"], "2");
    for key in ["params", "flops_per_image"] {
        assert!(jobs[0][key].as_f64().unwrap() > 0.0, "{key}");
    }
    let text = bench.done(&["plan", "r.toml"]);
    assert!(text.contains("finetune/from-scratch"), "{text}");
    assert!(!bench.path("runs").exists());
}

#[test]
fn the_schema_documents_the_keys_with_their_defaults() {
    let bench = Bench::new(TINY);
    let schema: serde_json::Value = serde_json::from_str(&bench.done(&["schema"])).unwrap();
    assert!(schema.to_string().contains("mask_ratio"));
}

#[test]
fn a_bench_prints_images_per_second() {
    let bench = Bench::new(TINY);
    let json: serde_json::Value = serde_json::from_str(&bench.done(&[
        "bench",
        "train",
        "r.toml",
        "--seconds",
        "0.2",
        "--json",
    ]))
    .unwrap();
    assert!(json["images_per_s"].as_f64().unwrap() > 0.0, "{json}");
    assert_eq!(json["effective_batch_size"], 192);
    assert!(!bench.path("runs").exists());
}
