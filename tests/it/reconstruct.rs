//! Pictures of reconstructions: `mae reconstruct` for checkpoints of any program, and the pictures of a run.

#![expect(clippy::unwrap_used, reason = "a picture that cannot be read is a failed test")]

use super::program::{Bench, TINY};
use image::RgbImage;
use std::fs;
use std::path::Path;

fn golden(name: &str) -> String {
    format!("{}/tests/golden/checkpoints/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Writes a photograph of 30 x 20 pixels and a digit of 8 x 8 pixels.
fn pictures(bench: &Bench) {
    let photo = RgbImage::from_fn(30, 20, |x, y| image::Rgb([x as u8 * 8, y as u8 * 12, 90]));
    photo.save(bench.path("a.png")).unwrap();
    let digit = image::GrayImage::from_fn(8, 8, |x, _| image::Luma([if x == 3 { 255 } else { 0 }]));
    digit.save(bench.path("one.png")).unwrap();
}

fn open(path: impl AsRef<Path>) -> RgbImage {
    image::open(path).unwrap().into_rgb8()
}

/// Returns the four pictures of a row, from 0, in a figure with one group. Each picture has 112 x 112 pixels.
fn cells(picture: &RgbImage, row: u32) -> [Vec<u8>; 4] {
    let (side, gap, margin) = (112, 8, 16);
    let top = margin + 2 * 18 + gap + row * (side + gap);
    let left = |column: u32| picture.width() - margin - (4 - column) * side - (3 - column) * gap;
    [0, 1, 2, 3].map(|column| {
        image::imageops::crop_imm(picture, left(column), top, side, side).to_image().into_raw()
    })
}

#[test]
fn rows_of_a_figure_share_the_mask_and_the_same_command_gives_the_same_bytes() {
    let bench = Bench::new(TINY);
    pictures(&bench);
    bench.done(&["run", "r.toml", "--stage", "pretrain"]);
    let (two, three) =
        ("runs/tiny/pretrain/checkpoints/epoch-0002", "runs/tiny/pretrain/checkpoints/epoch-0003");
    let draw = |out: &str, more: &[&str]| {
        let args = ["reconstruct", two, three, "--images", "one.png", "-o", out];
        let told = bench.done(&[&args[..], more].concat());
        assert!(told.starts_with(&format!("{out}: ")), "{told}");
        fs::read(bench.path(out)).unwrap()
    };
    let first = draw("a.png", &[]);
    assert!(draw("b.PNG", &["--seed", "0"]) == first);
    assert!(
        draw("c.png", &["--mask-ratio", "0.75"]) == first,
        "the default is the recipe's mask ratio"
    );
    assert!(draw("d.png", &["--seed", "1"]) != first);
    let picture = open(bench.path("a.png"));
    let (row, next) = (cells(&picture, 0), cells(&picture, 1));
    assert!(row[..2] == next[..2], "the same image and mask");
    assert!(row[2] != next[2], "two networks");
    let grey = row[1].chunks(3).filter(|rgb| *rgb == [128; 3]).count();
    assert_eq!(grey, 112 * 112 * 12 / 16);
    draw("e.png", &["--mask-ratio", "0.5,0.9"]);
    assert_eq!(open(bench.path("e.png")).height(), picture.height() + 2 * (112 + 8));
    let norm = ["--set", "pretrain.norm_pix_loss=false"];
    let args = ["reconstruct", two, "--images", "one.png", "-o", "f.png"];
    let error = bench.refused(&[&args[..], &norm].concat(), 2);
    let expected = "`pretrain.norm_pix_loss = false` contradicts the checkpoint";
    assert!(error.contains(expected), "{error}");
    assert!(!bench.path("f.png").exists());
}

#[test]
fn checkpoints_of_any_program_reconstruct_and_share_a_figure() {
    let bench = Bench::new(TINY);
    pictures(&bench);
    let heads = ["--set", "model.num_heads=2", "--set", "model.decoder_num_heads=2"];
    let draw = |checkpoints: &[&str], out: &str, more: &[&str]| {
        let tail = ["--images", "a.png", "one.png", "-o", out];
        bench.mae(&[&["reconstruct"][..], checkpoints, &tail, more].concat())
    };
    let (pth, old, hf) = (
        golden("torch-mae/checkpoint-2.pth"),
        golden("torch-mae/legacy.pth"),
        golden("huggingface-vitmae"),
    );
    let missing = draw(&[&old], "x.png", &heads);
    assert_eq!(missing.status.code(), Some(2));
    let error = String::from_utf8(missing.stderr).unwrap();
    assert!(error.contains("--set pretrain.norm_pix_loss="), "{error}");
    // Both files have the same weights, so they give the same pictures. Only one states `norm_pix_loss`.
    let norm = [&heads[..], &["--set", "pretrain.norm_pix_loss=true"]].concat();
    assert!(draw(&[&pth], "w.png", &heads).status.success());
    let half = [&norm[..], &["--mask-ratio", "0.5"]].concat();
    assert!(draw(&[&pth, &old], "x.png", &half).status.success());
    let (one, both) = (open(bench.path("w.png")), open(bench.path("x.png")));
    assert!(cells(&both, 0) == cells(&both, 1));
    assert!(cells(&both, 0) == cells(&one, 0));
    bench.done(&["run", "r.toml", "--stage", "pretrain"]);
    let own = "runs/tiny/pretrain/checkpoints/epoch-0003";
    assert!(draw(&[&hf, own], "y.png", &[]).status.success());
    assert_eq!(open(bench.path("y.png")).height(), both.height());
}

#[test]
fn what_cannot_be_reconstructed_or_written_is_refused_with_a_hint() {
    let bench = Bench::new(TINY);
    pictures(&bench);
    bench.done(&["run", "r.toml"]);
    let whole = fs::read(bench.path("a.png")).unwrap();
    mae::durable::write(&bench.path("cut.png"), &whole[..whole.len() / 2]).unwrap();
    let mae = "runs/tiny/pretrain/checkpoints/epoch-0003";
    let tuned = "runs/tiny/finetune/from-0003/checkpoints/epoch-0002";
    let probe = "runs/tiny/linprobe/from-0003/checkpoints/epoch-0002";
    let (encoder, classifier) = (golden("torch-mae/encoder-only.pth"), golden("huggingface-vit"));
    let many = vec!["0.5"; 101].join(",");
    for (checkpoint, image, out, more, expected) in [
        (tuned, "a.png", "x.png", &[][..], "fine-tuned classifier without a decoder"),
        (probe, "a.png", "x.png", &[], "linear probe without a decoder"),
        (&encoder, "a.png", "x.png", &[], "encoder without a decoder"),
        (&classifier, "a.png", "x.png", &[], "pretrain/checkpoints/epoch-0800"),
        ("nowhere", "a.png", "x.png", &[], "nowhere"),
        (mae, "gone.png", "x.png", &[], "gone.png"),
        (mae, "cut.png", "x.png", &[], "cut.png: the file is truncated"),
        (mae, "a.png", "x.png", &["--mask-ratio", "1.5"], "expected mask ratios between 0 and 1"),
        (mae, "a.png", "x.png", &["--mask-ratio", "abc"], "expected mask ratios between 0 and 1"),
        (mae, "a.png", "x.png", &["--mask-ratio", "0.5,"], "expected mask ratios between 0 and 1"),
        (mae, "a.png", "x.png", &["--mask-ratio", "0"], "expected mask ratios between 0 and 1"),
        (mae, "a.png", "x.png", &["--mask-ratio", "0.5,0.99"], "keeps none of the 16 patches"),
        (mae, "a.png", "x.png", &["--mask-ratio", "1e-17"], "removes none of the 16 patches"),
        (mae, "a.png", "x.png", &["--mask-ratio", &many], "pass fewer images"),
        (mae, "a.png", "x.png", &["--device", "abacus"], "abacus"),
        (mae, "a.png", "x.jpg", &[], "x.jpg: the name of the figure must end with `.png`"),
        (mae, "a.png", "no/x.png", &[], "the folder does not exist"),
        (mae, "a.png", "", &[], "PNG"),
    ] {
        let args = ["reconstruct", checkpoint, "--images", image, "-o", out];
        let error = bench.refused(&[&args[..], more].concat(), 2);
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(!bench.path("x.png").exists() && !bench.path("no").exists(), "{expected}");
    }
}

#[test]
fn a_run_draws_every_kept_epoch_and_continues_if_drawing_fails() {
    let bench = Bench::new(TINY);
    bench.done(&["run", "r.toml", "--stage", "pretrain"]);
    let folder = bench.path("runs/tiny/pretrain/reconstructions");
    let mut names: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["epoch-0002.png", "epoch-0003.png"]);
    let (two, three) = (open(folder.join("epoch-0002.png")), open(folder.join("epoch-0003.png")));
    assert!(cells(&two, 0)[..2] == cells(&three, 0)[..2], "the same image and mask");
    assert!(cells(&two, 0)[2] != cells(&three, 0)[2], "two networks");
    // A file with the name of the pictures' folder makes drawing fail.
    let other = Bench::new(TINY);
    fs::create_dir_all(other.path("runs/tiny/pretrain")).unwrap();
    mae::durable::Manifest::create(&other.path("runs/tiny"), "tiny").unwrap();
    mae::durable::write(&other.path("runs/tiny/pretrain/reconstructions"), b"").unwrap();
    let output = other.mae(&["run", "r.toml", "--stage", "pretrain"]);
    assert!(output.status.success());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("cannot draw the reconstructions of epoch 2: ")
            && told.contains("Training continues without this figure"),
        "{told}"
    );
    let table = "runs/tiny/accuracy.csv";
    assert_eq!(other.read(table), bench.read(table));
    let weights = "runs/tiny/pretrain/checkpoints/epoch-0003/model.safetensors";
    assert!(fs::read(other.path(weights)).unwrap() == fs::read(bench.path(weights)).unwrap());
}
