//! Unusual image folders: other names of the validation folder, images outside of class folders, ignored files.

#![expect(clippy::disallowed_methods, reason = "these are files of a user")]

use super::data::{error_of, folder, plan, save};
use super::data_sets::{jpeg, shard};
use super::program::Bench;
use mae::data::{Labels, open};
use mae::recipe::Format;
use std::fs;
use std::path::Path;

#[test]
fn the_hubs_names_of_the_validation_split_are_known() {
    let image = jpeg(24);
    for (names, used) in [
        (&["validation"][..], "validation"),
        (&["test"], "test"),
        (&["valid", "test"], "valid"),
        (&["test", "validation", "val"], "val"),
    ] {
        let files: Vec<String> = ["train"]
            .iter()
            .chain(names)
            .flat_map(|n| [format!("{n}/a/1.png"), format!("{n}/b/1.png")])
            .collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let dir = folder(&files);
        let pictures = plan(Format::ImageFolder, dir.path());
        let data = open(&pictures, Labels::Needed).unwrap();
        assert!(data.val.unwrap().name(0).starts_with(dir.path().join(used)), "{names:?}");
        // A pre-training of an older version did not find this split. It may go on.
        let unneeded = open(&pictures, Labels::Unneeded).unwrap();
        assert_eq!(unneeded.fingerprint, data.fingerprint);
        assert_eq!(unneeded.former_fingerprint.is_some(), used != "val", "{names:?}");

        let tars = tempfile::tempdir().unwrap();
        for name in ["train"].iter().chain(names) {
            shard(&tars.path().join(name).join("0.tar"), &[("a.jpg", &image), ("a.cls", b"0")]);
        }
        let data = open(&plan(Format::WebDataset, tars.path()), Labels::Needed).unwrap();
        assert!(data.val.unwrap().name(0).starts_with(tars.path().join(used)), "{names:?}");
    }
    // On the hub, the files may be one or two folders deeper.
    for inside in ["data", "default", "plain_text"] {
        let tars = tempfile::tempdir().unwrap();
        for name in ["train", "validation"] {
            let path = tars.path().join(inside).join(name).join("0.tar");
            shard(&path, &[("a.jpg", &image), ("a.cls", b"0")]);
        }
        let text = Bench::new("").done(&["data", "check", tars.path().to_str().unwrap()]);
        assert!(text.contains("train_images = 1\nval_images = 1"), "{text}");
    }
}

#[test]
fn pictures_in_no_class_folder_are_counted_or_named() {
    let dir = folder(&["train/a/0.jpg", "train/b/0.jpg", "val/0.jpg", "val/1.jpg"]);
    let pictures = plan(Format::ImageFolder, dir.path());
    let error = error_of(&pictures, Labels::Needed);
    assert!(error.contains("val: 2 images are directly in val/, not in class folders"), "{error}");
    let bench = Bench::new("");
    let path = dir.path().to_str().unwrap();
    let output = bench.mae(&["data", "check", path]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("problems of the whole data set: 1\n"), "{text}");
    assert!(text.contains("2 images are directly in val/"), "{text}");

    // Beside class folders, torchvision ignores them.
    for class in ["a", "b"] {
        save(dir.path().join(format!("val/{class}/0.jpg")), super::data::photo(24));
    }
    save(dir.path().join("train/stray.jpg"), super::data::photo(24));
    let data = open(&pictures, Labels::Needed).unwrap();
    assert_eq!((data.facts.train_images, data.facts.val_images), (2, 2));
    assert_eq!(data.passed_over["images directly in val/, not in class folders"], 2);
    let text = bench.done(&["data", "check", path]);
    assert!(text.contains("  images directly in train/, not in class folders: 1"), "{text}");
    // Pre-training uses them.
    assert_eq!(open(&pictures, Labels::Unneeded).unwrap().facts.train_images, 3);
}

#[test]
fn different_classes_are_counted_and_named() {
    let dir = folder(&["train/a/0.png", "train/b/0.png", "train/c/0.png", "valid/b/0.png"]);
    let pictures = plan(Format::ImageFolder, dir.path());
    let error = error_of(&pictures, Labels::Needed);
    let expected = "`train/` and `valid/` have different classes (3 and 1 class folders); only in train/: `a`, `c`";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_folder_of_archives_is_called_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["train/a.zip", "train/b.zip", "val/a.tar.gz"] {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    let error = error_of(&plan(Format::ImageFolder, dir.path()), Labels::Unneeded);
    assert!(error.contains("The folder contains archives: 2 .zip, 1 .gz\nhint: unpack"), "{error}");
}

#[test]
fn files_of_no_use_are_counted_wherever_they_are() {
    let dir = folder(&["train/a/0.png", "train/b/0.png", "val/a/0.png", "val/b/0.png"]);
    for file in ["train/.DS_Store", "train/a/._0.png", "train/a/Thumbs.db", "val/b/.hidden.png"] {
        fs::write(dir.path().join(file), "x").unwrap();
    }
    save(dir.path().join("train/__MACOSX/a/0.png"), super::data::photo(24));
    save(dir.path().join("train/.cache/0.png"), super::data::photo(24));
    fs::write(dir.path().join("train/shards.tar"), "x").unwrap();
    let data = open(&plan(Format::ImageFolder, dir.path()), Labels::Needed).unwrap();
    assert_eq!((data.facts.train_images, data.class_names.len()), (2, 2));
    let counts: Vec<(&str, u64)> = data.passed_over.iter().map(|(w, n)| (w.as_str(), *n)).collect();
    let expected = [
        ("AppleDouble files (`._*`)", 1),
        ("`Thumbs.db`", 1),
        ("`__MACOSX`", 1),
        ("hidden files", 3),
    ];
    assert_eq!(counts, expected);
    let text = Bench::new("").done(&["data", "check", dir.path().to_str().unwrap()]);
    assert!(text.contains("files that mae does not use: 6\n"), "{text}");
    assert!(text.contains("files without an image extension: 1 .tar\n"), "{text}");
}

#[cfg(unix)]
#[test]
fn a_check_lists_every_problem_of_a_folder_at_once() {
    let dir = folder(&["train/a/0.png", "train/b/0.png", "val/b/0.png", "val/c/0.png"]);
    fs::create_dir(dir.path().join("train/empty")).unwrap();
    for link in ["train/gone", "val/b/gone"] {
        std::os::unix::fs::symlink(Path::new("nowhere"), dir.path().join(link)).unwrap();
    }
    std::os::unix::fs::symlink(dir.path(), dir.path().join("train/a/loop")).unwrap();
    fs::write(dir.path().join("val/b/bad.png"), "no picture").unwrap();
    let output = Bench::new("").mae(&["data", "check", dir.path().to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}{said}");
    assert_eq!(said, "error: found 1 unreadable file and 5 problems of the whole data set\n");
    for part in [
        "train/gone: ",
        "val/b/gone: ",
        "leads back to a parent folder",
        "`empty`",
        "only in val/: `c`",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // A run stops at the first problem.
    assert!(error_of(&plan(Format::ImageFolder, dir.path()), Labels::Unneeded).contains("cannot "));
}
