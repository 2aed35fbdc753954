//! Pictures that are not 8-bit grey or RGB: 16-bit grey, many bands, floats, in TIFF, PNG and `.npy` files.

#![expect(clippy::disallowed_methods, reason = "these are files of a user")]
#![expect(clippy::unwrap_used, reason = "an error in a helper is a failed test")]

use super::program::{Bench, TINY};
use mae::data::{DataError, Labels, Picture, Pixels, open, picture, transform_picture};
use mae::recipe::{DataPlan, Format};
use std::fs;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/raw").join(name)
}

/// Reads an array as NumPy wrote it: shape and values.
fn array(path: &Path) -> (Vec<usize>, Vec<f64>) {
    let bytes = fs::read(path).unwrap();
    let end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = String::from_utf8_lossy(&bytes[10..end]).into_owned();
    let shape = header.split_once("'shape': (").unwrap().1.split_once(')').unwrap().0;
    let shape = shape.split(',').filter_map(|side| side.trim().parse().ok()).collect();
    let data = &bytes[end..];
    let pairs = data.as_chunks::<2>().0;
    let values = match header.split('\'').nth(3).unwrap() {
        "|u1" => data.iter().map(|byte| f64::from(*byte)).collect(),
        "<u2" => pairs.iter().map(|pair| u16::from_le_bytes(*pair).into()).collect(),
        ">u2" => pairs.iter().map(|pair| u16::from_be_bytes(*pair).into()).collect(),
        "<f4" => data.as_chunks().0.iter().map(|v| f64::from(f32::from_le_bytes(*v))).collect(),
        other => panic!("{other}"),
    };
    (shape, values)
}

/// Returns the bytes of a `.npy` file of 16-bit numbers, `[C, H, W]`.
fn npy(shape: [usize; 3], value: impl Fn(usize) -> u16) -> Vec<u8> {
    let [c, h, w] = shape;
    let header =
        format!("{{'descr': '<u2', 'fortran_order': False, 'shape': ({c}, {h}, {w}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\0".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend((0..c * h * w).flat_map(|i| value(i).to_le_bytes()));
    bytes
}

fn plan(folder: &Path, in_chans: usize, range: [f64; 2]) -> DataPlan {
    DataPlan {
        format: Format::ImageFolder,
        path: folder.to_owned(),
        in_chans,
        range: Some(range),
        mean: vec![0.5; in_chans],
        std: vec![0.25; in_chans],
        ..DataPlan::of_pictures(8, [0.5; 3], [0.25; 3])
    }
}

/// Reads one file with `data.range`, before any transform.
fn read(file: &Path, in_chans: usize, range: [f64; 2]) -> Result<Picture, DataError> {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(file, dir.path().join(file.file_name().unwrap())).unwrap();
    let data = open(&plan(dir.path(), in_chans, range), Labels::Unneeded)?;
    picture(&*data.train, 0)
}

#[test]
fn numbers_are_those_of_tifffile_pillow_and_numpy() {
    let files = fs::read_dir(golden("")).unwrap().map(|entry| entry.unwrap().path());
    let is_picture = |path: &PathBuf| path.extension().is_some_and(|e| e == "tif" || e == "png");
    let pictures: Vec<PathBuf> = files.filter(is_picture).collect();
    assert_eq!(pictures.len(), 9);
    for path in pictures {
        let (shape, values) = array(&path.with_extension("npy"));
        let (channels, plane) = if shape.len() == 3 { (shape[0], 120) } else { (1, 120) };
        // A power of two, so that scaling is exact.
        let range = [0.0, 65536.0];
        for file in [path.clone(), path.with_extension("npy")] {
            let Picture { width, height, channels: read_channels, pixels } =
                read(&file, channels, range).unwrap();
            assert_eq!((width, height, read_channels), (12, 10, channels), "{}", file.display());
            let Pixels::F32(pixels) = pixels else { panic!("floats") };
            let numbers: Vec<f64> = pixels.iter().map(|v| f64::from(*v) * 65536.0).collect();
            let expected: Vec<f64> =
                (0..pixels.len()).map(|i| values[i % channels * plane + i / channels]).collect();
            assert_eq!(numbers, expected, "{}", file.display());
        }
    }
}

#[test]
fn the_range_maps_to_mean_and_std_as_in_numpy() {
    let file = golden("bands5.npy");
    let numbers = array(&file).1;
    let plan = DataPlan { input_size: 12.into(), ..plan(Path::new(""), 5, [1000.0, 40000.0]) };
    let dir = tempfile::tempdir().unwrap();
    // A square picture of the size of the input is not resized.
    let square = dir.path().join("square.npy");
    fs::write(&square, npy([5, 12, 12], |i| numbers[i % numbers.len()] as u16)).unwrap();
    let values = transform_picture(&square, &plan).unwrap();
    let expected = (0..values.len()).map(|i| {
        let scaled = ((numbers[i % numbers.len()] - 1000.0) / 39000.0).clamp(0.0, 1.0) as f32;
        (scaled - 0.5) / 0.25
    });
    assert_eq!(values, expected.collect::<Vec<f32>>());
}

#[test]
fn without_a_range_sixteen_bits_are_read_as_pillow_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(golden("grey16.tif"), dir.path().join("a.tif")).unwrap();
    let plan = DataPlan { range: None, ..plan(dir.path(), 1, [0.0, 1.0]) };
    let data = open(&plan, Labels::Unneeded).unwrap();
    let Pixels::U8(levels) = picture(&*data.train, 0).unwrap().pixels else { panic!("levels") };
    let numbers = array(&golden("grey16.npy")).1;
    assert_eq!(levels, numbers.iter().map(|number| number.min(255.0) as u8).collect::<Vec<u8>>());
    let five = DataPlan { in_chans: 5, ..plan };
    let error = open(&five, Labels::Unneeded).err().unwrap().to_string();
    assert!(error.contains("data.in_chans = 5`") && error.contains("data.range"), "{error}");
}

#[test]
fn files_that_do_not_fit_are_named() {
    let error =
        |file: &str, in_chans| read(&golden(file), in_chans, [0.0, 1.0]).unwrap_err().to_string();
    let text = error("bands5.tif", 3);
    assert!(text.contains("the file has 5 channels, but data.in_chans is 3"), "{text}");
    assert!(text.contains("hint: set data.in_chans = 5"), "{text}");
    assert!(error("grey16.tif", 5).contains("the file has 1 channel, but data.in_chans is 5"));
    let grey = read(&golden("grey16.tif"), 3, [0.0, 1.0]).unwrap();
    assert_eq!(grey.channels, 1, "grey serves for RGB");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("nan.npy");
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1), }\n";
    let length = (header.len() as u16).to_le_bytes();
    let bytes = [b"\x93NUMPY\x01\0", &length[..], header.as_bytes(), &f32::NAN.to_le_bytes()];
    fs::write(&file, bytes.concat()).unwrap();
    let text = read(&file, 1, [0.0, 1.0]).unwrap_err().to_string();
    assert!(text.contains("contains NaN") && text.contains("hint: replace NaN"), "{text}");
    for end in [20, 100, 300] {
        let cut = dir.path().join("cut.tif");
        fs::write(&cut, &fs::read(golden("bands5-tiles-zstd.tif")).unwrap()[..end]).unwrap();
        assert!(read(&cut, 5, [0.0, 1.0]).is_err(), "{end}");
    }
}

/// Makes a data set of two classes with five bands: TIFF files and arrays, and a recipe for it.
fn bands() -> Bench {
    let data =
        "format = \"imagefolder\"\npath = \"bands\"\nin_chans = 5\nrange = [0, 60000]\nworkers = 1";
    let recipe =
        TINY.replace("format = \"digits\"", data).replace("batch_size = 96", "batch_size = 4");
    let bench = Bench::new(&recipe);
    for (split, arrays) in [("train", 4), ("val", 2)] {
        for (class, base) in [("dark", 1000), ("light", 30000)] {
            let folder = bench.path(&format!("bands/{split}/{class}"));
            fs::create_dir_all(&folder).unwrap();
            for i in 0..arrays {
                let number = |at: usize| base + (at * 37 % 9000 + 100 * i) as u16;
                fs::write(folder.join(format!("{i}.npy")), npy([5, 9, 11], number)).unwrap();
            }
            fs::copy(golden("bands5.tif"), folder.join("five.tif")).unwrap();
        }
    }
    bench
}

#[test]
fn five_bands_train_and_are_reconstructed() {
    let bench = bands();
    bench.done(&["run", "r.toml"]);
    let accuracy = bench.read("runs/tiny/accuracy.csv");
    assert!(accuracy.lines().count() > 3, "{accuracy}");
    let encoder = "runs/tiny/pretrain/checkpoints/epoch-0003";
    let images = ["--images", "bands/val/dark/0.npy", "bands/val/light/five.tif"];
    bench.done(&[&["reconstruct", encoder, "-o", "r.png"][..], &images].concat());
    let picture = image::open(bench.path("r.png")).unwrap().into_rgb8();
    assert!(picture.width() > 32 && picture.height() > 16);
    let tuned = "runs/tiny/finetune/from-scratch/checkpoints/epoch-0002";
    let text = bench.done(&["predict", tuned, "bands/val/light/1.npy"]);
    assert!(text.contains("light") && text.contains("dark"), "{text}");
    let evaluated = bench.done(&["eval", tuned]);
    assert!(evaluated.contains('6'), "{evaluated}");
    // The recipe of a finished run keeps the range; a run with another range is another run.
    assert!(bench.read("runs/tiny/recipe.toml").contains("range = [0.0, 60000.0]"));
    let error = bench.refused(&["run", "r.toml", "--set", "data.range=[0, 50000]"], 2);
    assert!(error.contains("data.range"), "{error}");
    let error =
        bench.refused(&["predict", tuned, "bands/val/light/1.npy", "--set", "data.in_chans=3"], 2);
    assert!(error.contains("in_chans"), "{error}");
}

#[test]
fn data_check_prints_the_percentiles_to_copy() {
    let bench = bands();
    let text = bench.done(&["data", "check", "r.toml", "--set", "data.range=[0, 1]"]);
    assert!(text.contains("pixel values in the training files, before scaling:"), "{text}");
    assert!(text.contains("  channel 5: smallest "), "{text}");
    assert!(
        text.contains(
            "range from the 0.5 % to the 99.5 % percentile, for `[data]` in a recipe:\nrange = ["
        ),
        "{text}"
    );
    let json = bench.done(&["data", "check", "r.toml", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["numbers"]["channels"].as_array().unwrap().len(), 5);
    // Grey of 16 bits, without a range: read as before, and said.
    fs::create_dir_all(bench.path("grey")).unwrap();
    fs::copy(golden("grey16.tif"), bench.path("grey/a.tif")).unwrap();
    let grey = ["data", "check", "grey", "--set", "data.in_chans=1"];
    let text = bench.done(&grey);
    assert!(text.contains("images with more than 8 bits: 1. Without `data.range`"), "{text}");
    let mut numbers = array(&golden("grey16.npy")).1;
    numbers.sort_by(f64::total_cmp);
    let ends = format!("channel 1: smallest {}, 0.5 % ", numbers[0]);
    assert!(text.contains(&ends) && text.contains(&format!("largest {}", numbers[119])), "{text}");
}

#[test]
fn arrays_count_as_images_only_with_a_range() {
    let bench = bands();
    fs::create_dir_all(bench.path("arrays")).unwrap();
    fs::write(bench.path("arrays/a.npy"), npy([1, 4, 4], |i| i as u16)).unwrap();
    let error = bench.refused(&["data", "check", "arrays"], 2);
    assert!(error.contains("set `data.range = [lo, hi]` to read the .npy files"), "{error}");
    bench.done(&[
        "data",
        "check",
        "arrays",
        "--set",
        "data.range=[0, 16]",
        "--set",
        "data.in_chans=1",
    ]);
    // Packing keeps the bytes of arrays, and a run on the shards reads them.
    let text = bench.done(&["data", "pack", "r.toml", "shards"]);
    assert!(text.contains("16 images"), "{text}");
    let shards = ["--set", "data.format=webdataset", "--set", "data.path=shards"];
    let check = bench.done(&[&["data", "check", "r.toml"][..], &shards].concat());
    assert!(check.contains("train: 10 images"), "{check}");
    let error = bench.refused(&["data", "pack", "r.toml", "small", "--short-side", "4"], 2);
    assert!(error.contains("with data.range"), "{error}");
}

#[test]
fn settings_that_mean_nothing_for_raw_numbers_are_refused_by_name() {
    let bench = bands();
    let refused = |set: &[&str]| {
        let sets = set.iter().flat_map(|set| ["--set", set]);
        bench.refused(&["plan", "r.toml"].into_iter().chain(sets).collect::<Vec<_>>(), 2)
    };
    let grey = "data.in_chans=1";
    for (sets, expected) in [
        (
            &[grey, "finetune.aa=rand-m9-mstd0.5-inc1"][..],
            "`finetune.aa = \"rand-m9-mstd0.5-inc1\"` needs 8-bit colours, but `data.range` keeps",
        ),
        (
            &[grey, "pretrain.augment.color_jitter=0.4"],
            "`pretrain.augment.color_jitter = 0.4` needs 8-bit colours, but `data.range` keeps",
        ),
        (&["data.range=[5, 5]"], "`data.range = [5.0, 5.0]` is not a valid range"),
        (&["data.format=digits"], "but this `data.format` has no image files"),
    ] {
        let text = refused(sets);
        assert!(text.contains(expected) && text.contains("hint: "), "{text}");
    }
}
