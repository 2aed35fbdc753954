//! Opens checkpoints of any format. The content of a file decides its format, not its name.

use super::facts::Settings;
use super::optimizer::OptimizerState;
use super::{
    CheckpointError, Facts, HostTensor, Meta, TensorFile, folder, huggingface, pickle, pickled,
    timm,
};
use crate::durable;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The format of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointFormat {
    /// A checkpoint folder of this program.
    Mae,
    /// A pickle of PyTorch or Paddle.
    Pickle,
    /// A file or folder with Hugging Face's tensor names.
    HuggingFace,
    /// A safetensors file with the official tensor names, which timm also uses.
    Safetensors,
}

/// A checkpoint that was read. Its tensors have the official names.
#[derive(Debug)]
pub struct Opened {
    /// The path as the user wrote it.
    pub path: PathBuf,
    pub format: CheckpointFormat,
    pub file: TensorFile,
    pub facts: Facts,
    /// The `meta.json`; `None` if another program wrote the checkpoint.
    pub meta: Option<Meta>,
    /// The optimizer state, or the reason why there is none.
    pub optimizer: Result<OptimizerState, String>,
    /// A message for the user about how the file was read, for example that it has several sets of weights.
    pub note: Option<String>,
}

/// Opens a checkpoint file or folder.
///
/// Reads checkpoints of this program, `.pth` and `.bin` of PyTorch, `.pd` and `.pdparams` of Paddle, safetensors of
/// timm, and Hugging Face folders. Fails if the format is unknown, the file is truncated, or it is not a Vision
/// Transformer.
pub fn open(path: &Path) -> Result<Opened, CheckpointError> {
    let file = weights_file(path)?;
    let first = first_bytes(&file)?;
    refuse_stand_in(&file, &first)?;
    let meta = folder::meta_beside(&file)?;
    let none = "it has no optimizer state".to_owned();
    let mut note = None;
    let (format, tensors, settings, optimizer) = if let Some(meta) = &meta {
        (CheckpointFormat::Mae, TensorFile::read(&file)?.tensors, own_settings(meta), Err(none))
    } else if pickle::recognises(&first) {
        let read = pickle::read(&file).and_then(pickled::from_tree);
        let read = read.map_err(|problem| CheckpointError::damaged(&file, problem))?;
        note = read.note;
        (CheckpointFormat::Pickle, read.tensors, read.settings, read.optimizer)
    } else {
        let tensors = TensorFile::read(&file)?.tensors;
        (CheckpointFormat::Safetensors, tensors, Settings::default(), Err(none))
    };
    let (format, tensors, settings) = if huggingface::recognises(&tensors) {
        let (tensors, settings) = from_huggingface(&file, tensors)?;
        (CheckpointFormat::HuggingFace, tensors, settings)
    } else {
        let config = if meta.is_some() { Value::Null } else { json_beside(&file, "config.json")? };
        let settings = if timm::recognises(&config) {
            let fc_norm = tensors.contains_key("fc_norm.weight");
            timm::settings(&config, fc_norm).map_err(|why| CheckpointError::damaged(&file, why))?
        } else {
            settings
        };
        (format, tensors, settings)
    };
    let tensors = TensorFile { tensors, note: String::new() };
    let facts = Facts::of(&tensors, settings)
        .map_err(|problem| CheckpointError::damaged(&file, problem))?;
    Ok(Opened { path: path.to_owned(), format, file: tensors, facts, meta, optimizer, note })
}

/// Returns the encoder's settings, from the recipe in `meta.json`.
///
/// Leaves out settings that an older version of this program wrote in a different form.
fn own_settings(meta: &Meta) -> Settings {
    let recipe: toml::Table = meta.recipe.parse().unwrap_or_default();
    let value = |table: &str, key: &str| recipe.get(table)?.get(key);
    let floats = |key: &str| -> Option<Vec<f64>> {
        value("data", key)?.as_array()?.iter().map(toml::Value::as_float).collect()
    };
    let num_heads = value("model", "num_heads").and_then(toml::Value::as_integer);
    Settings {
        num_heads: num_heads.and_then(|heads| usize::try_from(heads).ok()),
        norm_eps: value("model", "norm_eps").and_then(toml::Value::as_float),
        mean: floats("mean"),
        std: floats("std"),
        ..Settings::default()
    }
}

/// The error of a missing checkpoint. Names the checkpoints that are in the same folder.
fn missing(path: &Path) -> CheckpointError {
    let entries = path.parent().and_then(|folder| folder.read_dir().ok());
    let entries = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    let mut there: Vec<PathBuf> = entries.filter(|entry| folder::is_whole(entry)).collect();
    there.sort();
    if there.is_empty() {
        return CheckpointError::not_one(path, "it does not exist");
    }
    let names = there.iter().filter_map(|entry| entry.file_name());
    let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
    CheckpointError::NotACheckpoint {
        path: path.to_owned(),
        problem: "it does not exist".to_owned(),
        hint: format!("use a checkpoint that exists in this folder: {}", names.join(", ")),
    }
}

/// Returns the weights file: `path` itself, or a file in the folder `path`.
fn weights_file(path: &Path) -> Result<PathBuf, CheckpointError> {
    if !path.exists() {
        return Err(missing(path));
    }
    if path.is_file() {
        return Ok(path.to_owned());
    }
    let inside = [folder::MODEL, "pytorch_model.bin"].map(|name| path.join(name));
    if let Some(file) = inside.into_iter().find(|file| file.is_file()) {
        return Ok(file);
    }
    if path.join("model.safetensors.index.json").is_file() {
        return Err(CheckpointError::not_one(
            path,
            "its weights are split over several files; save them as one file",
        ));
    }
    if let Some(last) = folder::last_epoch(path) {
        let problem =
            format!("it is the folder of a job, whose last checkpoint is {}", last.display());
        return Err(CheckpointError::not_one(path, &problem));
    }
    let problem =
        "it is not a checkpoint folder: it has neither model.safetensors nor pytorch_model.bin";
    Err(CheckpointError::not_one(path, problem))
}

/// Reads the first bytes of a file, which identify its format.
fn first_bytes(file: &Path) -> Result<Vec<u8>, CheckpointError> {
    let mut first = Vec::new();
    let read = fs::File::open(file).and_then(|file| file.take(64).read_to_end(&mut first));
    read.map_err(|e| CheckpointError::unread(file, e))?;
    Ok(first)
}

/// Fails if `file` is a Git LFS pointer or a web page. People often download these instead of the weights.
fn refuse_stand_in(file: &Path, first: &[u8]) -> Result<(), CheckpointError> {
    let first = first.trim_ascii_start().to_ascii_lowercase();
    let (problem, hint) = if first.starts_with(b"version https://git-lfs") {
        (
            "it is a Git LFS pointer, not a checkpoint",
            "run `git lfs pull` in the clone, or download the file itself",
        )
    } else if first.starts_with(b"<!doctype") || first.starts_with(b"<html") {
        (
            "it is a web page, not a checkpoint",
            "download the file itself: on Hugging Face, write /resolve/ instead of /blob/ in the address",
        )
    } else {
        return Ok(());
    };
    Err(CheckpointError::NotACheckpoint {
        path: file.to_owned(),
        problem: problem.to_owned(),
        hint: hint.to_owned(),
    })
}

type Imported = (BTreeMap<String, HostTensor>, Settings);

fn from_huggingface(
    file: &Path,
    tensors: BTreeMap<String, HostTensor>,
) -> Result<Imported, CheckpointError> {
    let (config, preprocessor) =
        (json_beside(file, "config.json")?, json_beside(file, "preprocessor_config.json")?);
    let settings = match &config {
        Value::Null => Ok(Settings::default()),
        config => huggingface::settings(config, &preprocessor),
    };
    let read = huggingface::to_official(tensors).and_then(|tensors| Ok((tensors, settings?)));
    read.map_err(|problem| CheckpointError::damaged(file, problem))
}

/// Reads the JSON file `name` in the folder of `file`. Returns `Null` if it does not exist.
fn json_beside(file: &Path, name: &str) -> Result<Value, CheckpointError> {
    let path = file.with_file_name(name);
    if !path.is_file() {
        return Ok(Value::Null);
    }
    let damaged = |problem: String| CheckpointError::damaged(&path, problem);
    let text = durable::read(&path).map_err(|e| CheckpointError::unread(&path, e))?;
    serde_json::from_slice(&text).map_err(|e| damaged(format!("it is not valid JSON: {e}")))
}
