//! Images that are not square, through all stages and commands.

#![expect(clippy::unwrap_used, reason = "an error in a helper is a failed test")]

use super::data::{photo, plan, save};
use super::program::{Bench, TINY};
use mae::checkpoint::TensorFile;
use mae::data::transform_picture;
use mae::model::{resize_pos_embed, sincos_pos_embed};
use mae::recipe::{DataPlan, Format};
use mae::shape::ImageSize;
use std::path::Path;

fn bench(size: &str) -> Bench {
    Bench::new(&TINY.replace("input_size = 8", &format!("input_size = {size}")))
}

fn tensors(bench: &Bench, folder: &str) -> TensorFile {
    TensorFile::read(&bench.path(folder).join("model.safetensors")).unwrap()
}

/// The number of patches plus the class token is a square number: 3 x 5 + 1.
#[test]
fn all_stages_and_commands_take_height_and_width() {
    let bench = bench("[6, 10]");
    bench.done(&["plan", "r.toml"]);
    bench.done(&["run", "r.toml"]);
    assert!(bench.read("runs/tiny/recipe.toml").contains("input_size = [6, 10]"));
    let encoder = "runs/tiny/pretrain/checkpoints/epoch-0003";
    let file = tensors(&bench, encoder);
    let grid = ImageSize { height: 3, width: 5 };
    assert_eq!(file.tensors["pos_embed"].values, sincos_pos_embed(16, grid));
    let figure = "runs/tiny/pretrain/reconstructions/epoch-0003.png";
    assert!(image::open(bench.path(figure)).is_ok());
    save(bench.path("photo.png"), photo(40));
    bench.done(&["reconstruct", encoder, "--images", "photo.png", "-o", "r.png"]);
    let tuned = "runs/tiny/finetune/from-scratch/checkpoints/epoch-0002";
    bench.done(&["predict", tuned, "photo.png"]);
    bench.done(&["eval", tuned]);
    // Hugging Face's config.json keeps the size.
    bench.done(&["convert", encoder, "hf", "--to", "huggingface"]);
    let config: serde_json::Value = serde_json::from_str(&bench.read("hf/config.json")).unwrap();
    assert_eq!(config["image_size"], serde_json::json!([6, 10]));
    bench.done(&["convert", "hf", "back.safetensors", "--to", "official"]);
    let back = TensorFile::read(&bench.path("back.safetensors")).unwrap();
    assert_eq!(back.tensors["pos_embed"].values, file.tensors["pos_embed"].values);
    let output = bench.mae(&["convert", tuned, "out.safetensors", "--to", "official"]);
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(said.contains("img_size = [6, 10]"), "{said}");
}

#[test]
fn position_embeddings_are_resized_between_any_grids() {
    let bench = bench("[6, 10]");
    bench.done(&["run", "r.toml", "--stage", "pretrain"]);
    let encoder = "runs/tiny/pretrain/checkpoints/epoch-0003";
    let from = format!("pretrain.from={encoder}");
    let sets = ["--set", &from, "--set", "name=other", "--set", "data.input_size=[8, 6]"];
    let run = ["run", "r.toml", "--stage", "pretrain", "--set", "pretrain.lr=0"];
    bench.done(&[&run[..], &sets].concat());
    let old = &tensors(&bench, encoder).tensors["pos_embed"].values;
    let new = &tensors(&bench, "runs/other/pretrain/checkpoints/epoch-0003").tensors["pos_embed"];
    let [from, to] = [[3, 5], [4, 3]].map(|[height, width]| ImageSize { height, width });
    assert_eq!(new.values, resize_pos_embed(old, 16, from, to));
}

#[test]
fn blocks_and_grids_of_patches_are_masked() {
    let bench = bench("[8, 16]");
    for mask in ["block", "grid"] {
        let (mask, name) = (format!("pretrain.mask={mask}"), format!("name={mask}"));
        bench.done(&["run", "r.toml", "--stage", "pretrain", "--set", &mask, "--set", &name]);
    }
    let refused = |set: &str| {
        bench.refused(&["plan", "r.toml", "--set", set, "--set", "pretrain.mask=grid"], 2)
    };
    let error = refused("data.input_size=[6, 16]");
    assert!(error.contains("even number of patches per side, but an image has 3 x 8"), "{error}");
    let error = bench.refused(&["plan", "r.toml", "--set", "data.input_size=[7, 16]"], 2);
    assert!(error.contains("`data.input_size = [7, 16]` is not a multiple of"), "{error}");
    assert!(error.contains("set `data.input_size` to [6, 16] or [8, 16]"), "{error}");
    let error = bench.refused(&["plan", "r.toml", "--set", "data.input_size=[8, 16, 8]"], 2);
    assert!(error.contains("a list of 2 values"), "{error}");
}

#[test]
fn two_equal_sides_are_one_number() {
    let bench = bench("[8, 8]");
    bench.done(&["run", "r.toml", "--stage", "pretrain"]);
    assert!(bench.read("runs/tiny/recipe.toml").contains("input_size = 8\n"));
    // The same run: nothing is left to do.
    bench.done(&["run", "r.toml", "--stage", "pretrain", "--set", "data.input_size=8"]);
}

#[test]
fn evaluation_covers_the_size_and_takes_the_centre() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("photo.png");
    // Columns have their own colour, and rows do not matter.
    let picture = image::RgbImage::from_fn(90, 30, |x, _| image::Rgb([(x * 2) as u8; 3]));
    save(file.clone(), picture);
    let size = ImageSize { height: 30, width: 60 };
    // A side above 224 pixels would resize to the size itself; 30 x 60 resizes to 34 x 102 and takes the centre.
    let plan = DataPlan { input_size: size, ..plan(Format::ImageFolder, Path::new("")) };
    let values = transform_picture(&file, &plan).unwrap();
    assert_eq!(values.len(), 3 * 30 * 60);
    let level = |x: usize| (values[x] * 0.5 + 0.5) * 255.0;
    assert!((level(30) - level(29) - 2.0 * 90.0 / 102.0).abs() < 1.01, "{}", level(30) - level(29));
    assert!((f64::from(level(29) + level(30)) / 2.0 - 89.0).abs() < 1.5, "{}", level(29));
    assert_eq!(values[..60], values[29 * 60..30 * 60]);
}
