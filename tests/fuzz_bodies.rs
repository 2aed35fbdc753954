//! The bodies of the fuzz targets, on stable Rust: a few changed bytes never make a reader panic.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a seed that cannot be read is a failed test"
)]

#[path = "../fuzz/bodies.rs"]
#[cfg_attr(
    not(feature = "parquet"),
    expect(dead_code, reason = "this build reads no parquet files")
)]
mod bodies;

use proptest::prelude::*;
use std::fs;
use std::path::Path;

/// One change of a file. A place is a fraction of the file's length, so that it exists in a file of any size.
#[derive(Debug, Clone)]
enum Change {
    Flip {
        place: f64,
        bit: u8,
    },
    Set {
        place: f64,
        byte: u8,
    },
    /// Overwrites bytes that may be a length with a little-endian number.
    Number {
        place: f64,
        width: usize,
        value: u64,
    },
    Zero {
        place: f64,
        length: usize,
    },
    Remove {
        place: f64,
        length: usize,
    },
    Repeat {
        place: f64,
        from: f64,
        length: usize,
    },
    Truncate {
        place: f64,
    },
}

/// A place in a file: half of them near its ends, where headers and directories are.
fn place() -> impl Strategy<Value = f64> {
    prop_oneof![2 => 0.0..1.0, 1 => 0.0..0.05, 1 => 0.95..1.0]
}

fn change() -> impl Strategy<Value = Change> {
    let numbers = prop::sample::select(vec![
        0,
        1,
        0xffff,
        0x7fff_ffff,
        0xffff_ffff,
        1 << 40,
        1 << 62,
        u64::MAX,
    ]);
    let width = prop::sample::select(vec![1_usize, 2, 4, 8]);
    prop_oneof![
        3 => (place(), 0..8_u8).prop_map(|(place, bit)| Change::Flip { place, bit }),
        2 => (place(), any::<u8>()).prop_map(|(place, byte)| Change::Set { place, byte }),
        2 => (place(), width, numbers)
            .prop_map(|(place, width, value)| Change::Number { place, width, value }),
        1 => (place(), 1..600_usize).prop_map(|(place, length)| Change::Zero { place, length }),
        1 => (place(), 1..64_usize).prop_map(|(place, length)| Change::Remove { place, length }),
        1 => (place(), place(), 1..200_usize)
            .prop_map(|(place, from, length)| Change::Repeat { place, from, length }),
        1 => place().prop_map(|place| Change::Truncate { place }),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    if bytes.is_empty() {
        return;
    }
    let len = bytes.len();
    let at = |place: f64| ((place * len as f64) as usize).min(len - 1);
    match *change {
        Change::Flip { place, bit } => bytes[at(place)] ^= 1 << bit,
        Change::Set { place, byte } => bytes[at(place)] = byte,
        Change::Number { place, width, value } => {
            let begin = at(place);
            let width = width.min(len - begin);
            bytes[begin..begin + width].copy_from_slice(&value.to_le_bytes()[..width]);
        }
        Change::Zero { place, length } => {
            let begin = at(place);
            bytes[begin..(begin + length).min(len)].fill(0);
        }
        Change::Remove { place, length } => {
            let begin = at(place);
            bytes.drain(begin..(begin + length).min(len));
        }
        Change::Repeat { place, from, length } => {
            let (begin, from) = (at(place), at(from));
            let part = bytes[from..(from + length).min(len)].to_vec();
            bytes.splice(begin..begin, part);
        }
        Change::Truncate { place } => bytes.truncate(at(place)),
    }
}

fn changed(seed: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for change in changes {
        apply(&mut bytes, change);
    }
    bytes
}

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A shard of four samples.
fn shard() -> Vec<u8> {
    let picture = golden("golden/decode/grey.jpg");
    let mut tar = tar::Builder::new(Vec::new());
    for key in 0..4 {
        let label = (key % 2).to_string();
        for (ending, content) in [("jpg", picture.as_slice()), ("cls", label.as_bytes())] {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            tar.append_data(&mut header, format!("{key:06}.{ending}"), content).unwrap();
        }
    }
    tar.into_inner().unwrap()
}

const LOG: &str = "{\"train_lr\": 0.0001, \"train_loss\": 2.3, \"test_acc1\": 10.5, \"test_acc5\": 50.0, \"epoch\": 0}\n\
                   {\"train_lr\": 0.0002, \"train_loss\": 2.1, \"test_acc1\": 11.5, \"test_acc5\": 51.0, \"epoch\": 1}\n";
const ACCURACY: &str = "pretrain_epoch,annealed,finetune_top1,finetune_top5,finetune_best_top1,finetune_best_epoch,\
                        linprobe_top1,linprobe_top5,linprobe_best_top1,pretrain_loss,finetune_run,linprobe_run\r\n\
                        2,0,10.56,54.44,10.56,2,,,,0.96252,finetune/from-0002,\r\n";
const EPOCHS: &str = "epoch,lr,train_loss,grad_norm,images_per_s,seconds,data_wait_s\r\n\
                      1,0.0001,1.2,0.5,1000.0,1.5,0.1\r\n2,0.0002,1.1,0.4,1000.0,1.5,0.1\r\n";

/// Runs `body` on the unchanged seed files, and then on changed copies.
fn holds(body: fn(&[u8]), seeds: &[Vec<u8>], cases: u32) {
    for seed in seeds {
        body(seed);
    }
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let input = (prop::sample::select(seeds.to_vec()), prop::collection::vec(change(), 1..5));
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let result = runner.run(&input, |(seed, changes)| {
        body(&changed(&seed, &changes));
        Ok(())
    });
    result.expect("a changed file makes the reader panic");
}

#[test]
fn recipes_never_panic() {
    let quickstart = include_bytes!("../experiments/quickstart.toml").to_vec();
    let ablation = include_bytes!("../experiments/ablation_mask_ratio.toml").to_vec();
    holds(bodies::recipe, &[quickstart, ablation], 1_000);
}

#[test]
fn pickles_never_panic() {
    let names =
        ["checkpoint-2.pth", "legacy.pth", "half.pth", "encoder-only.pth", "weights.pdparams"];
    let seeds = names.map(|name| golden(&format!("golden/checkpoints/torch-mae/{name}")));
    holds(bodies::pickle, &seeds, 1_000);
}

#[test]
fn safetensors_never_panic() {
    let names = ["timm-token", "huggingface-vitmae"];
    let seeds = names.map(|name| golden(&format!("golden/checkpoints/{name}/model.safetensors")));
    holds(bodies::safetensors, &seeds, 1_000);
}

#[test]
fn shards_never_panic() {
    holds(bodies::tar_index, &[shard()], 300);
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_files_never_panic() {
    let seeds = ["train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"]
        .map(|name| golden(&format!("parquet/{name}.parquet")));
    holds(bodies::parquet, &seeds, 500);
}

#[test]
fn pictures_never_panic() {
    let names =
        ["cmyk.jpg", "exif6.jpg", "grey.jpg", "progressive.jpg", "q90-420.jpg", "palette.png"];
    let seeds = names.map(|name| golden(&format!("golden/decode/{name}")));
    holds(bodies::jpeg_scan, &seeds, 1_000);
}

#[test]
fn pictures_of_other_formats_never_panic() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures");
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| !matches!(path.extension().and_then(|e| e.to_str()), Some("py" | "csv")));
    paths.sort();
    let seeds: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(seeds.len() > 30);
    holds(bodies::pictures, &seeds, 3_000);
}

#[test]
fn logs_never_panic() {
    let seeds = [LOG, ACCURACY, EPOCHS].map(|text| text.as_bytes().to_vec());
    holds(bodies::logs, &seeds, 1_000);
}
