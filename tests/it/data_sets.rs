//! Data sets that are not folders of files: CIFAR, `WebDataset` shards and parquet files. Also tests packing.

#![expect(clippy::disallowed_methods, reason = "these tests write damaged files")]
#![expect(clippy::unwrap_used, reason = "an error in a helper is a failed test")]

use std::fs;
use std::path::Path;

use super::data::{all, augment, error_of, folder, key, photo, plan, save};
use super::program::Bench;
use mae::data::{
    CropRule, DataSet, EvalTransform, Labels, Loader, Pixels, TrainTransform, open, picture,
};
use mae::recipe::{DataPlan, Format, Threads};

/// Returns CIFAR records. Each has `labels` labels, and the last label is the class.
fn records(labels: usize, classes: &[u8]) -> Vec<u8> {
    let record = |class: &u8| {
        let mut record = vec![7; labels];
        record[labels - 1] = *class;
        for channel in 0..3u8 {
            record.extend((0..1024u32).map(|at| (at % 200) as u8 + channel + class));
        }
        record
    };
    classes.iter().flat_map(record).collect()
}

#[test]
fn cifar_is_read_from_the_unpacked_archive() {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("cifar-10-batches-bin");
    fs::create_dir(&inside).unwrap();
    for batch in 1..=5u8 {
        fs::write(inside.join(format!("data_batch_{batch}.bin")), records(1, &[batch, 9])).unwrap();
    }
    fs::write(inside.join("test_batch.bin"), records(1, &[3, 4, 5])).unwrap();
    fs::write(inside.join("batches.meta.txt"), "a\nb\nc\nd\ne\nf\ng\nh\ni\nship\n\n").unwrap();
    let plan = DataPlan { input_size: 32.into(), ..plan(Format::Cifar10, dir.path()) };
    let data = open(&plan, Labels::Needed).unwrap();
    assert_eq!(
        (data.facts.num_classes, data.facts.train_images, data.facts.val_images),
        (10, 10, 3)
    );
    assert_eq!(
        (data.class_names[9].as_str(), data.train.label(2), data.train.label(3)),
        ("ship", 2, 9)
    );
    let image = picture(&*data.train, 2).unwrap();
    let Pixels::U8(levels) = &image.pixels else { panic!("levels") };
    assert_eq!(levels[..6], [2, 3, 4, 3, 4, 5], "pixel by pixel, channel by channel");
    // Evaluation keeps the size of CIFAR images.
    let seen = EvalTransform::new(&plan).apply(&image);
    assert!((seen[1] - (3.0 / 255.0 - 0.5) / 0.5).abs() < 1e-6);

    fs::write(inside.join("test_batch.bin"), records(1, &[3, 10])).unwrap();
    let error = error_of(&plan, Labels::Needed);
    assert!(
        error.contains("record 1 has label 10, but the data set has only 10 classes"),
        "{error}"
    );
    fs::write(inside.join("data_batch_3.bin"), [0; 100]).unwrap();
    let error = error_of(&plan, Labels::Needed);
    assert!(error.contains("data_batch_3.bin: the file has 100 bytes, but its size must be a multiple of 3073 bytes"), "{error}");
    let error = error_of(&DataPlan { format: Format::Cifar100, ..plan }, Labels::Needed);
    assert!(
        error.contains("`train.bin` is missing") && error.contains("cifar-100-binary.tar.gz"),
        "{error}"
    );
}

#[test]
fn the_second_label_is_cifar100s_class() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("train.bin"), records(2, &[99, 0])).unwrap();
    fs::write(dir.path().join("test.bin"), records(2, &[50])).unwrap();
    let plan = DataPlan { input_size: 32.into(), ..plan(Format::Cifar100, dir.path()) };
    let data = open(&plan, Labels::Needed).unwrap();
    assert_eq!((data.train.label(0), data.val.unwrap().label(0)), (99, 50));
    assert_eq!(data.class_names.len(), 100);
}

/// Writes a shard with these members, as other programs do.
pub(crate) fn shard(path: &Path, members: &[(&str, &[u8])]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut tar = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    tar.finish().unwrap();
}

pub(crate) fn jpeg(side: u32) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path().join("a.jpg"), photo(side));
    fs::read(dir.path().join("a.jpg")).unwrap()
}

#[test]
fn shards_of_other_programs_are_read_with_their_classes() {
    let dir = tempfile::tempdir().unwrap();
    let long = format!("{}/deep.jpg", "x".repeat(120));
    let (small, large) = (jpeg(24), jpeg(40));
    shard(
        &dir.path().join("set-train-0001.tar"),
        &[
            ("b.cls", b"1"),
            ("b.jpg", &large),
            ("b.json", b"{\"caption\": \"a\"}"),
            ("notes.txt", b"x"),
        ],
    );
    shard(
        &dir.path().join("set-train-0000.tar"),
        &[
            ("a.jpg", &small),
            ("a.cls", b"0"),
            (&long, &large),
            (&long.replace("jpg", "json"), b"{\"label\": 2}"),
        ],
    );
    shard(&dir.path().join("set-validation-0.tar"), &[("v.jpeg", &small), ("v.cls", b"2\n")]);
    let plan = plan(Format::WebDataset, dir.path());
    let data = open(&plan, Labels::Needed).unwrap();
    assert_eq!((data.facts.num_classes, data.facts.train_images, data.facts.val_images), (3, 3, 1));
    assert_eq!((0..3).map(|i| data.train.label(i)).collect::<Vec<_>>(), [0, 2, 1]);
    assert_eq!(picture(&*data.train, 1).unwrap().width, 40);
    assert!(data.train.name(1).ends_with(format!("set-train-0000.tar/{long}")));

    fs::write(dir.path().join("classes.txt"), "cat\ndog\n").unwrap();
    let error = error_of(&plan, Labels::Needed);
    assert!(
        error.contains("an image has class 2, but `classes.txt` states only 2 classes"),
        "{error}"
    );
    fs::remove_file(dir.path().join("classes.txt")).unwrap();

    shard(&dir.path().join("set-train-0002.tar"), &[("c.jpg", &small)]);
    let error = error_of(&plan, Labels::Needed);
    assert!(error.contains("set-train-0002.tar/c.jpg: the image has no class"), "{error}");
    assert_eq!(open(&plan, Labels::Unneeded).unwrap().train.len(), 4, "pre-training needs none");

    shard(&dir.path().join("set-train-0002.tar"), &[("c.jpg", &small), ("c.cls", b"-1")]);
    let error = error_of(&plan, Labels::Needed);
    assert!(error.contains("c.cls: -1 is not a valid class"), "{error}");
    assert_eq!(open(&plan, Labels::Unneeded).unwrap().train.len(), 4);
}

#[test]
fn two_images_in_one_sample_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let image = jpeg(24);
    let names = ["2024.01.05_1.jpg", "2024.01.05_1.cls", "2024.01.05_2.jpg", "2024.01.05_2.cls"];
    let members = names.map(|name| (name, if name.ends_with("jpg") { &image[..] } else { b"0" }));
    shard(&dir.path().join("train-0.tar"), &members);
    shard(&dir.path().join("val-0.tar"), &[("a.jpg", &image), ("a.cls", b"0")]);
    let error = error_of(&plan(Format::WebDataset, dir.path()), Labels::Needed);
    let expected = "sample `2024` has two images: `2024.01.05_1.jpg` and `2024.01.05_2.jpg`\nhint: rename one of the images";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn errors_name_a_truncated_or_overwritten_shard() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train-0.tar");
    let image = jpeg(24);
    shard(&path, &[("a.jpg", &image), ("a.cls", b"0"), ("b.jpg", &image), ("b.cls", b"1")]);
    let whole = fs::read(&path).unwrap();
    let plan = plan(Format::WebDataset, dir.path());
    let mut refused = 0;
    for cut in (0..whole.len() - 1024).step_by(97) {
        fs::write(&path, &whole[..cut]).unwrap();
        assert!(error_of(&plan, Labels::Unneeded).contains("train-0.tar"), "cut at {cut}");
    }
    for at in (0..whole.len()).step_by(13) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        fs::write(&path, &bytes).unwrap();
        match open(&plan, Labels::Unneeded) {
            Ok(data) => (0..data.train.len()).for_each(|i| drop(picture(&*data.train, i))),
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("train-0.tar"), "{error}");
            }
        }
    }
    assert!(refused > 50, "{refused}");
}

#[test]
fn test_shards_are_unused_if_there_are_validation_shards() {
    let dir = tempfile::tempdir().unwrap();
    let image = jpeg(24);
    for name in ["train-0", "validation-0", "test-0"] {
        let members: [(&str, &[u8]); 2] = [("a.jpg", &image), ("a.cls", b"0")];
        let label = if name == "test-0" { 1 } else { 2 };
        shard(&dir.path().join(format!("{name}.tar")), &members[..label]);
    }
    let plan = plan(Format::WebDataset, dir.path());
    assert_eq!(open(&plan, Labels::Needed).unwrap().facts.val_images, 1);
    fs::remove_file(dir.path().join("validation-0.tar")).unwrap();
    let error = error_of(&plan, Labels::Needed);
    assert!(error.contains("test-0.tar/a.jpg: the image has no class"), "{error}");
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_files_of_the_hub_are_read_and_packed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet");
    let plan = plan(Format::Parquet, &folder);
    let data = open(&plan, Labels::Needed).unwrap();
    assert_eq!((data.facts.num_classes, data.facts.train_images, data.facts.val_images), (3, 7, 3));
    assert_eq!(data.class_names, ["cat", "dog", "ship, large"]);
    // In reverse, so that row groups and files are read out of order.
    for (split, first) in [(&data.train, 0), (data.val.as_ref().unwrap(), 7)] {
        for place in (0..split.len()).rev() {
            let image = first + place;
            assert_eq!(split.label(place) as usize, image % 3);
            let Pixels::U8(levels) = picture(&**split, place).unwrap().pixels else {
                panic!("levels")
            };
            let level = |x: usize, y: usize| ((x + y) * 7 + image * 20) as u8;
            assert_eq!(levels[..3], [level(0, 0), level(0, 0) + 1, level(0, 0) + 2]);
            assert_eq!(levels[3 * 63], level(7, 7), "image {image}");
        }
    }
    assert!(data.train.name(5).ends_with("train-00001-of-00002.parquet/row-1"));

    let out = tempfile::tempdir().unwrap();
    let (from, to) = (folder.to_str().unwrap(), out.path().to_str().unwrap());
    let packed = Bench::new("").command(&["data", "pack", from, to]).output().unwrap();
    assert_eq!(packed.status.code(), Some(0), "{packed:?}");
    let shards = DataPlan { format: Format::WebDataset, path: out.path().to_owned(), ..plan };
    let shards = open(&shards, Labels::Needed).unwrap();
    assert_eq!((shards.class_names, shards.facts), (data.class_names, data.facts));
    assert!(picture(&*shards.train, 6).unwrap() == picture(&*data.train, 6).unwrap());
}

/// The parquet library panics on these files, and prints why.
#[cfg(feature = "parquet")]
#[test]
fn a_panic_of_the_parquet_library_is_a_bad_file_and_prints_nothing() {
    let bench = Bench::new("");
    fs::create_dir(bench.path("data")).unwrap();
    for (at, code) in [(2022, 1), (2506, 2)] {
        let mut bytes = include_bytes!("../parquet/train-00000-of-00002.parquet").to_vec();
        bytes[at] ^= 0x55;
        fs::write(bench.path("data/train.parquet"), bytes).unwrap();
        let check = bench.mae(&["data", "check", "data"]);
        let text =
            [check.stdout, check.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        assert_eq!(check.status.code(), Some(code), "{text}");
        assert!(text.contains("damaged: the parquet reader panicked"), "{text}");
        assert!(!text.contains("panicked at"), "{text}");
    }
}

#[cfg(feature = "parquet")]
#[test]
fn a_damaged_parquet_file_does_not_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train.parquet");
    let whole = include_bytes!("../parquet/train-00000-of-00002.parquet");
    let plan = plan(Format::Parquet, dir.path());
    let mut refused = 0;
    for at in 0..whole.len() {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 0x55;
        fs::write(&path, if at % 2 == 0 { &bytes } else { &whole[..at] }).unwrap();
        match open(&plan, Labels::Unneeded) {
            Ok(data) => (0..data.train.len().min(8)).for_each(|i| drop(picture(&*data.train, i))),
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("train.parquet"), "{error}");
            }
        }
    }
    assert!(refused > whole.len() / 2, "{refused}");
}

#[cfg(not(feature = "parquet"))]
#[test]
fn without_parquet_support_the_error_names_the_feature() {
    let error = error_of(&plan(Format::Parquet, Path::new(".")), Labels::Needed);
    assert!(error.contains("`--features parquet`"), "{error}");
}

#[test]
fn a_large_folder_is_listed_again_only_if_it_changed() {
    let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for class in 0..10 {
        let folder = dir.path().join(format!("train/{class:02}"));
        fs::create_dir_all(&folder).unwrap();
        (0..1000).for_each(|i| drop(fs::File::create(folder.join(format!("{i}.jpg"))).unwrap()));
        let val = dir.path().join(format!("val/{class:02}"));
        fs::create_dir_all(&val).unwrap();
        fs::write(val.join("a.jpg"), jpeg(8)).unwrap();
    }
    let bench = Bench::new(&format!(
        "name = \"a\"\n[data]\nformat = \"imagefolder\"\npath = {:?}\n[pretrain]\nepochs = 1\nwarmup_epochs = 0\nbatch_size = 1\n",
        dir.path()
    ));
    let images = || {
        let mut plan = bench.command(&["plan", "r.toml", "--json"]);
        let out = plan.env("XDG_CACHE_HOME", cache.path()).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
        json["jobs"][0]["steps"].as_u64().unwrap_or_else(|| panic!("{out:?}"))
    };
    let known = || fs::read_dir(cache.path().join("mae/data")).map_or(0, Iterator::count);
    assert_eq!(images(), 10_000);
    // A folder that has just changed is not cached.
    assert_eq!(known(), 0);
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!((images(), known()), (10_000, 1));
    let file = fs::read_dir(cache.path().join("mae/data")).unwrap().next().unwrap().unwrap().path();
    let written = || fs::metadata(&file).unwrap().modified().unwrap();
    let before = written();
    assert_eq!((images(), written()), (10_000, before), "an unchanged cache is not written again");
    fs::remove_file(dir.path().join("train/03/7.jpg")).unwrap();
    fs::write(dir.path().join("train/04/new.jpg"), "").unwrap();
    fs::write(dir.path().join("train/04/newer.jpg"), "").unwrap();
    assert_eq!(images(), 10_001);
    fs::write(&file, "damaged").unwrap();
    assert_eq!(images(), 10_001);
}

fn classes() -> tempfile::TempDir {
    let mut files = Vec::new();
    for split in ["train", "val"] {
        for class in ["cat", "dog", "owl"] {
            files.extend((0..4).map(|i| format!("{split}/{class}/{i}.{}", ["jpg", "png"][i % 2])));
        }
    }
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    folder(&files)
}

#[test]
fn packed_files_make_the_same_batches() {
    let (dir, out) = (classes(), tempfile::tempdir().unwrap());
    let bench = Bench::new("");
    let folders = [dir.path(), out.path()].map(|path| path.to_str().unwrap().to_owned());
    let pack = |more: &[&str]| {
        let args = [&["data", "pack", &folders[0], &folders[1], "--samples", "5"], more].concat();
        bench.command(&args).output().unwrap()
    };
    assert_eq!(pack(&[]).status.code(), Some(0));
    let open = |format, path: &Path| open(&plan(format, path), Labels::Needed).unwrap();
    let (files, shards) =
        (open(Format::ImageFolder, dir.path()), open(Format::WebDataset, out.path()));
    assert_eq!(shards.class_names, ["cat", "dog", "owl"]);
    let batches = |data: &DataSet| {
        let plan = plan(Format::ImageFolder, dir.path());
        let transform = TrainTransform::new(&plan, &augment([0.2, 1.0], true), CropRule::TenTries);
        let train = data.train.clone();
        all(&Loader::train(train, transform, None, 4, Threads::Count(2), key()).unwrap(), 1, 0)
    };
    assert!(batches(&files) == batches(&shards));

    // Packing again writes only what is missing.
    let path = |name: &str| out.path().join("train").join(name);
    fs::remove_file(path("train-000001.tar")).unwrap();
    fs::write(path(".tmp-train-000001.tar-7-1"), "").unwrap();
    let again = pack(&["--json"]);
    let json: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!((&json["shards"], &json["shards_there"]), (&6.into(), &5.into()));
    assert!(!path(".tmp-train-000001.tar-7-1").exists() && path("train-000001.tar").exists());
    // Packing again replaces a truncated shard. Missing shards and unfinished packing are errors.
    let whole = fs::read(path("train-000001.tar")).unwrap();
    fs::write(path("train-000001.tar"), &whole[..whole.len() / 2]).unwrap();
    assert_eq!(pack(&[]).status.code(), Some(0));
    assert!(fs::read(path("train-000001.tar")).unwrap() == whole);
    let shards = plan(Format::WebDataset, out.path());
    fs::remove_file(path("train-000001.tar")).unwrap();
    let error = error_of(&shards, Labels::Needed);
    assert!(
        error.contains(
            "2 training shards and 3 validation shards, but `mae data pack` wrote 3 training shards and 3 validation shards"
        ),
        "{error}"
    );
    let json = out.path().join("pack.json");
    let text = fs::read_to_string(&json).unwrap();
    let before = text.split(",\n  \"shards\"").next().unwrap();
    fs::write(&json, format!("{before}\n}}\n")).unwrap();
    let error = error_of(&shards, Labels::Needed);
    assert!(error.contains("has not finished writing these shards"), "{error}");
    assert_eq!(pack(&[]).status.code(), Some(0));
    open(Format::WebDataset, out.path());
    let inside = dir.path().join("train/packed");
    let within = ["data", "pack", &folders[0], inside.to_str().unwrap()];
    let within = bench.command(&within).output().unwrap();
    assert_eq!(within.status.code(), Some(2));
    assert!(!inside.exists());
    let other = pack(&["--short-side", "8"]);
    assert_eq!(other.status.code(), Some(2));
    let said = String::from_utf8(other.stderr).unwrap();
    assert!(
        said.contains("pack.json: the folder contains shards from a different data set"),
        "{said}"
    );
}

#[test]
fn reencoded_images_are_noted() {
    let (dir, out) = (classes(), tempfile::tempdir().unwrap());
    fs::write(dir.path().join("train/cat/bad.jpg"), "no image").unwrap();
    let folders = [dir.path(), out.path()].map(|path| path.to_str().unwrap().to_owned());
    let bench = Bench::new("");
    let packed = bench.command(&["data", "pack", &folders[0], &folders[1], "--short-side", "12"]);
    let packed = { packed }.output().unwrap();
    assert_eq!(packed.status.code(), Some(1), "a file was left out");
    assert!(
        String::from_utf8(packed.stdout)
            .unwrap()
            .contains("cat/bad.jpg: corrupt or unsupported image")
    );
    // A later start still reports the file.
    let again = bench.command(&["data", "pack", &folders[0], &folders[1], "--short-side", "12"]);
    let again = { again }.output().unwrap();
    assert_eq!(again.status.code(), Some(1));
    let said = String::from_utf8(again.stdout).unwrap();
    assert!(said.contains("24 images in 2 shards") && said.contains("left out: "), "{said}");
    let data = open(&plan(Format::WebDataset, out.path()), Labels::Needed).unwrap();
    assert_eq!(data.train.len(), 12);
    let image = picture(&*data.train, 0).unwrap();
    assert_eq!((image.width, image.height), (16, 12));
    let note = data.note.unwrap();
    assert_eq!(note, "images re-encoded: short side at most 12 px, JPEG quality 90");
}
