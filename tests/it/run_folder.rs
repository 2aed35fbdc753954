//! The files of a run, and what happens if it is started again.

use super::program::{Bench, TINY, results};
use std::fs;

const HEADER: &str = "pretrain_epoch,annealed,finetune_top1,finetune_top5,finetune_best_top1,\
    finetune_best_epoch,linprobe_top1,linprobe_top5,linprobe_best_top1,pretrain_loss,finetune_run,linprobe_run";

#[test]
fn a_run_leaves_the_folder_that_scripts_rely_on_and_is_skipped_when_done() {
    let bench = Bench::new(TINY);
    let stdout = bench.done(&["run", "r.toml"]);
    let table = bench.read("runs/tiny/accuracy.csv");
    assert_eq!(stdout.trim_end(), table.replace("\r\n", "\n").trim_end());
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], HEADER);
    let rows: Vec<Vec<&str>> = lines[1..].iter().map(|line| line.split(',').collect()).collect();
    let firsts: Vec<[&str; 2]> = rows.iter().map(|row| [row[0], row[1]]).collect();
    assert_eq!(firsts, [["0", ""], ["2", "0"], ["3", "1"]]);
    assert_eq!((rows[0][10], rows[0][11]), ("finetune/from-scratch", "linprobe/from-scratch"));
    assert_eq!((rows[1][10], rows[1][11]), ("finetune/from-0002", ""));
    assert_eq!((rows[1][6], rows[0][9]), ("", ""));
    for cell in [rows[2][2], rows[2][3], rows[2][6]] {
        assert_eq!(cell.split_once('.').unwrap().1.len(), 2, "{cell}: percent with two decimals");
    }
    let run = bench.path("runs/tiny");
    for file in [
        "recipe.toml",
        "provenance.json",
        "pretrain/epochs.csv",
        "pretrain/checkpoints/epoch-0002/model.safetensors",
        "pretrain/checkpoints/epoch-0003/meta.json",
        "finetune/from-0003/epochs.csv",
        "finetune/from-0003/checkpoints/epoch-0002/model.safetensors",
        "linprobe/from-0003/checkpoints/epoch-0002/model.safetensors",
    ] {
        assert!(run.join(file).is_file(), "{file}");
    }
    assert!(!run.join("pretrain/resume.safetensors").exists());
    assert!(!run.join("pretrain/checkpoints/epoch-0001").exists());
    let before = results(&run);
    let again = bench.mae(&["run", "r.toml"]);
    assert!(
        String::from_utf8_lossy(&again.stderr).contains("finetune/from-0003: already finished")
    );
    assert_eq!(results(&run), before);
    assert_eq!(bench.done(&["run", "runs/tiny/recipe.toml", "--runs", "other"]), stdout);
    assert_eq!(results(&bench.path("other/tiny")), before);
}

#[test]
fn a_changed_recipe_under_the_same_name_is_refused_until_fresh() {
    let bench = Bench::new(TINY);
    bench.done(&["run", "r.toml", "--stage", "pretrain"]);
    let before = results(&bench.path("runs/tiny"));
    let set = ["run", "r.toml", "--stage", "pretrain", "--set", "pretrain.mask_ratio=0.5"];
    let refused = bench.refused(&set, 2);
    assert!(refused.contains("pretrain.mask_ratio: was 0.75, now 0.5"), "{refused}");
    assert_eq!(results(&bench.path("runs/tiny")), before);
    // Adding a stage keeps the results of the others; a removed stage is listed in one line.
    let recipe = bench.read("r.toml");
    let pretraining = recipe.split("[finetune]").next().unwrap();
    mae::durable::write(&bench.path("p.toml"), pretraining.as_bytes()).unwrap();
    bench.done(&["run", "p.toml", "--runs", "staged"]);
    bench.done(&["run", "r.toml", "--runs", "staged"]);
    assert!(bench.read("staged/tiny/accuracy.csv").contains("linprobe/from-0003"));
    let refused = bench.refused(&["run", "p.toml", "--runs", "staged"], 2);
    assert!(
        refused.contains("\n  finetune: was set, now not set\n  linprobe: was set"),
        "{refused}"
    );
    // A run of an older version, whose recipe lacks a key, continues.
    let written = bench.read("runs/tiny/recipe.toml");
    let older = written.replace("norm_eps = 1e-6\n", "");
    assert_ne!(older, written);
    mae::durable::write(&bench.path("runs/tiny/recipe.toml"), older.as_bytes()).unwrap();
    bench.done(&["run", "r.toml", "--stage", "pretrain"]);
    // Threads and gradient checkpointing are not part of a run's identity.
    for setting in ["runtime.threads=1", "runtime.gradient_checkpointing=true"] {
        bench.done(&["run", "r.toml", "--stage", "pretrain", "--set", setting]);
    }
    bench.done(&[&set[..], &["--fresh"]].concat());
    assert!(bench.read("runs/tiny/recipe.toml").contains("mask_ratio = 0.5"));
}

#[test]
fn a_folder_that_is_no_run_is_left_as_it_is() {
    let bench = Bench::new(TINY);
    let theirs = bench.path("runs/tiny/chapter.tex");
    fs::create_dir_all(theirs.parent().unwrap()).unwrap();
    mae::durable::write(&theirs, b"important").unwrap();
    for more in [&[][..], &["--fresh"]] {
        let refused = bench.refused(&[&["run", "r.toml"], more].concat(), 2);
        assert!(
            refused.contains("the folder contains files, but no `mae-manifest.jsonl`"),
            "{refused}"
        );
        assert_eq!(fs::read_dir(bench.path("runs/tiny")).unwrap().count(), 1);
    }
}

#[test]
fn a_fresh_start_does_not_remove_what_it_starts_from() {
    let bench = Bench::new(TINY);
    bench.done(&["run", "r.toml", "--stage", "pretrain"]);
    let checkpoint = "runs/tiny/pretrain/checkpoints/epoch-0003";
    let pretraining = TINY.find("[pretrain]").unwrap()..TINY.find("[finetune]").unwrap();
    let recipe = TINY.replace(&TINY[pretraining], "");
    let recipe = recipe.replace("\"checkpoints\"", &format!("{checkpoint:?}"));
    let recipe = recipe.replace("\"last\"", &format!("{checkpoint:?}"));
    mae::durable::write(&bench.path("f.toml"), recipe.as_bytes()).unwrap();
    let refused = bench.refused(&["run", "f.toml", "--fresh"], 2);
    assert!(refused.contains("`--fresh` would move runs/tiny/pretrain/checkpoints"), "{refused}");
    assert!(bench.path(checkpoint).is_dir());
}

#[test]
fn a_table_without_its_last_rows_is_an_error_and_its_job_can_be_repeated() {
    let bench = Bench::new(TINY);
    bench.done(&["run", "r.toml"]);
    let table = "runs/tiny/finetune/from-0003/epochs.csv";
    let (accuracy, rows) = (bench.read("runs/tiny/accuracy.csv"), bench.read(table));
    let lines: Vec<&str> = rows.lines().collect();
    for (left, problem) in [
        (lines[..2].join("\n"), "the file ends with epoch 1, but the job has finished epoch 2"),
        (lines[0].to_owned(), "the file ends with epoch 0"),
        ([lines[0], lines[2], lines[1]].join("\n"), "epoch 1 follows epoch 2"),
    ] {
        mae::durable::write(&bench.path(table), format!("{left}\n").as_bytes()).unwrap();
        let refused = bench.refused(&["run", "r.toml"], 2);
        assert!(
            refused.contains(problem)
                && refused.contains("or remove runs/tiny/finetune/from-0003 to repeat the job"),
            "{refused}"
        );
    }
    fs::remove_dir_all(bench.path("runs/tiny/finetune/from-0003")).unwrap();
    bench.done(&["run", "r.toml"]);
    assert_eq!(bench.read("runs/tiny/accuracy.csv"), accuracy);
}

#[test]
fn data_that_changed_under_a_run_is_refused() {
    let recipe = TINY.replace(
        "format = \"digits\"",
        "format = \"imagefolder\"\npath = \"pictures\"\nin_chans = 1",
    );
    let pretraining = recipe.split("[finetune]").next().unwrap();
    let bench = Bench::new(pretraining);
    for i in 0..200u32 {
        let path = bench.path(&format!("pictures/train/{}/{i:02}.png", i % 2));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::GrayImage::from_pixel(8, 8, image::Luma([i as u8])).save(path).unwrap();
    }
    bench.done(&["run", "r.toml"]);
    bench.done(&["run", "r.toml"]);
    fs::copy(bench.path("pictures/train/0/00.png"), bench.path("pictures/train/1/00.png")).unwrap();
    let refused = bench.refused(&["run", "r.toml"], 2);
    assert!(refused.contains("the data has changed since this run started"), "{refused}");
    bench.done(&["run", "r.toml", "--fresh"]);
}

#[test]
fn a_plan_warns_that_a_run_would_be_refused() {
    let bench = Bench::new(TINY);
    bench.done(&["run", "r.toml", "--stage", "pretrain"]);
    let output = bench.mae(&["plan", "r.toml", "--set", "pretrain.mask_ratio=0.5"]);
    let warning = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && warning.contains("`mae run` would fail now"), "{warning}");
    assert!(warning.contains("pretrain.mask_ratio: was 0.75, now 0.5"), "{warning}");
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let bench = Bench::new(TINY);
    bench.done(&["run", "r.toml", "--runs", "one", "--set", "runtime.threads=1"]);
    bench.done(&[
        "run",
        "r.toml",
        "--runs",
        "three",
        "--set",
        "runtime.threads=3",
        "--set",
        "data.workers=2",
    ]);
    assert_eq!(without_recipe(&bench, "one"), without_recipe(&bench, "three"));
}

#[test]
fn gradient_checkpointing_changes_no_byte() {
    let bench = Bench::new(TINY);
    bench.done(&["run", "r.toml", "--runs", "kept"]);
    let set = ["--set", "runtime.gradient_checkpointing=true"];
    bench.done(&[&["run", "r.toml", "--runs", "recomputed"], &set[..]].concat());
    assert!(bench.read("recomputed/tiny/recipe.toml").contains("gradient_checkpointing = true"));
    assert_eq!(without_recipe(&bench, "kept"), without_recipe(&bench, "recomputed"));
}

/// Returns the results of a run without `recipe.toml`, which contains settings that do not change the results.
fn without_recipe(bench: &Bench, runs: &str) -> Vec<(String, Vec<u8>)> {
    let mut all = results(&bench.path(runs).join("tiny"));
    all.retain(|(name, _)| name != "recipe.toml");
    all
}

#[test]
fn two_programs_do_not_work_in_one_run() {
    let bench = Bench::new(TINY);
    fs::create_dir_all(bench.path("runs/tiny")).unwrap();
    let _held = mae::durable::Lock::take(&bench.path("runs/tiny")).unwrap();
    let refused = bench.refused(&["run", "r.toml"], 2);
    assert!(refused.contains("another process is working in this run"), "{refused}");
    // Windows does not lock folders, but there an open file cannot be removed either.
    if cfg!(unix) {
        fs::remove_file(bench.path("runs/tiny/.lock")).unwrap();
        let refused = bench.refused(&["run", "r.toml"], 2);
        assert!(refused.contains("another process is working in this run"), "{refused}");
    }
}

#[test]
fn a_picture_that_an_earlier_start_could_not_write_is_drawn_by_the_next_one() {
    let bench = Bench::new(TINY);
    bench.done(&["run", "r.toml", "--stage", "pretrain"]);
    let picture = bench.path("runs/tiny/pretrain/reconstructions/epoch-0002.png");
    let before = fs::read(&picture).unwrap();
    fs::remove_file(&picture).unwrap();
    let log =
        String::from_utf8(bench.mae(&["run", "r.toml", "--stage", "pretrain"]).stderr).unwrap();
    assert!(log.contains("wrote the missing picture"), "{log}");
    assert_eq!(fs::read(&picture).unwrap(), before);
}

#[test]
fn a_sweep_has_a_run_for_each_point_and_one_table_over_all() {
    let sweep = format!("{TINY}\n[sweep]\n\"pretrain.mask_ratio\" = [0.5, 0.75]\n");
    let bench = Bench::new(&sweep);
    bench.done(&["run", "r.toml"]);
    let table = bench.read("runs/tiny/accuracy.csv");
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], format!("pretrain.mask_ratio,{HEADER}"));
    assert_eq!(lines.len(), 1 + 2 * 3);
    assert!(lines[1].starts_with("0.5,0,,"), "{}", lines[1]);
    assert!(lines[6].ends_with("pretrain.mask_ratio=0.75/linprobe/from-0003"), "{}", lines[6]);
    assert!(bench.path("runs/tiny/pretrain.mask_ratio=0.5/accuracy.csv").is_file());
}
