//! `mae report`: the page is complete, self-contained and safe to open, and marks only comparable values.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use super::program::Bench;
use mae::durable;
use std::fmt::Write as _;
use std::fs;

const COLUMNS: &str = "pretrain_epoch,annealed,finetune_top1,finetune_top5,finetune_best_top1,finetune_best_epoch,\
    linprobe_top1,linprobe_top5,linprobe_best_top1,pretrain_loss,finetune_run,linprobe_run";
const PRETRAIN: &str = "epoch,lr,train_loss,grad_norm,images_per_s,seconds,data_wait_s\n";
const CLASSIFIER: &str = "epoch,lr,train_loss,val_loss,val_acc1,val_acc5,best_acc1,best_epoch,\
    images_per_s,seconds,grad_norm,data_wait_s\n";

/// A PNG file of 1x1 pixel.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0:~\x9bU\0\0\0\nIDATx\x9cc`\0\0\0\x02\0\x01H\xaf\xa4q\0\0\0\0IEND\xaeB`\x82";

fn recipe(name: &str, sweep: &str) -> String {
    format!(
        "name = {name:?}\n[data]\nformat = \"digits\"\ninput_size = 16\n[model]\npatch_size = 4\n\
         embed_dim = 96\ndepth = 4\n[pretrain]\nepochs = 40\nmask_ratio = 0.75\nnorm_pix_loss = true\n\
         [finetune]\nepochs = 2\n[linprobe]\nepochs = 2\n{sweep}"
    )
}

fn provenance(finished: &str) -> String {
    format!(
        "{{\"version\":\"0.1.0\",\"commit\":\"c0ffee\",\"command_line\":[\"mae\",\"run\",\"a<b>.toml\"],\"device\":\"cpu\",\
         \"devices\":1,\"precision\":\"fp32\",\"threads\":2,\"seed\":0,\"data_fingerprint\":\"f00d\",\
         \"started_unix_s\":1795622081,\"finished_unix_s\":{finished}}}"
    )
}

fn put(bench: &Bench, file: &str, text: &str) {
    durable::write(&bench.path(file), text.as_bytes()).unwrap();
}

/// Returns `epochs.csv` of a pre-training.
fn pretraining(epochs: usize) -> String {
    let row = |e: usize| format!("{e},0.001,{},1.5,800.5,2.25,0.5\n", 1.0 / e as f64);
    PRETRAIN.to_owned() + &(1..=epochs).map(row).collect::<String>()
}

fn classifying(top1: f64) -> String {
    let row = |e: usize| format!("{e},0.001,2.0,1.5,{top1},99.5,{top1},{e},700.0,1.0,1.0,0.1\n");
    CLASSIFIER.to_owned() + &row(1) + &row(2)
}

/// Writes a finished run with a start from scratch and two checkpoints.
fn run(bench: &Bench, dir: &str, name: &str) {
    put(bench, &format!("{dir}/recipe.toml"), &recipe(name, ""));
    put(bench, &format!("{dir}/provenance.json"), &provenance("1795622999"));
    put(bench, &format!("{dir}/pretrain/epochs.csv"), &pretraining(40));
    let mut table = format!("{COLUMNS}\r\n");
    for (epoch, start, annealed, top1) in
        [(0, "scratch", "", 70.56), (20, "0020", "0", 93.89), (40, "0040", "1", 98.33)]
    {
        put(bench, &format!("{dir}/finetune/from-{start}/epochs.csv"), &classifying(top1));
        let loss = if epoch == 0 { String::new() } else { format!("0.{epoch}404") };
        let _ = write!(
            table,
            "{epoch},{annealed},{top1:.2},99.51,{top1:.2},2,,,,{loss},finetune/from-{start},\r\n"
        );
    }
    put(bench, &format!("{dir}/accuracy.csv"), &table);
}

/// Asserts that a page is complete and loads nothing.
fn well_formed(page: &str) {
    assert!(page.starts_with("<!doctype html>\n<html lang=\"en\">"));
    assert!(page.contains("<meta name=\"viewport\"") && page.trim_end().ends_with("</html>"));
    for loads in ["<script", "<link", "@import", "url(", "src=\"http", "href=", "<iframe"] {
        assert!(!page.contains(loads), "the page would load or run something: {loads}");
    }
    for src in page.split("src=\"").skip(1) {
        assert!(src.starts_with("data:image/png;base64,"), "{}", &src[..40]);
    }
    for tag in
        ["section", "table", "thead", "tbody", "tr", "svg", "figure", "details", "div", "ul", "p"]
    {
        let (opened, closed) = (
            page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count(),
            page.matches(&format!("</{tag}>")).count(),
        );
        assert_eq!(opened, closed, "<{tag}>");
    }
    let charts = page.matches("role=\"img\"").count();
    assert_eq!(page.matches("<title id=").count(), charts, "every chart has a title");
    let mut ids: Vec<&str> =
        page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "an id appears twice");
    assert!(!page.contains("NaN") && !page.contains("inf\""), "NaN or infinity");
}

#[test]
fn a_report_has_every_value_of_the_table_and_loads_nothing() {
    let bench = Bench::new("");
    run(&bench, "runs/digits", "digits");
    durable::write(&bench.path("runs/digits/pretrain/reconstructions/epoch-0040.png"), PNG)
        .unwrap();
    assert_eq!(bench.done(&["report", "runs/digits"]).trim(), "runs/digits/report.html");
    let page = bench.read("runs/digits/report.html");
    well_formed(&page);
    let table = bench.read("runs/digits/accuracy.csv");
    for row in table.lines().skip(1) {
        for figure in row.split(',').take(10).filter(|cell| cell.contains('.')) {
            let cell = format!(">{figure}</td>");
            assert!(page.contains(&cell), "{figure} is not in the page's table");
        }
    }
    for expected in [
        "<h1>digits</h1>",
        "mask ratio 0.75",
        "started 2026-11-25 15:54 UTC, finished 2026-11-25 16:09 UTC",
        "mid-schedule",
        "Do not compare such a row with the end of a schedule",
        "<td class=\"best\"><span>★</span>98.33</td>",
        "scratch: 70.56.",
        "data:image/png;base64,iVBORw0KGgo",
        "the brightness and contrast of the picture are not predictions",
        "mask_ratio = 0.75",
        "mae run runs/digits/recipe.toml",
        "c0ffee",
    ] {
        assert!(page.contains(expected), "{expected} is missing");
    }
    // Rows from the middle of a schedule have their own best value.
    assert!(page.contains("<span>★</span>93.89"), "the best row from the middle is not marked");
    fs::create_dir(bench.path("elsewhere")).unwrap();
    bench.done(&["report", "runs/digits", "-o", "elsewhere/page.html"]);
    assert_eq!(bench.read("elsewhere/page.html"), page);
}

#[test]
fn names_are_never_interpreted_as_markup() {
    let bench = Bench::new("");
    run(&bench, "runs/a<b>&c", "<script>alert(1)</script> & \"co\"");
    bench.done(&["report", "runs/a<b>&c", "-o", "page.html"]);
    let page = bench.read("page.html");
    well_formed(&page);
    assert!(page.contains("<h1>&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;co&quot;</h1>"));
    assert!(page.contains("mae run &#39;runs/a&lt;b&gt;&amp;c/recipe.toml&#39; --runs again"));
    assert!(page.contains("a&lt;b&gt;.toml"), "the command line of the provenance");
}

#[test]
fn an_unfinished_run_can_be_reported() {
    let bench = Bench::new("");
    put(&bench, "runs/r/recipe.toml", &recipe("r", ""));
    bench.done(&["report", "runs/r"]);
    let page = bench.read("runs/r/report.html");
    well_formed(&page);
    assert!(page.contains("not started") && page.contains("No accuracies yet."));
    assert!(!page.contains("Reconstructions") && !page.contains("<figure>"));
    put(&bench, "runs/r/provenance.json", &provenance("null"));
    put(&bench, "runs/r/pretrain/epochs.csv", &pretraining(1));
    bench.done(&["report", "runs/r"]);
    let page = bench.read("runs/r/report.html");
    well_formed(&page);
    assert!(page.contains("stopped early") && page.contains("pretrain: epoch 1 of 40"));
    assert!(page.contains("<circle"), "a line with a single epoch is a dot");
    let _held = durable::Lock::take(&bench.path("runs/r")).unwrap();
    bench.done(&["report", "runs/r"]);
    assert!(bench.read("runs/r/report.html").contains(">running</span>"));
}

#[test]
fn a_page_stays_small_with_thousands_of_epochs() {
    let bench = Bench::new("");
    run(&bench, "runs/long", "long");
    put(&bench, "runs/long/pretrain/epochs.csv", &pretraining(5000));
    bench.done(&["report", "runs/long"]);
    let page = bench.read("runs/long/report.html");
    let longest = page.split("points=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let longest = longest.map(|points| points.split_whitespace().count()).max();
    assert!(longest.is_some_and(|longest| (300..=400).contains(&longest)), "{longest:?} points");
    assert!(page.len() < 200_000, "{} bytes", page.len());
}

/// Writes a sweep of two mask ratios and three seeds. Its last point failed before its first result.
fn sweep(bench: &Bench) {
    let mut table = format!("pretrain.mask_ratio,seed,{COLUMNS}\r\n");
    for (ratio, tops) in [("0.5", [90.0, 91.0, 92.0]), ("0.75", [91.0, 92.0, 93.0])] {
        for (seed, top1) in tops.into_iter().enumerate() {
            let point = format!("pretrain.mask_ratio={ratio},seed={seed}");
            let cells = format!("{ratio},{seed},40,1,{top1:.2},99.00,{top1:.2},2,,,,0.40000");
            let _ = write!(table, "{cells},\"{point}/finetune/from-0040\",\r\n");
            let dir = format!("runs/s/{point}");
            let one =
                format!("[sweep]\n\"pretrain.mask_ratio\" = [{ratio}]\n\"seed\" = [{seed}]\n");
            let resolved = recipe("s", &one)
                .replace("[data]", &format!("seed = {seed}\n[data]"))
                .replace("mask_ratio = 0.75", &format!("mask_ratio = {ratio}"));
            put(bench, &format!("{dir}/recipe.toml"), &resolved);
            put(bench, &format!("{dir}/provenance.json"), &provenance("null"));
            if (ratio, seed) == ("0.75", 2) {
                continue;
            }
            put(bench, &format!("{dir}/provenance.json"), &provenance("1795622999"));
            put(bench, &format!("{dir}/pretrain/epochs.csv"), &pretraining(40));
            put(bench, &format!("{dir}/finetune/from-0040/epochs.csv"), &classifying(top1));
            let own = format!(
                "pretrain.mask_ratio,seed,{COLUMNS},knn_top1,shifted_top1\r\n{cells},finetune/from-0040,,{},{}\r\n",
                top1 - 30.0,
                top1 - 70.0
            );
            put(bench, &format!("{dir}/accuracy.csv"), &own);
        }
    }
    table += "0.9,0,40,1,,,,,,,,,x/finetune/from-0040,\r\n";
    put(bench, "runs/s/accuracy.csv", &table);
}

#[test]
fn a_sweep_shows_means_over_seeds() {
    let bench = Bench::new("");
    sweep(&bench);
    bench.done(&["report", "runs/s"]);
    let page = bench.read("runs/s/report.html");
    well_formed(&page);
    for expected in [
        "5 of 7 points done",
        "<b>mask_ratio 0.75, seed 2</b>: <span class=\"badge open\">stopped early</span>",
        "1 point not started",
        "swept: pretrain.mask_ratio = 0.5, 0.75",
        // 91 and 91.5 over three and two seeds are within the noise.
        "<span>≈</span>91.00 ± 1.00",
        "<span>★</span>91.50 ± 0.71",
        "within the noise",
        "kNN top-1 %</th>",
        "<span>★</span>61.50 ± 0.71",
        "shifted top-1 %</th>",
        "<td>21.50 ± 0.71</td>",
        "All runs, 5 rows",
        "top-1 against mask_ratio",
        "Lines are means over up to 3 seeds",
    ] {
        assert!(page.contains(expected), "{expected} is missing");
    }
    assert!(!page.contains("<span>★</span>92.00"), "the best single seed is not marked");
}

#[test]
fn published_figures_are_shown_for_the_same_model_and_data() {
    let bench = Bench::new("");
    run(&bench, "runs/digits", "digits");
    bench.done(&["report", "runs/digits"]);
    assert!(!bench.read("runs/digits/report.html").contains("mae-paddle"));
    bench.done(&["report", "runs/digits", "--published", "mae-paddle"]);
    let page = bench.read("runs/digits/report.html");
    well_formed(&page);
    assert!(page.contains("mae-paddle, vit_base_patch16: from 82.44 at"));
    let base = bench
        .read("runs/digits/recipe.toml")
        .replace("format = \"digits\"", "format = \"imagefolder\"\nnum_classes = 1000");
    let base = base.replace("[model]", "[model]\nsize = \"vit_base_patch16\"");
    put(&bench, "runs/digits/recipe.toml", &base);
    bench.done(&["report", "runs/digits"]);
    assert!(bench.read("runs/digits/report.html").contains("<i class=\"x\""));
    let refused = bench.refused(&["report", "runs/digits", "--published", "nobody"], 2);
    assert!(refused.contains("mae-paddle"), "{refused}");
}

#[test]
fn errors_name_missing_runs_and_damaged_files() {
    let bench = Bench::new("");
    fs::create_dir_all(bench.path("runs/empty")).unwrap();
    for no_run in ["runs/empty", "runs/nowhere", "r.toml"] {
        let refused = bench.refused(&["report", no_run], 2);
        assert!(
            refused.starts_with(&format!("error: cannot find a run in {no_run}: ")),
            "{refused}"
        );
        assert!(refused.contains("hint:"), "{refused}");
    }
    run(&bench, "runs/digits", "digits");
    for (file, text) in [
        ("pretrain/epochs.csv", format!("{PRETRAIN}1,0.001,0.5\n")),
        ("finetune/from-0020/epochs.csv", format!("{CLASSIFIER}1,x,0.5\n")),
        ("accuracy.csv", "epoch,top1\r\n".to_owned()),
        ("provenance.json", "{".to_owned()),
        ("recipe.toml", "name = ".to_owned()),
    ] {
        let before = bench.read(&format!("runs/digits/{file}"));
        put(&bench, &format!("runs/digits/{file}"), &text);
        let refused = bench.refused(&["report", "runs/digits"], 2);
        assert!(refused.contains(&format!("runs/digits/{file}")), "{file}: {refused}");
        put(&bench, &format!("runs/digits/{file}"), &before);
    }
    assert!(!bench.path("runs/digits/report.html").exists());
}
