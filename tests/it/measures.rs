//! Measurements without training: features, nearest neighbours, other test sets, results of each class.

#![expect(clippy::unwrap_used, reason = "an error in a helper is a failed test")]

use super::program::{Bench, TINY, own_pictures, save_pictures};
use mae::infer::{Features, Knn, StopFlag};
use safetensors::SafeTensors;
use std::fs;

const LAST: &str = "runs/tiny/pretrain/checkpoints/epoch-0003";
const FINETUNED: &str = "runs/tiny/finetune/from-0003/checkpoints/epoch-0002";

/// Returns the values and the shape of a tensor of floats.
fn floats(bytes: &[u8], name: &str) -> (Vec<f32>, Vec<usize>) {
    let tensors = SafeTensors::deserialize(bytes).unwrap();
    let tensor = tensors.tensor(name).unwrap();
    let values = tensor.data().chunks_exact(4);
    let values = values.map(|four| f32::from_le_bytes(four.try_into().unwrap()));
    (values.collect(), tensor.shape().to_vec())
}

fn labels(bytes: &[u8], name: &str) -> Vec<u32> {
    let tensors = SafeTensors::deserialize(bytes).unwrap();
    let eight = tensors.tensor(name).unwrap().data().chunks_exact(8).map(<[u8]>::to_vec);
    eight.map(|eight| i64::from_le_bytes(eight.try_into().unwrap()) as u32).collect::<Vec<_>>()
}

/// Returns the rows of a CSV file, each as its cells.
fn rows(text: &str) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
}

/// Returns the cell of a row, counted from 0 below the header, in the column `name`.
fn cell(text: &str, row: usize, name: &str) -> String {
    let rows = rows(text);
    let column = rows[0].iter().position(|head| head == name).unwrap();
    rows[row + 1][column].clone()
}

#[test]
fn votes_equal_those_of_torch() {
    let bytes =
        fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/knn/features.safetensors"));
    let bytes = bytes.unwrap();
    let split = |name: &str| Features {
        values: floats(&bytes, name).0,
        labels: labels(&bytes, &format!("{name}_labels")),
    };
    let knn = Knn { k: 20, temperature: 0.07 };
    let (device, stop) = (burn::tensor::Device::flex(), StopFlag::default());
    let measured = knn.measure(split("train"), split("val"), 16, &device, &stop).unwrap().unwrap();
    let correct = labels(&bytes, "correct");
    assert_eq!(
        [measured.top1, measured.top5].map(|percent| (percent * 2.0).round() as u32),
        correct[..]
    );
}

#[test]
fn features_are_the_same_in_every_format() {
    let bench = Bench::new(TINY);
    bench.done(&["run", "r.toml", "--stage", "pretrain"]);
    let write =
        |file: &str, more: &[&str]| bench.done(&[&["features", LAST, "-o", file], more].concat());
    assert_eq!(write("f.safetensors", &[]), "f.safetensors: 360 images of 16 features\n");
    let bytes = fs::read(bench.path("f.safetensors")).unwrap();
    let (values, shape) = floats(&bytes, "features");
    assert_eq!(shape, [360, 16]);
    let own = labels(&bytes, "labels");
    write("f.npy", &[]);
    let npy = fs::read(bench.path("f.npy")).unwrap();
    let header = String::from_utf8_lossy(&npy[10..128]);
    assert!(header.contains("'shape': (360, 16)") && npy.len() == 128 + 4 * values.len());
    let floats_of = |bytes: &[u8]| -> Vec<f32> {
        bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
    };
    assert_eq!(floats_of(&npy[128..]), values);
    let beside = bench.read("f.npy.csv");
    assert_eq!(bench.read("f.safetensors.csv"), beside);
    write("f.csv", &[]);
    let table = rows(&bench.read("f.csv"));
    assert_eq!(table[0][..5], ["image", "label", "class", "f0", "f1"]);
    for (index, row) in table[1..].iter().enumerate() {
        assert_eq!((row[1].parse(), &row[2]), (Ok(own[index]), &row[1]));
        let cells: Vec<f32> = row[3..].iter().map(|cell| cell.parse().unwrap()).collect();
        assert_eq!(cells, values[index * 16..(index + 1) * 16]);
        assert_eq!(cell(&beside, index, "label"), row[1]);
    }
    // Other layers, other poolings, the other split.
    write("tokens.npy", &["--pool", "tokens", "--split", "train"]);
    let npy = fs::read(bench.path("tokens.npy")).unwrap();
    assert!(String::from_utf8_lossy(&npy[10..128]).contains("'shape': (1437, 17, 16)"));
    write("mean.safetensors", &["--pool", "mean"]);
    write("first.safetensors", &["--layer", "1"]);
    for other in ["mean", "first"] {
        let bytes = fs::read(bench.path(&format!("{other}.safetensors"))).unwrap();
        assert!(floats(&bytes, "features").0 != values, "{other}");
    }
    // Without a parquet reader here, at least the frame of the file.
    write("f.parquet", &[]);
    let parquet = fs::read(bench.path("f.parquet")).unwrap();
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
    for (args, expected) in [
        (&["-o", "f.txt"][..], "end the file name with .safetensors, .npy, .csv or .parquet"),
        (&["-o", "f.csv", "--pool", "tokens"], "a CSV file has one row for each image"),
        (&["-o", "f.npy", "--layer", "3"], "the encoder has layers 1 to 2"),
        (&["-o", "f.npy", "nowhere.png"], "nowhere.png"),
        (&["-o", "no/f.npy"], "the folder of this file does not exist"),
    ] {
        let output = bench.mae(&[&["features", LAST], args].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(expected), "{args:?}: {error}");
    }
}

#[test]
fn features_of_named_pictures_have_their_class_folders_as_labels() {
    let bench = Bench::new(TINY);
    bench.done(&["run", "r.toml", "--stage", "pretrain"]);
    let digit = image::GrayImage::from_fn(8, 8, |x, y| image::Luma([(x * y * 5) as u8]));
    for folder in ["set/one", "set/two"] {
        fs::create_dir_all(bench.path(folder)).unwrap();
        digit.save(bench.path(folder).join("a.png")).unwrap();
    }
    bench.done(&["features", LAST, "set", "-o", "set.csv"]);
    let table = rows(&bench.read("set.csv"));
    assert_eq!(table[2][1..3], ["1", "two"]);
    assert_eq!(table[1][3..], table[2][3..], "the same picture");
    bench.done(&["features", LAST, "set/two/a.png", "set/one", "-o", "some.csv"]);
    let table = rows(&bench.read("some.csv"));
    assert_eq!((table.len(), table[0][1].as_str()), (3, "f0"));
}

#[test]
fn validation_images_of_other_classes_have_features_but_no_labels() {
    let bench = own_pictures(2, "");
    save_pictures(&bench, "own/val", &[("yak", 90)], 2);
    let recipe = bench.read("r.toml");
    let (pretrain, _) = recipe.split_once("[finetune]").unwrap();
    mae::durable::write(&bench.path("r.toml"), pretrain.as_bytes()).unwrap();
    bench.done(&["run", "r.toml"]);
    for (split, column) in [("train", "label"), ("val", "f0")] {
        let file = format!("{split}.csv");
        bench.done(&["features", LAST, "--split", split, "-o", &file]);
        assert_eq!(rows(&bench.read(&file))[0][1], column);
        bench.done(&["features", LAST, "--split", split, "-o", "f.parquet"]);
    }
}

#[test]
fn nearest_neighbours_of_a_run_equal_a_count_on_exported_features() {
    let knn = "[knn]\nk = 5\npool = \"mean\"\n";
    let bench = Bench::new(&format!("{TINY}{knn}"));
    bench.done(&["run", "r.toml"]);
    let table = bench.read("runs/tiny/accuracy.csv");
    assert!(table.lines().next().unwrap().ends_with(",linprobe_run,knn_top1"), "{table}");
    // Random weights are not measured; both kept checkpoints are.
    let cells = [0, 1, 2].map(|row| cell(&table, row, "knn_top1"));
    assert!(cells[0].is_empty() && !cells[1].is_empty() && cells[1] != cells[2], "{cells:?}");
    let told = bench.done(&["eval", LAST, "--knn", "5", "--pool", "mean"]);
    assert!(told.starts_with(&format!("kNN (k = 5): top-1 {} %", cells[2])), "{told}");
    let json = bench.done(&["eval", LAST, "--knn", "5", "--pool", "mean", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(format!("{:.2}", json["knn_top1"].as_f64().unwrap()), cells[2]);
    assert_eq!(counted(&bench, 5, 0.07), cells[2]);
    // The values are in the report, the comparison and the tables of other programs.
    bench.done(&["report", "runs/tiny"]);
    assert!(bench.read("runs/tiny/report.html").contains("k nearest neighbours: top-1"));
    fs::copy(bench.path("runs/tiny/accuracy.csv"), bench.path("copy.csv")).unwrap();
    let compared = bench.done(&["compare", "runs/tiny", "copy.csv", "--csv", "c.csv"]);
    assert!(compared.contains("k nearest neighbours: top-1 accuracy in %"), "{compared}");
    assert!(bench.read("c.csv").lines().next().unwrap().ends_with(",knn_top1"));
    // Another setting is measured anew, and the finished jobs stay as they are.
    let weights = fs::read(bench.path(&format!("{LAST}/model.safetensors"))).unwrap();
    bench.done(&["run", "r.toml", "--set", "knn.k=1"]);
    assert_eq!(fs::read(bench.path(&format!("{LAST}/model.safetensors"))).unwrap(), weights);
    assert_eq!(cell(&bench.read("runs/tiny/knn.csv"), 1, "k"), "1");
    bench.done(&["run", "r.toml"]);
    assert_eq!(bench.read("runs/tiny/accuracy.csv"), table);
    mae::durable::write(&bench.path("r.toml"), TINY.as_bytes()).unwrap();
    bench.done(&["run", "r.toml"]);
    assert!(!bench.read("runs/tiny/accuracy.csv").contains("knn_top1"));
}

/// Returns the top-1 accuracy of the votes of exported features, computed in f64.
fn counted(bench: &Bench, k: usize, temperature: f64) -> String {
    let split = |split: &str| -> (Vec<Vec<f64>>, Vec<u32>) {
        let file = format!("{split}.safetensors");
        bench.done(&["features", LAST, "--pool", "mean", "--split", split, "-o", &file]);
        let bytes = fs::read(bench.path(&file)).unwrap();
        let (values, shape) = floats(&bytes, "features");
        let unit = |vector: &[f32]| {
            let vector: Vec<f64> = vector.iter().map(|value| f64::from(*value)).collect();
            let norm = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
            vector.iter().map(|value| value / norm).collect()
        };
        (values.chunks(shape[1]).map(unit).collect(), labels(&bytes, "labels"))
    };
    let (train, train_labels) = split("train");
    let (val, val_labels) = split("val");
    let mut correct = 0;
    for (query, label) in val.iter().zip(&val_labels) {
        let similarity = |vector: &Vec<f64>| query.iter().zip(vector).map(|(a, b)| a * b).sum();
        let mut near: Vec<(f64, u32)> =
            train.iter().map(similarity).zip(train_labels.iter().copied()).collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut votes = [0.0; 10];
        near[..k].iter().for_each(|(s, class)| votes[*class as usize] += (s / temperature).exp());
        let best = (0..10).max_by(|a, b| votes[*a].total_cmp(&votes[*b])).unwrap();
        correct += usize::from(best == *label as usize);
    }
    format!("{:.2}", 100.0 * correct as f64 / val.len() as f64)
}

#[test]
fn knn_alone_writes_a_table_and_needs_a_pretraining() {
    let (pretrain, rest) = TINY.split_once("[finetune]").unwrap();
    let bench = Bench::new(&format!("{pretrain}[knn]\n"));
    bench.done(&["run", "r.toml"]);
    let table = bench.read("runs/tiny/accuracy.csv");
    assert_eq!(rows(&table).len(), 3, "{table}");
    assert!(
        !cell(&table, 1, "knn_top1").is_empty() && !cell(&table, 1, "pretrain_loss").is_empty()
    );
    let (before, _) = pretrain.split_once("[pretrain]").unwrap();
    let recipe =
        format!("{before}[finetune]{rest}[knn]\n").replace("\"checkpoints\"", "\"scratch\"");
    let recipe = recipe.replace("\"last\"", "\"scratch\"");
    mae::durable::write(&bench.path("r.toml"), recipe.as_bytes()).unwrap();
    let error = bench.refused(&["run", "r.toml"], 2);
    assert!(
        error.contains("needs the checkpoints of `[pretrain]`, but the recipe has no `[pretrain]`"),
        "{error}"
    );
}

#[test]
fn the_results_of_each_class_add_up() {
    let bench = Bench::new(TINY);
    bench.done(&["run", "r.toml"]);
    let told = bench.done(&["eval", FINETUNED, "--per-class", "classes.csv"]);
    let table = bench.read("classes.csv");
    let table = rows(&table);
    assert_eq!(
        table[0],
        ["label", "class", "images", "top1", "top5", "confused_with", "confused_images"]
    );
    let number = |row: &Vec<String>, column: usize| row[column].parse::<f64>().unwrap();
    let sum: f64 = table[1..].iter().map(|row| number(row, 2) * number(row, 3) / 100.0).sum();
    assert!(told.contains(&format!("top-1 {:.2} %", 100.0 * sum.round() / 360.0)), "{told}");
    // The run has the same counts in its confusion matrix.
    let matrix = rows(&bench.read("runs/tiny/finetune/from-0003/confusion.csv"));
    assert_eq!((matrix.len(), matrix[3][0].as_str()), (11, "2"));
    for (class, row) in table[1..].iter().enumerate() {
        let counts: Vec<usize> =
            matrix[class + 1][1..].iter().map(|c| c.parse().unwrap()).collect();
        assert_eq!(counts.iter().sum::<usize>().to_string(), row[2]);
        assert_eq!(format!("{:.2}", 100.0 * counts[class] as f64 / number(row, 2)), row[3]);
    }
    bench.done(&["report", "runs/tiny"]);
    assert!(bench.read("runs/tiny/report.html").contains("Confusion matrices"));
}

#[test]
fn test_sets_are_measured_with_the_classes_of_the_checkpoint() {
    let bench = own_pictures(2, "");
    bench.done(&["run", "r.toml"]);
    save_pictures(&bench, "some", &[("owl", 220), ("cat", 40)], 2);
    save_pictures(&bench, "labels", &[("2", 220), ("0", 40)], 2);
    save_pictures(&bench, "wrong", &[("owl", 220), ("bat", 40)], 2);
    let eval = |args: &[&str]| bench.done(&[&["eval", FINETUNED], args].concat());
    let whole = eval(&[]);
    let told = eval(&["--test", "own", "--test", "again=own/val"]);
    let (first, second) = told.trim().split_once('\n').unwrap();
    assert_eq!(first.replace("own: ", ""), whole.trim());
    assert_eq!(second.replace("again: ", ""), whole.trim());
    // The images of two of the three classes, in folders with other names.
    eval(&["--per-class", "classes.csv"]);
    let table = bench.read("classes.csv");
    let top1 = |row: usize| cell(&table, row, "top1").parse::<f64>().unwrap();
    let two = f64::midpoint(top1(0), top1(2));
    eval(&["--test", "some", "--test", "labels", "--csv", "sets.csv"]);
    let sets = bench.read("sets.csv");
    assert_eq!(cell(&sets, 0, "top1"), format!("{two:.2}"));
    assert_eq!(rows(&sets)[1][1..], rows(&sets)[2][1..], "{sets}");
    assert_eq!([cell(&sets, 0, "classes"), cell(&sets, 0, "predicted_classes")], ["2", "3"]);
    let told = eval(&["--test", "some", "--classes", "present", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(json["sets"][0]["predicted_classes"], 2);
    assert!(json["sets"][0]["top1"].as_f64().unwrap() >= two);
    for (args, expected) in [
        (&["--test", "wrong"][..], "1 of 2 class folders match no class of the checkpoint: `bat`"),
        (&["--test", "nowhere"], "the folder does not exist"),
        (&["--test", "some/owl"], "the folder contains no class folders with images"),
        (&["--csv", "x.csv"], "--test"),
        (&["--test", "some", "--knn", "3"], "--knn"),
    ] {
        let error = bench.refused(&[&["eval", FINETUNED], args].concat(), 2);
        assert!(error.contains(expected), "{args:?}: {error}");
    }
    let error = bench.refused(&["eval", LAST, "--test", "some"], 2);
    assert!(error.contains("the checkpoint has no classification head"), "{error}");
}

#[test]
fn corruptions_have_a_mean_corruption_error() {
    let bench = own_pictures(2, "");
    bench.done(&["run", "r.toml"]);
    let last = "c/digital/jpeg_compression/5";
    for (index, (name, _)) in mae::data::CORRUPTIONS.iter().enumerate() {
        for severity in 1..=5 {
            let group = if index % 2 == 0 { "digital/" } else { "" };
            let folder = format!("c/{group}{name}/{severity}");
            // One of three pictures of each class is in the folder of another class.
            let swapped = [("cat", 120), ("dog", 40), ("owl", 220)];
            save_pictures(&bench, &folder, &swapped[..=(severity - 1).min(2)], 1);
        }
    }
    let told = bench.done(&["eval", FINETUNED, "--test", "c", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&told).unwrap();
    let set = &json["sets"][0];
    let errors: Vec<f64> = mae::data::CORRUPTIONS
        .iter()
        .map(|(name, alexnet)| set["corruption_errors"][name].as_f64().unwrap() / alexnet)
        .collect();
    assert!((set["mce"].as_f64().unwrap() - errors.iter().sum::<f64>() / 15.0).abs() < 1e-9);
    assert_eq!(set["images"], 15 * (1 + 2 + 3 + 3 + 3));
    fs::remove_dir_all(bench.path(last)).unwrap();
    let error = bench.refused(&["eval", FINETUNED, "--test", "c"], 2);
    assert!(error.contains(last) && error.contains("mCE needs all 15"), "{error}");
}

#[test]
fn a_recipe_measures_every_finetuning_on_its_test_sets() {
    let bench = own_pictures(2, "");
    save_pictures(&bench, "sets/some", &[("owl", 220), ("cat", 40)], 2);
    bench.done(&["run", "r.toml"]);
    let before = bench.read("runs/tiny/accuracy.csv");
    let recipe = bench.read("r.toml") + "[robustness]\nsets = [\"all=own/val\", \"sets/some\"]\n";
    mae::durable::write(&bench.path("r.toml"), recipe.as_bytes()).unwrap();
    bench.done(&["run", "r.toml"]);
    let table = bench.read("runs/tiny/accuracy.csv");
    assert!(table.starts_with(before.lines().next().unwrap()), "{table}");
    assert!(table.lines().next().unwrap().ends_with(",linprobe_run,all_top1,some_top1"), "{table}");
    for row in 0..3 {
        assert_eq!(cell(&table, row, "all_top1"), cell(&table, row, "finetune_top1"));
        assert!(!cell(&table, row, "some_top1").is_empty());
    }
    assert_eq!(rows(&bench.read("runs/tiny/robustness.csv")).len(), 1 + 3 * 2);
    bench.done(&["report", "runs/tiny"]);
    assert!(bench.read("runs/tiny/report.html").contains("all<br>top-1 %"));
    let set = |sets: &str| {
        bench.refused(&["run", "r.toml", "--set", &format!("robustness.sets={sets}")], 2)
    };
    assert!(set("[\"nowhere\"]").contains("nowhere: the folder does not exist"));
    assert!(set("[\"a=own/val\", \"a=sets/some\"]").contains("which is already taken"));
    assert!(set("[\"/\"]").contains("needs a valid name"));
    assert!(set("[]").contains("robustness.sets"));
}
