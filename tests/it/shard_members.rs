//! Tar shards as other programs write them: which image and which class of a sample is read, and what is passed over.

#![expect(clippy::disallowed_methods, reason = "these are files of other programs")]
#![expect(clippy::unwrap_used, reason = "an error in a helper is a failed test")]

use super::data::{error_of, plan};
use super::data_sets::{jpeg, shard};
use super::program::Bench;
use mae::data::{DataSet, Labels, open};
use mae::recipe::{DataPlan, Format};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;

fn names(data: &DataSet) -> Vec<String> {
    let name = |i| data.train.name(i).file_name().unwrap().to_string_lossy().into_owned();
    (0..data.train.len()).map(name).collect()
}

fn labels(data: &DataSet) -> Vec<u32> {
    (0..data.train.len()).map(|i| data.train.label(i)).collect()
}

fn shards(path: &Path) -> DataPlan {
    plan(Format::WebDataset, path)
}

#[test]
fn sidecars_matter_only_where_classes_are_needed() {
    let dir = tempfile::tempdir().unwrap();
    let image = jpeg(24);
    let mut sidecars = [
        r#"{"caption": "x", "punsafe": NaN, "pwatermark": Infinity, "label": 0}"#,
        r#"{"label": "0"}"#,
        r#"{"label": 0.0, "caption": "\ud800"}"#,
        r#"{"label": -1}"#,
        "{",
    ];
    let write = |sidecars: &[&str]| {
        let mut members: Vec<(String, &[u8])> = Vec::new();
        for (number, sidecar) in sidecars.iter().enumerate() {
            members.push((format!("{number}.jpg"), &image));
            members.push((format!("{number}.json"), sidecar.as_bytes()));
        }
        let members: Vec<(&str, &[u8])> = members.iter().map(|(n, b)| (n.as_str(), *b)).collect();
        shard(&dir.path().join("00000.tar"), &members);
    };
    write(&sidecars);
    assert_eq!(open(&shards(dir.path()), Labels::Unneeded).unwrap().train.len(), 5);
    let bench = Bench::new("");
    let text = bench.done(&["data", "check", dir.path().to_str().unwrap()]);
    assert!(text.contains("train: 5 images"), "{text}");
    assert!(text.contains("note: the data has no validation split"), "{text}");

    shard(&dir.path().join("val.tar"), &[("v.jpg", &image), ("v.cls", b"0")]);
    let error = error_of(&shards(dir.path()), Labels::Needed);
    assert!(error.contains("00000.tar/3.json: -1 is not a valid class"), "{error}");
    assert!(error.contains("(2 of 6 images have no valid class)"), "{error}");
    (sidecars[3], sidecars[4]) = (r#"{"label": 1}"#, r#"{"label": true}"#);
    write(&sidecars);
    let data = open(&shards(dir.path()), Labels::Needed).unwrap();
    assert_eq!((labels(&data), data.facts.num_classes), (vec![0, 0, 0, 1, 1], 2));
}

#[test]
fn a_text_label_is_a_class_name() {
    let dir = tempfile::tempdir().unwrap();
    let image = jpeg(24);
    let train: [(&str, &[u8]); 6] = [
        ("a.jpg", &image),
        ("a.cls", b"tabby\n"),
        ("b.JPG", &image),
        ("b.json", br#"{"label": "owl"}"#),
        ("c.jpg", &image),
        ("c.cls", b"7"),
    ];
    shard(&dir.path().join("train/0.tar"), &train);
    shard(&dir.path().join("validation/0.tar"), &[("v.jpg", &image), ("v.cls", b"ant")]);
    let plan = shards(dir.path());
    let data = open(&plan, Labels::Needed).unwrap();
    assert_eq!(data.class_names, ["7", "ant", "owl", "tabby"]);
    assert_eq!((labels(&data), data.val.unwrap().label(0)), (vec![3, 2, 0], 1));
    let unneeded = open(&plan, Labels::Unneeded).unwrap();
    assert_eq!(unneeded.fingerprint, data.fingerprint);

    fs::write(dir.path().join("classes.txt"), "tabby\nowl\n7\nant\nbee\n").unwrap();
    let data = open(&plan, Labels::Needed).unwrap();
    assert_eq!((labels(&data), data.class_names.len()), (vec![0, 1, 2], 5));
    fs::write(dir.path().join("classes.txt"), "tabby\nowl\n7\n").unwrap();
    let error = error_of(&plan, Labels::Needed);
    assert!(error.contains("classes.txt: an image has the class `ant`"), "{error}");
    fs::remove_file(dir.path().join("classes.txt")).unwrap();

    let mixed = [&train[..], &[("d.jpg", &image), ("d.json", br#"{"label": 3}"#)]].concat();
    shard(&dir.path().join("train/0.tar"), &mixed);
    let error = error_of(&plan, Labels::Needed);
    assert!(
        error.contains("0.tar/d.jpg: the class of this image is a number, but the class of"),
        "{error}"
    );
    assert_eq!(open(&plan, Labels::Unneeded).unwrap().train.len(), 4);
}

#[test]
fn the_other_images_of_a_sample_are_passed_over_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (large, small) = (jpeg(40), jpeg(24));
    let members = |key: &'static str| -> [(String, &[u8]); 4] {
        [
            (format!("{key}.depth.png"), &small),
            (format!("{key}.jpg"), &large),
            (format!("{key}.mask.png"), &small),
            (format!("{key}.cls"), b"0"),
        ]
    };
    let all: Vec<(String, &[u8])> = members("a").into_iter().chain(members("b")).collect();
    let all: Vec<(&str, &[u8])> = all.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    shard(&dir.path().join("train/0.tar"), &all);
    shard(&dir.path().join("val/0.tar"), &all);
    let plan = shards(dir.path());
    let data = open(&plan, Labels::Needed).unwrap();
    assert_eq!(names(&data), ["a.jpg", "b.jpg"]);
    assert_eq!(data.passed_over["extra images of samples (`depth.png`)"], 4);
    let depth = DataPlan { image_key: vec!["x".to_owned(), "depth.png".to_owned()], ..plan };
    assert_eq!(names(&open(&depth, Labels::Needed).unwrap()), ["a.depth.png", "b.depth.png"]);
    let none = DataPlan { image_key: vec!["x".to_owned()], ..depth };
    let error = error_of(&none, Labels::Needed);
    assert!(error.contains("contain no images (`data.image_key = \"x\"`)"), "{error}");

    let bench = Bench::new("");
    let path = dir.path().to_str().unwrap();
    let text = bench.done(&["data", "check", path]);
    assert!(text.contains("  extra images of samples (`mask.png`): 4"), "{text}");
    let text = bench.done(&["data", "check", path, "--set", "data.image_key=.Depth.PNG"]);
    assert!(text.contains("  extra images of samples (`jpg`): 4"), "{text}");
    let said = bench.refused(&["data", "check", path, "--set", "data.image_key=jpg;"], 2);
    assert!(said.contains("data.image_key") && said.contains("contains an empty entry"), "{said}");
    let folder = ["--set", "data.format=imagefolder", "--set", "data.image_key=jpg"];
    let said = bench.refused(&[&["data", "check", path][..], &folder].concat(), 2);
    assert!(said.contains("is for tar shards and parquet files, not for"), "{said}");
}

#[test]
fn input_and_output_belong_together_and_old_runs_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let image = jpeg(24);
    let members: [(&str, &[u8]); 4] = [
        ("s0.input.jpg", &image),
        ("s0.output.cls", b"1"),
        ("s1.input.jpg", &image),
        ("s1.output.cls", b"0"),
    ];
    shard(&dir.path().join("train/0.tar"), &members);
    let plan = shards(dir.path());
    let data = open(&plan, Labels::Unneeded).unwrap();
    assert_eq!((names(&data)[0].as_str(), labels(&data)), ("s0.input.jpg", vec![1, 0]));
    // Older versions did not read these classes, and did not find a validation split in `test`.
    let mut former = Sha256::new();
    for name in ["s0.input.jpg", "s1.input.jpg"] {
        former.update(name);
        former.update([0]);
        former.update((image.len() as u64).to_le_bytes());
        former.update(u32::MAX.to_le_bytes());
    }
    let former: Vec<String> = former.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let former = Some(former.concat());
    assert_eq!(data.former_fingerprint, former);
    shard(&dir.path().join("test/0.tar"), &members);
    let data = open(&plan, Labels::Needed).unwrap();
    assert_eq!((data.facts.val_images, data.former_fingerprint), (2, former));
}

#[test]
fn hidden_members_and_files_of_operating_systems_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (image, double) = (jpeg(24), [0, 5, 22, 7]);
    let members: [(&str, &[u8]); 11] = [
        ("./._0.cls", &double),
        ("./0.cls", b"0"),
        ("./._0.jpg", &double),
        ("./0.jpg", &image),
        (".DS_Store", b"x"),
        ("__MACOSX/0.jpg", b"x"),
        ("Thumbs.db", b"x"),
        ("__index__", b"x"),
        ("x/.cache/1.jpg", &image),
        ("1.jpg", &image),
        ("1.cls", b"1"),
    ];
    shard(&dir.path().join("train/0.tar"), &members);
    shard(&dir.path().join("val/0.tar"), &members);
    fs::write(dir.path().join("train/._0.tar"), double).unwrap();
    let data = open(&shards(dir.path()), Labels::Needed).unwrap();
    assert_eq!(
        (names(&data), labels(&data)),
        (vec!["0.jpg".to_owned(), "1.jpg".to_owned()], vec![0, 1])
    );
    assert_eq!(data.passed_over["AppleDouble files (`._*`)"], 5);
    assert_eq!(data.passed_over["hidden files"], 4);
    assert_eq!((data.passed_over["`__MACOSX`"], data.passed_over["`Thumbs.db`"]), (2, 2));
    let text = Bench::new("").done(&["data", "check", dir.path().to_str().unwrap()]);
    assert!(text.contains("train: 2 images") && text.contains("  hidden files: 4"), "{text}");
}

#[test]
fn a_compressed_shard_is_called_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let image = jpeg(24);
    let kinds: [(&[u8], &str, &str); 6] = [
        (b"\x1f\x8b\x08\x00rest", "a gzip file, not a plain tar file", "`gzip -dc <"),
        (b"\x28\xb5\x2f\xfdrest", "a zstd file, not a plain tar file", "`zstd -dc <"),
        (b"\xfd7zXZ\x00rest", "an xz file, not a plain tar file", "`xz -dc <"),
        (b"PK\x03\x04rest", "the file is a zip archive", "unpack the archive"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "the file is a Git LFS pointer",
            "`git lfs pull`",
        ),
        (b"\n<!DOCTYPE html><html>", "the file is a web page", "download"),
    ];
    for (bytes, is, hint) in kinds {
        for name in ["train-0.tar", "train-0.tar.gz"] {
            fs::write(dir.path().join(name), bytes).unwrap();
            let error = error_of(&shards(dir.path()), Labels::Unneeded);
            assert!(error.contains(name) && error.contains(is) && error.contains(hint), "{error}");
            fs::remove_file(dir.path().join(name)).unwrap();
        }
    }
    // Bytes that are no text do not reach the terminal.
    fs::write(dir.path().join("train-0.tar"), [0x9b; 2048]).unwrap();
    let error = error_of(&shards(dir.path()), Labels::Unneeded);
    assert!(error.contains("does not begin with a tar header"), "{error}");

    shard(&dir.path().join("train-0.tar"), &[("n01.tar", &image), ("n02.zip", &image)]);
    let error = error_of(&shards(dir.path()), Labels::Unneeded);
    assert!(error.contains("mae ignores archives inside the shard (2): n01.tar"), "{error}");

    // Beside other shards, it is a finding.
    shard(&dir.path().join("train-0.tar"), &[("a.jpg", &image)]);
    fs::write(dir.path().join("train-1.tgz"), b"\x1f\x8b\x08\x00rest").unwrap();
    let data = open(&shards(dir.path()), Labels::Unneeded).unwrap();
    assert!(
        data.integrity.lost[0].contains("train-1.tgz: the shard is compressed"),
        "{:?}",
        data.integrity
    );
}
