//! `mae compare`: settings that differ, accuracies side by side, and differences that may be chance.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use super::program::{Bench, TINY};
use std::fs;
use std::path::Path;

const HEADER: &str = "pretrain_epoch,annealed,finetune_top1,finetune_top5,finetune_best_top1,\
    finetune_best_epoch,linprobe_top1,linprobe_top5,linprobe_best_top1,pretrain_loss,finetune_run,linprobe_run";
const VIT_B: &str = "[model]\npatch_size = 16\nembed_dim = 768\ndepth = 12\nnum_heads = 12\n";

fn put(path: &Path, text: &str) {
    mae::durable::write(path, text.as_bytes()).unwrap();
}

/// Writes a finished run of ViT-B on ImageNet. Its rows are (epoch, annealed, fine-tuning, linear probe).
fn run(bench: &Bench, name: &str, ratio: f64, seed: u64, rows: &[(&str, &str, &str, &str)]) {
    let folder = bench.path(&format!("runs/{name}"));
    let recipe = format!(
        "name = \"{name}\"\nseed = {seed}\n[data]\nformat = \"imagefolder\"\nval_images = 50000\n{VIT_B}\
        [pretrain]\nepochs = 1600\nmask_ratio = {ratio:?}\n[finetune]\nepochs = 100\n"
    );
    put(&folder.join("recipe.toml"), &recipe);
    let provenance = format!(
        "{{\"version\": \"0.1.0\", \"commit\": \"\", \"command_line\": [], \"device\": \"cpu\", \"devices\": 1, \
        \"precision\": \"fp32\", \"threads\": 2, \"seed\": {seed}, \"data_fingerprint\": \"f\", \
        \"started_unix_s\": 1, \"finished_unix_s\": 2}}"
    );
    put(&folder.join("provenance.json"), &provenance);
    let line = |(epoch, annealed, finetune, probe): &(&str, &str, &str, &str)| {
        format!("{epoch},{annealed},{finetune},,,,{probe},,,,finetune/from-{epoch},\r\n")
    };
    let table: Vec<String> = rows.iter().map(line).collect();
    put(&folder.join("accuracy.csv"), &format!("{HEADER}\r\n{}", table.concat()));
    put(
        &folder.join("pretrain/epochs.csv"),
        "epoch,lr,train_loss,grad_norm,images_per_s,seconds,data_wait_s\n1,0.1,0.5,1,1,1,0\n2,0.1,0.4,1,1,1,0\n",
    );
}

/// Writes two runs that differ in their mask ratio.
fn two() -> Bench {
    let bench = Bench::new(TINY);
    run(
        &bench,
        "mr75",
        0.75,
        0,
        &[("800", "0", "82.40", "65.00"), ("1600", "1", "83.50", "68.00")],
    );
    run(&bench, "mr50", 0.5, 0, &[("800", "0", "82.82", "64.90"), ("1600", "1", "83.60", "")]);
    bench
}

#[test]
fn two_runs_are_compared_with_their_differences_and_the_noise() {
    let bench = two();
    insta::assert_snapshot!(bench.done(&["compare", "runs/mr75", "runs/mr50"]), @r"
    runs
      [1]  mr75  runs/mr75
      [2]  mr50  runs/mr50

    settings that differ
                           [1] mr75  [2] mr50
      pretrain.mask_ratio  0.75      0.5

    fine-tuning: top-1 accuracy in %, difference to run [1] in points
      pretrain_epoch  annealed  [1] mr75  [2] mr50
       800            0         82.40     82.82 +0.42 ~
      1600            1         83.50     83.60 +0.10 ~

    linear probe: top-1 accuracy in %, difference to run [1] in points
      pretrain_epoch  annealed  [1] mr75  [2] mr50
       800            0         65.00     64.90 -0.10 ~
      1600            1         68.00

    ~ the difference is within the noise, so it may be chance. For two single runs, the noise is two standard errors on
      50000 validation images: 2 sqrt(p1 (1 - p1)/50000 + p2 (1 - p2)/50000). Here the noise is up to 0.60 points. For a
      single run, the noise is at least 0.2 points: ViT-B on ImageNet varies by 0.05 to 0.08 points between seeds. Results
      on small data vary by whole points.
    ");
}

#[test]
fn published_figures_of_the_same_model_are_shown() {
    let bench = two();
    let text = bench.done(&[
        "compare",
        "runs/mr75",
        "--published",
        "mae-paddle",
        "--published",
        "mmpretrain",
    ]);
    let row = |epoch: &str, annealed: &str| {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut lines = text.lines().map(words);
        lines.find(|line| line.starts_with(&format!("{epoch} {annealed} "))).unwrap()
    };
    assert_eq!(row("800", "0"), "800 0 82.40 82.44 +0.04 ~");
    // The 800 epochs of mmpretrain are a complete schedule.
    assert_eq!(row("800", "1"), "800 1 83.30");
    assert!(
        text.contains(
            "Pre-training epoch 800: some checkpoints are from the middle of a longer schedule"
        ),
        "{text}"
    );
    assert!(text.contains("of other models (5 rows)") && !text.contains("vit_large"), "{text}");
    let recipe = bench.read("runs/mr50/recipe.toml").replace("depth = 12", "depth = 11");
    put(&bench.path("runs/mr50/recipe.toml"), &recipe);
    let text = bench.done(&["compare", "runs/mr50", "--published", "mae-paper"]);
    assert!(text.contains("of other models (82 rows)"), "{text}");
    let error = bench.refused(&["compare", "runs/mr75", "--published", "mae-padle"], 2);
    assert!(error.contains("mae-official, mae-paddle, mae-paper, mmpretrain"), "{error}");
    assert!(error.contains("did you mean `mae-paddle`?"), "{error}");
}

#[test]
fn runs_that_differ_only_in_their_seed_form_one_column() {
    let bench = two();
    for (seed, top1) in [(1, "83.40"), (2, "83.60")] {
        run(&bench, &format!("mr75_s{seed}"), 0.75, seed, &[("1600", "1", top1, "")]);
    }
    // `compare` expands the pattern, since no shell does.
    let text = bench.done(&["compare", "runs/mr75*", "runs/mr50", "--csv", "c.csv"]);
    assert!(text.contains("seeds 0 1 2") && text.contains("83.50 ±0.10 (3)"), "{text}");
    assert!(text.contains("sqrt(s1²/n1 + s2²/n2), with n seeds"), "{text}");
    let table = rows(&bench.read("c.csv"));
    let last = table.last().unwrap();
    let cell = |row: &Vec<String>, name: &str| row[column(&table, name)].clone();
    assert_eq!(cell(last, "finetune_top1_diff"), "0.1");
    let first = &table[2];
    assert_eq!((cell(first, "run"), cell(first, "pretrain_epoch")), ("mr75".into(), "1600".into()));
    let seeds =
        ["mean", "spread", "runs"].map(|what| cell(first, &format!("finetune_top1_{what}")));
    assert_eq!(seeds, ["83.5", "0.1", "3"]);
}

#[test]
fn many_runs_are_shown_as_rows() {
    let bench = two();
    for ratio in [0.1, 0.2, 0.3] {
        run(&bench, &format!("mr{ratio}"), ratio, 0, &[("1600", "1", "80.00", "")]);
    }
    let text = bench.done(&["compare", "runs"]);
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    let row = text.lines().filter(|line| line.trim().starts_with("[1] mr0.1")).collect::<Vec<_>>();
    assert!(row[0].ends_with("0.1") && row[1].ends_with("80.00"), "{text}");
}

#[test]
fn the_tidy_table_has_a_row_for_each_run_and_epoch() {
    let bench = two();
    bench.done(&[
        "compare",
        "runs/mr75",
        "runs/mr50",
        "--csv",
        "c.csv",
        "--published",
        "mae-paddle",
    ]);
    let text = bench.read("c.csv");
    let header = format!(
        "run,pretrain.mask_ratio,{HEADER},finetune_top1_diff,linprobe_top1_diff,finetune_top1_mean,\
        finetune_top1_spread,finetune_top1_runs,linprobe_top1_mean,linprobe_top1_spread,linprobe_top1_runs,\
        model,variant,value,source\r\n"
    );
    assert!(text.starts_with(&header), "{text}");
    let table = rows(&text);
    assert_eq!(table.len(), 1 + 2 + 2 + 7);
    let diffs: Vec<&str> =
        table[1..6].iter().map(|row| row[column(&table, "finetune_top1_diff")].as_str()).collect();
    assert_eq!(diffs, ["", "", "0.42", "0.1", "0.04"]);
    assert_eq!(table[3][1], "0.5");
    assert_eq!(table[5][column(&table, "model")], "vit_base_patch16");
}

#[test]
fn the_workbook_has_all_sheets_and_charts() {
    let bench = two();
    bench.done(&["compare", "runs/mr75", "runs/mr50", "--xlsx", "c.xlsx"]);
    let bytes = fs::read(bench.path("c.xlsx")).unwrap();
    assert!(bytes.starts_with(b"PK"));
    let holds = |name: &str| bytes.windows(name.len()).any(|window| window == name.as_bytes());
    // Sheets: summary, differences, and two pre-trainings. Charts: two accuracies and two losses.
    for part in ["xl/worksheets/sheet4.xml", "xl/charts/chart4.xml"] {
        assert!(holds(part), "{part}");
    }
    assert!(!holds("xl/worksheets/sheet5.xml") && !holds("xl/charts/chart5.xml"));
}

#[test]
fn unfinished_runs_and_logs_of_the_official_code_can_be_compared() {
    let bench = two();
    fs::remove_file(bench.path("runs/mr50/provenance.json")).unwrap();
    fs::remove_file(bench.path("runs/mr50/accuracy.csv")).unwrap();
    let line = |epoch: usize, top1: f64| {
        format!(
            "{{\"train_lr\": 1e-4, \"train_loss\": 2.5, \"test_loss\": 0.7, \"test_acc1\": {top1}, \"test_acc5\": 96.5, \
            \"epoch\": {epoch}, \"n_parameters\": 86567656}}\n"
        )
    };
    put(&bench.path("a/log.txt"), &[line(98, 83.7), line(99, 83.664)].concat());
    put(&bench.path("b/log.txt"), &[line(98, 83.5), line(99, 83.4)].concat());
    let text = bench.done(&["compare", "runs/mr75", "runs/mr50"]);
    assert!(text.contains("not finished"), "{text}");
    let text = bench.done(&["compare", "a/log.txt", "b/log.txt", "--csv", "c.csv"]);
    assert!(text.contains("83.66") && text.contains("83.40 -0.26"), "{text}");
    assert!(
        bench.read("c.csv").contains("a/log.txt,,,83.66,96.50,83.70,99,"),
        "{}",
        bench.read("c.csv")
    );
    // An output folder, an incomplete last line, and Python's NaN.
    let unfinished = line(0, 1.0) + &line(1, 2.0).replace("2.5", "NaN") + "{\"train_lr\": 1e";
    put(&bench.path("b/log.txt"), &unfinished);
    let text = bench.done(&["compare", "a", "b"]);
    assert!(text.contains("83.66") && text.contains("2.00 -81.66"), "{text}");
    put(&bench.path("b/log.txt"), &(line(0, 1.0) + "Not a number\n"));
    let error = bench.refused(&["compare", "a/log.txt", "b/log.txt"], 2);
    assert!(error.contains("b/log.txt:2: not JSON") && error.contains("hint:"), "{error}");
}

#[test]
fn tables_and_logs_are_read_as_other_programs_save_them() {
    let bench = two();
    let log = |line_end: &str| {
        let line = |epoch: usize| match epoch % 5 {
            4 => format!("\"test_acc1\": {}.5, \"epoch\": {epoch}}}{line_end}", 80 + epoch / 2),
            _ => format!("\"epoch\": {epoch}}}{line_end}"),
        };
        let lines = (0..12).map(|epoch| format!("{{\"train_loss\": NaN, {}", line(epoch)));
        format!("\u{feff}{}", lines.collect::<String>())
    };
    put(&bench.path("every_5.txt"), &log("\n"));
    let utf16: Vec<u8> = log("\r\n").encode_utf16().flat_map(u16::to_le_bytes).collect();
    mae::durable::write(&bench.path("utf16.txt"), &utf16).unwrap();
    put(
        &bench.path("german.csv"),
        "sep=;\r\npretrain_epoch;annealed;finetune_top1;;\r\n1600;1;84,1;;\r\n;;;;\r\n",
    );
    let text = bench.done(&["compare", "runs/mr75", "german.csv", "every_5.txt", "utf16.txt"]);
    assert!(text.contains("84.10 +0.60"), "{text}");
    assert_eq!(text.matches("84.50").count(), 2, "{text}");
    assert!(
        text.contains("[3]: the last accuracy is from epoch 10 of 12; the training loss is NaN"),
        "{text}"
    );
    bench.done(&["compare", "every_5.txt", "utf16.txt", "--csv", "c.csv"]);
    assert!(
        bench.read("c.csv").contains("every_5.txt,,,84.50,,84.50,10,"),
        "{}",
        bench.read("c.csv")
    );
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a user edits the table in place")]
fn the_table_of_a_run_is_checked_when_it_is_named_itself() {
    let bench = two();
    mae::durable::Manifest::create(&bench.path("runs/mr75"), "mr75").unwrap();
    let table = bench.read("runs/mr75/accuracy.csv");
    fs::remove_file(bench.path("runs/mr75/accuracy.csv")).unwrap();
    put(&bench.path("runs/mr75/accuracy.csv"), &table);
    bench.done(&["compare", "runs/mr75/accuracy.csv", "runs/mr50"]);
    fs::write(bench.path("runs/mr75/accuracy.csv"), table.replace("83.50", "85.50")).unwrap();
    for argument in ["runs/mr75", "runs/mr75/accuracy.csv"] {
        let error = bench.refused(&["compare", argument, "runs/mr50"], 2);
        assert!(error.contains("accuracy.csv: the checksum of the file differs"), "{error}");
    }
    // A copy outside the run folder is the user's own table.
    put(&bench.path("mine.csv"), &table.replace("83.50", "85.50"));
    assert!(bench.done(&["compare", "mine.csv", "runs/mr50"]).contains("85.50"));
}

#[test]
fn runs_with_the_same_name_are_shown_with_their_paths() {
    let bench = two();
    for file in ["recipe.toml", "accuracy.csv"] {
        let text = bench.read(&format!("runs/mr75/{file}"));
        put(&bench.path("other/mr75").join(file), &text);
    }
    let text = bench.done(&["compare", "runs/mr75", "other/mr75"]);
    assert!(text.contains("[1] runs/mr75") && text.contains("[2] other/mr75"), "{text}");
}

#[test]
fn arguments_that_cannot_be_compared_fail_with_a_hint() {
    let bench = two();
    put(&bench.path("broken.csv"), "pretrain_epoch,finetune_top1\r\n800,83.3\r\n1600\r\n");
    put(&bench.path("empty.csv"), "pretrain_epoch,finetune_top1\r\n");
    for (args, expected) in [
        (&["runs/mr75"][..], "cannot compare a single run"),
        (&["runs/mr75", "runs/mr75"], "cannot compare a single run"),
        (&["runs/mr75", "mr50"], "did you mean runs/mr50?"),
        (&["runs/mr75", "nowhere"], "nowhere: no such folder or file"),
        (&["runs/mr75", "runs/x*"], "cannot find a run that matches runs/x*"),
        (&["runs/mr75", "runs/mr50/pretrain"], "cannot find a run in runs/mr50/pretrain"),
        (&["runs/mr75", "broken.csv"], "broken.csv: line 3: found 1 cells, but the header has 2"),
        (&["runs/mr75", "empty.csv"], "the table has no rows"),
        (&["runs/mr75", "runs/mr50/recipe.toml"], "not an accuracy table"),
        (
            &["runs/mr75", "runs/mr50", "--csv", "no/c.csv"],
            "the folder of this file does not exist",
        ),
        (&["runs/mr75", "runs/mr50", "--xlsx", "runs"], "the path is a folder"),
        (
            &["runs/mr75", "runs/mr50", "--csv", "runs/mr75/accuracy.csv"],
            "this file belongs to one of the compared runs",
        ),
        (&["runs/mr75", "runs/mr50", "--csv", "c", "--xlsx", "c"], "to the same file"),
    ] {
        let error = bench.refused(&[&["compare"], args].concat(), 2);
        assert!(error.contains(expected) && error.contains("hint:"), "{args:?}: {error}");
    }
    assert!(bench.read("runs/mr75/accuracy.csv").starts_with(HEADER));
    put(&bench.path("runs/mr50/accuracy.csv"), &format!("{HEADER}\r\n8,1,8x.1,,,,,,,,,\r\n"));
    let error = bench.refused(&["compare", "runs/mr75", "runs/mr50"], 2);
    assert!(error.contains("line 2: `finetune_top1` is `8x.1`"), "{error}");
}

/// `compare` knows the number of digits without reading them.
#[test]
fn compare_uses_the_right_number_of_validation_digits() {
    let bench = two();
    for (name, top1) in [("a", "95.00"), ("b", "96.00")] {
        run(&bench, name, 0.75, 0, &[("8", "1", top1, "")]);
        let recipe = bench.read(&format!("runs/{name}/recipe.toml"));
        let digits = recipe.replace("\"imagefolder\"\nval_images = 50000", "\"digits\"");
        put(&bench.path(&format!("runs/{name}/recipe.toml")), &digits);
    }
    let options =
        mae::recipe::Options { missing_data: mae::recipe::Missing::Refuse, gpus: |_| 0, hosts: 1 };
    let resolved = mae::recipe::resolve(&bench.path("r.toml"), &[], &[], &options).unwrap();
    let plan = &resolved.points[0].plan.data;
    let images = mae::data::open(plan, mae::data::Labels::Needed).unwrap().facts.val_images;
    let text = bench.done(&["compare", "runs/a", "runs/b"]);
    assert!(text.contains("96.00 +1.00 ~"), "{text}");
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains(&format!("two standard errors on {images} validation images")),
        "{text}"
    );
}

fn rows(text: &str) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
}

fn column(table: &[Vec<String>], name: &str) -> usize {
    table[0].iter().position(|head| head == name).unwrap()
}
