//! Unusable files: `data check` finds them, training skips them, and both name them.

#![expect(clippy::disallowed_methods, reason = "these tests write damaged files")]
#![expect(clippy::unwrap_used, reason = "an error in a helper is a failed test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::data::{all, augment, folder, key, photo, plan, save};
use super::program::Bench;
use mae::data::{
    BadFiles, CropRule, EvalTransform, Images, Labels, Loader, TrainTransform, open, read_picture,
};
use mae::recipe::{Decode, Format, Threads};
use std::sync::Arc;

/// A recipe that trains two epochs on a folder of images in about a second.
const TINY: &str = "
[data]
path = 'data'
input_size = 8
max_bad_fraction = 0.1
[model]
patch_size = 4
embed_dim = 16
depth = 1
num_heads = 2
decoder_embed_dim = 8
decoder_depth = 1
decoder_num_heads = 2
[pretrain]
epochs = 2
warmup_epochs = 1
batch_size = 8
";

/// Makes 24 good images and a bad one.
fn with_a_bad_file() -> Bench {
    let bench = Bench::new(TINY);
    let train = bench.dir.path().join("data/train");
    for i in 0..24 {
        save(train.join(format!("{i:02}.jpg")), photo(20 + i));
    }
    fs::write(train.join("05x.jpg"), &fs::read(train.join("05.jpg")).unwrap()[..200]).unwrap();
    bench
}

#[test]
fn training_skips_a_bad_file_and_names_it() {
    let bench = with_a_bad_file();
    let run = bench.command(&["run", "r.toml"]).output().unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(0), "{said}");
    assert!(
        said.contains("05x.jpg: corrupt or unsupported image: Bogus Huffman table definition"),
        "{said}"
    );
    let table = fs::read_to_string(bench.dir.path().join("runs/r/pretrain/bad_files.csv")).unwrap();
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!((rows.len(), rows[0]), (2, "file,problem"));
    assert!(rows[1].contains("05x.jpg,"), "{table}");

    let strict = ["run", "r.toml", "--fresh", "--set", "data.max_bad_fraction=0.03"];
    let run = bench.command(&strict).output().unwrap();
    assert_eq!(run.status.code(), Some(2));
    let said = String::from_utf8(run.stderr).unwrap();
    assert!(
        said.contains("1 of 25 training files are unreadable") && said.contains("data check"),
        "{said}"
    );
}

#[cfg(unix)]
#[test]
fn broken_links_and_pipes_are_bad_files() {
    let bench = with_a_bad_file();
    let train = bench.dir.path().join("data/train");
    std::os::unix::fs::symlink("/nowhere/1.png", train.join("link.png")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(train.join("pipe.png")).status().unwrap();
    assert!(made.success());
    let check = bench.command(&["data", "check", "r.toml"]).output().unwrap();
    let said = String::from_utf8(check.stdout).unwrap();
    assert_eq!(check.status.code(), Some(1), "{said}");
    for problem in ["link.png: No such file", "pipe.png: not a regular file", "05x.jpg: "] {
        assert!(said.contains(problem), "{said}");
    }
    // A folder without train/ is a data set for pre-training alone.
    assert!(!said.contains("problems of the whole"), "{said}");
}

#[test]
fn the_replacement_of_a_bad_file_does_not_depend_on_the_workers() {
    let bench = with_a_bad_file();
    let plan = plan(Format::ImageFolder, &bench.dir.path().join("data"));
    let batches = |workers| {
        let train = open(&plan, Labels::Unneeded).unwrap().train;
        let transform = TrainTransform::new(&plan, &augment([0.2, 1.0], true), CropRule::TenTries);
        let bad = BadFiles::new(0.1, train.len(), Some(bench.dir.path().join("bad.csv")));
        let loader =
            Loader::train(train, transform, None, 5, Threads::Count(workers), key()).unwrap();
        let loader = loader.skipping_bad_files(Arc::new(bad));
        (all(&loader, 1, 0), all(&loader, 1, 2))
    };
    let (inline, resumed) = batches(0);
    assert_eq!(inline.len(), 5);
    assert!(inline[2..] == resumed, "an epoch resumed at batch 2 differs");
    assert!(matches!(inline[0].images, Images::Levels(..)));
    assert!((inline.clone(), resumed.clone()) == batches(1));
    assert!((inline, resumed) == batches(3));
}

/// Image formats of the files in a folder.
const KINDS: [&str; 4] = ["jpg", "png", "webp", "bmp"];

#[test]
fn a_check_finds_the_bad_files_and_no_others() {
    let dir = folder(&[]);
    let mut bad = BTreeSet::new();
    for i in 0..1000u32 {
        let (class, kind) = (["a", "b"][i as usize % 2], KINDS[i as usize / 10 % KINDS.len()]);
        let path = dir.path().join(format!("train/{class}/{i:03}.{kind}"));
        save(path.clone(), photo(24 + i % 40));
        let mut bytes = fs::read(&path).unwrap();
        let at = |share: usize| bytes.len() * share / 100;
        match i % 10 {
            0 => bytes.truncate(at(i as usize / 14 + 10)),
            1 => bytes = b"GIF89a is not read".to_vec(),
            2 => bytes.clear(),
            3 => bytes[..3].fill(0),
            // A byte of the image data: the file decodes to a different image, or not at all.
            4 => {
                let (from, to) = (at(70), at(72) + 1);
                bytes[from..to].fill(0x3a);
            }
            // Bytes anywhere in the file: header, tables or image data.
            5 | 6 => (0..4).for_each(|n| {
                let place = (i as usize * 7919 + n * 104_729) % bytes.len();
                bytes[place] ^= 1 << (i % 8);
            }),
            _ => {}
        }
        fs::write(&path, &bytes).unwrap();
        match i % 10 {
            0..=3 => assert!(read_picture(&path).is_err(), "{i}"),
            4..=6 => {}
            _ => assert!(read_picture(&path).is_ok(), "{i}"),
        }
        if read_picture(&path).is_err() {
            bad.insert(path.display().to_string());
        }
    }
    assert!(bad.len() > 450, "{}", bad.len());
    save(dir.path().join("val/a/1.jpg"), photo(25));
    let bench = Bench::new("");
    let path = dir.path().to_str().unwrap();
    let check =
        bench.command(&["data", "check", path, "--json", "--csv", "found.csv"]).output().unwrap();
    assert_eq!(check.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&check.stdout).unwrap();
    let found: BTreeSet<String> = json["splits"][0]["bad"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry[0].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(found, bad);
    assert!(json["problems"][0].as_str().unwrap().contains("only in train/: `b`"), "{json}");
    let table = fs::read_to_string(bench.dir.path().join("found.csv")).unwrap();
    assert_eq!(table.lines().filter(|line| line.starts_with("bad,train,")).count(), bad.len());
}

#[test]
fn a_check_reports_the_numbers_for_a_recipe() {
    let dir = tempfile::tempdir().unwrap();
    for (split, levels) in [("train", [0u8, 255]), ("val", [51, 255])] {
        for (i, level) in levels.into_iter().enumerate() {
            let image = image::RgbImage::from_pixel(10, 20, image::Rgb([level, 102, 0]));
            save(dir.path().join(format!("{split}/c/{i}.png")), image);
        }
    }
    let check =
        Bench::new("").command(&["data", "check", dir.path().to_str().unwrap()]).output().unwrap();
    let text = String::from_utf8(check.stdout).unwrap();
    assert_eq!(check.status.code(), Some(0), "{text}");
    assert!(
        text.contains("mean = [0.5000, 0.4000, 0.0000]\nstd = [0.5000, 0.0000, 0.0000]"),
        "{text}"
    );
    assert!(
        text.contains("train: 2 images") && text.contains("train_images = 2\nval_images = 2"),
        "{text}"
    );
    assert!(text.contains("in train and val: 1") && text.contains("train/c/1.png = "), "{text}");
}

#[test]
fn repeated_augmentation_uses_half_the_images_twice() {
    let bench = with_a_bad_file();
    fs::remove_file(bench.dir.path().join("data/train/05x.jpg")).unwrap();
    let plan = plan(Format::ImageFolder, &bench.dir.path().join("data"));
    let mut augment = augment([0.2, 1.0], false);
    augment.aug_repeats = 2;
    let train = open(&plan, Labels::Unneeded).unwrap().train;
    let transform = TrainTransform::new(&plan, &augment, CropRule::TenTries);
    let loader = Loader::train(train, transform, None, 8, Threads::Count(2), key()).unwrap();
    let batches = all(&loader, 1, 0);
    assert_eq!(batches.len(), 3, "an epoch keeps its number of images");
    let samples: Vec<u64> = batches.iter().flat_map(|batch| batch.samples.clone()).collect();
    let index = |sample: &u64| sample & 0xff_ffff;
    assert!(samples.chunks(2).all(|pair| pair[0] != pair[1] && index(&pair[0]) == index(&pair[1])));
    assert_eq!(samples.iter().map(index).collect::<BTreeSet<_>>().len(), 12);
    assert_ne!(
        batches[0].shard(0..1).images,
        batches[0].shard(1..2).images,
        "each repeat is augmented differently"
    );
}

#[test]
fn fast_decoding_differs_by_a_few_levels() {
    let largest_difference = |side: u32| {
        let dir = folder(&[]);
        (0..8).for_each(|i| save(dir.path().join(format!("{i}.jpg")), smooth(side)));
        let mut plan = plan(Format::ImageFolder, dir.path());
        let mut images = |decode| {
            plan.decode = decode;
            let transform =
                TrainTransform::new(&plan, &augment([0.5, 1.0], true), CropRule::TenTries);
            let train = open(&plan, Labels::Unneeded).unwrap().train;
            let loader =
                Loader::train(train, transform, None, 8, Threads::Count(1), key()).unwrap();
            let Images::Levels(levels, _) = all(&loader, 1, 0).swap_remove(0).images else {
                panic!("levels")
            };
            levels
        };
        let (exact, fast) = (images(Decode::Exact), images(Decode::Fast));
        exact.iter().zip(fast.iter()).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
    };
    let small = largest_difference(31);
    assert!((1..4).contains(&small), "crops of less than 32 pixels: {small}");
    let large = largest_difference(300);
    assert!((1..40).contains(&large), "{large}");
}

/// Returns a photograph without sharp edges.
fn smooth(side: u32) -> image::RgbImage {
    let wave = |at: u32| ((f64::from(at) / f64::from(side) * 6.0).sin() * 100.0 + 128.0) as u8;
    image::RgbImage::from_fn(side, side, |x, y| image::Rgb([wave(x), wave(y), wave(x + y)]))
}

#[test]
fn a_bad_validation_file_ends_an_evaluation_with_an_error_that_names_it() {
    let dir = folder(&["val/a/1.jpg", "train/a/1.jpg"]);
    let path = dir.path().join("val/a/2.jpg");
    fs::write(&path, "no image").unwrap();
    let plan = plan(Format::ImageFolder, dir.path());
    let val = open(&plan, Labels::Needed).unwrap().val.unwrap();
    let loader = Loader::eval(val, EvalTransform::new(&plan), 2, Threads::Count(1));
    let error = loader.epoch(1, 0).next().unwrap().unwrap_err().to_string();
    assert!(
        error.contains(&Path::new("val").join("a").join("2.jpg").display().to_string()),
        "{error}"
    );
}

#[test]
fn a_bench_of_the_data_reports_the_time_of_each_part() {
    let bench = with_a_bad_file();
    let args = ["bench", "data", "r.toml", "--seconds", "0.3", "--json"];
    let json = bench.command(&args).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(json["images_per_s"].as_f64().unwrap() > 1.0);
    for part in ["read", "decode", "resize", "augment"] {
        assert!(json["ms_per_image"][part].as_f64().unwrap() > 0.0, "{part}");
    }
}
