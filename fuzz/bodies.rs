//! The bodies of the fuzz targets: each gives bytes to one reader and drops what it returns.
//!
//! A body fails if the reader panics. An error is the right answer to damaged bytes.

use mae::data::{self, Labels};
use mae::recipe::{self, DataPlan, Missing, Options};
use mae::results::{Comparison, read_results};
use mae::{checkpoint, durable};
use std::path::Path;
use tempfile::TempDir;

const OPTIONS: Options = Options { missing_data: Missing::Warn, gpus: |_| 0, hosts: 1 };

/// Returns a recipe with one pre-training. `data` has the TOML lines of its `[data]` table.
fn recipe_of(data: &str) -> String {
    format!(
        "name = \"fuzz\"\n[data]\n{data}\ninput_size = 8\n[model]\npatch_size = 2\nembed_dim = 16\ndepth = 1\n\
         num_heads = 2\n[pretrain]\nepochs = 2\nwarmup_epochs = 1\n"
    )
}

/// Resolves a recipe.
pub(crate) fn recipe(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = recipe::resolve_text(Path::new("experiments/fuzz.toml"), &text, &[], &[], &OPTIONS);
}

/// Opens a checkpoint of PyTorch or Paddle.
pub(crate) fn pickle(bytes: &[u8]) {
    let dir = folder_with(&[("weights.pth", bytes)]);
    let _ = checkpoint::open(&dir.path().join("weights.pth"), None);
}

/// Opens a safetensors file: the tensors alone, and as a checkpoint.
pub(crate) fn safetensors(bytes: &[u8]) {
    let dir = folder_with(&[("model.safetensors", bytes)]);
    let path = dir.path().join("model.safetensors");
    let _ = checkpoint::TensorFile::read(&path);
    let _ = checkpoint::open(&path, None);
}

/// Lists the samples of a shard and decodes each.
pub(crate) fn tar_index(bytes: &[u8]) {
    let dir = folder_with(&[("train/0.tar", bytes), ("val/0.tar", bytes)]);
    read_all("webdataset", dir.path());
}

/// Lists the rows of a parquet file and decodes each.
pub(crate) fn parquet(bytes: &[u8]) {
    let dir = folder_with(&[("train-0.parquet", bytes), ("validation-0.parquet", bytes)]);
    read_all("parquet", dir.path());
}

/// Decodes a picture. Its format follows from its content; the seeds are JPEG.
pub(crate) fn jpeg_scan(bytes: &[u8]) {
    pictures(bytes);
}

/// Decodes a picture. Its format follows from its content; the seeds are of all formats but JPEG.
pub(crate) fn pictures(bytes: &[u8]) {
    let dir = folder_with(&[("picture.jpg", bytes)]);
    let _ = data::read_picture(&dir.path().join("picture.jpg"));
}

/// Reads a log of the official code, a table of results and a table of epochs.
pub(crate) fn logs(bytes: &[u8]) {
    let run = recipe_of("format = \"digits\"");
    let dir = folder_with(&[
        ("log.txt", bytes),
        ("linprobe/log.txt", bytes),
        ("accuracy.csv", bytes),
        ("run/recipe.toml", run.as_bytes()),
        ("run/pretrain/epochs.csv", bytes),
    ]);
    for name in ["log.txt", "linprobe/log.txt", "accuracy.csv"] {
        let path = dir.path().join(name).display().to_string();
        // The published figures are the second run that a comparison needs.
        if let Ok(comparison) = Comparison::read(&[path], &["mae-paper".to_owned()]) {
            let _ = comparison.text();
        }
    }
    let _ = read_results(&dir.path().join("run"));
}

/// Writes files into a new temporary folder. The folder is in memory if the system has a file system in memory.
fn folder_with(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let dir = dir.expect("the temporary folder is writable");
    for (name, bytes) in files {
        durable::write(&dir.path().join(name), bytes).expect("the temporary folder is writable");
    }
    dir
}

/// Opens a data set and decodes every picture.
fn read_all(format: &str, path: &Path) {
    let Some(plan) = data_plan(format, path) else { return };
    let Ok(data) = data::open(&plan, Labels::Needed) else { return };
    for split in [Some(&data.train), data.val.as_ref()].into_iter().flatten() {
        for index in 0..split.len() {
            let _ = data::picture(split.as_ref(), index);
        }
    }
}

/// Returns the data settings of a recipe with this path; `None` if this build does not support the format.
fn data_plan(format: &str, path: &Path) -> Option<DataPlan> {
    let text = recipe_of(&format!("format = \"{format}\"\npath = \"{}\"", path.display()));
    let resolved = recipe::resolve_text(Path::new("fuzz.toml"), &text, &[], &[], &OPTIONS).ok()?;
    resolved.points.into_iter().next().map(|point| point.plan.data)
}
