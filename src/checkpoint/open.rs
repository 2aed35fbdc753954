//! Opens checkpoints of any format. The content of a file decides its format, not its name.

use super::facts::Settings;
use super::optimizer::OptimizerState;
use super::{
    CheckpointError, Facts, HostTensor, Meta, TensorFile, folder, huggingface, pickle, pickled,
    saved_state, timm,
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
    /// A file with the names of Hugging Face.
    HuggingFace,
    /// A safetensors file with the official names; timm uses the same names.
    Safetensors,
    /// A `resume.safetensors` of this program: the state of an unfinished job.
    State,
}

/// An opened checkpoint. Its tensors have the official names.
#[derive(Debug)]
pub struct Opened {
    /// The path as the user wrote it.
    pub path: PathBuf,
    pub format: CheckpointFormat,
    pub file: TensorFile,
    pub facts: Facts,
    /// The `meta.json`, which only checkpoints of this program have.
    pub meta: Option<Meta>,
    /// The optimizer state, or the reason why there is none. For a checkpoint folder of this program, call
    /// [`Opened::own_optimizer`] instead.
    pub optimizer: Result<OptimizerState, String>,
    /// The position of an unfinished job in its training, as JSON. Other formats do not have it.
    pub progress: Option<String>,
    /// A warning about how the file was read, such as which of several sets of weights.
    pub note: Option<String>,
}

/// Opens a file or folder: checkpoints of this program, `.pth` and `.bin` of PyTorch, `.pd` and `.pdparams` of Paddle,
/// safetensors of timm, Hugging Face folders.
///
/// Fails if the format is unknown, the file is truncated, or it is not a Vision Transformer.
pub fn open(path: &Path) -> Result<Opened, CheckpointError> {
    let file = weights_file(path)?;
    let first = first_bytes(&file)?;
    refuse_stand_in(&file, &first)?;
    let meta = folder::meta_beside(&file)?;
    let none = "it has no optimizer state".to_owned();
    let (mut note, mut progress) = (None, None);
    let (format, tensors, settings, optimizer) = if let Some(meta) = &meta {
        (CheckpointFormat::Mae, TensorFile::read(&file)?.tensors, settings_of(meta), Err(none))
    } else if pickle::recognises(&first) {
        let read = pickle::read(&file).and_then(pickled::from_tree);
        let read = read.map_err(|problem| CheckpointError::damaged(&file, problem))?;
        note = read.note;
        (CheckpointFormat::Pickle, read.tensors, read.settings, read.optimizer)
    } else {
        let read = TensorFile::read(&file)?;
        if let Some(state) = saved_state::of(&file, &read) {
            progress = Some(read.note.clone());
            (CheckpointFormat::State, state.tensors, state.settings, Ok(state.optimizer))
        } else {
            (CheckpointFormat::Safetensors, read.tensors, Settings::default(), Err(none))
        }
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
    let path = path.to_owned();
    Ok(Opened { path, format, file: tensors, facts, meta, optimizer, progress, note })
}

impl Opened {
    /// Reads the optimizer state beside the weights of a checkpoint folder of this program; `None` if it was not kept.
    pub fn own_optimizer(&self) -> Result<Option<OptimizerState>, CheckpointError> {
        let path = weights_file(&self.path)?.with_file_name(folder::OPTIMIZER);
        let Some(meta) = self.meta.as_ref().filter(|_| path.is_file()) else { return Ok(None) };
        let read = TensorFile::read(&path)?;
        let state = OptimizerState::of_file(read, meta.epoch);
        state.map(Some).map_err(|problem| CheckpointError::damaged(&path, problem))
    }
}

fn settings_of(meta: &Meta) -> Settings {
    Settings { epoch: Some(meta.epoch), ..own_settings(&meta.recipe) }
}

/// Returns the settings of the network from `recipe`, the recipe of a checkpoint of this program.
///
/// Leaves out settings that an older version of this program wrote in a different form.
pub(super) fn own_settings(recipe: &str) -> Settings {
    let recipe: toml::Table = recipe.parse().unwrap_or_default();
    let value = |table: &str, key: &str| recipe.get(table)?.get(key);
    let floats = |key: &str| -> Option<Vec<f64>> {
        value("data", key)?.as_array()?.iter().map(toml::Value::as_float).collect()
    };
    let heads = |key: &str| usize::try_from(value("model", key)?.as_integer()?).ok();
    Settings {
        num_heads: heads("num_heads"),
        decoder_num_heads: heads("decoder_num_heads"),
        norm_pix_loss: value("pretrain", "norm_pix_loss").and_then(toml::Value::as_bool),
        mask_ratio: value("pretrain", "mask_ratio").and_then(toml::Value::as_float),
        norm_eps: value("model", "norm_eps").and_then(toml::Value::as_float),
        mean: floats("mean"),
        std: floats("std"),
        ..Settings::default()
    }
}

/// Returns the files of the checkpoint at `path` whose content affects a job that starts from it.
///
/// `resumes` says whether the job also takes the optimizer state.
pub fn content_files(path: &Path, resumes: bool) -> Result<Vec<PathBuf>, CheckpointError> {
    let weights = weights_file(path)?;
    let is_own = weights.file_name().is_some_and(|name| name == folder::MODEL);
    let optimizer = weights.with_file_name(folder::OPTIMIZER);
    let has_optimizer = resumes && is_own && optimizer.is_file();
    Ok([weights].into_iter().chain(has_optimizer.then_some(optimizer)).collect())
}

/// Returns the error for a missing checkpoint. The hint names the checkpoints in the same folder.
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

/// Reads the bytes that identify the format.
fn first_bytes(file: &Path) -> Result<Vec<u8>, CheckpointError> {
    let mut first = Vec::new();
    let read = fs::File::open(file).and_then(|file| file.take(64).read_to_end(&mut first));
    read.map_err(|e| CheckpointError::unread(file, e))?;
    Ok(first)
}

/// Fails for files that people often download instead of weights: Git LFS pointers and web pages.
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

/// Reads a JSON file beside `file`; returns `Null` if it does not exist.
fn json_beside(file: &Path, name: &str) -> Result<Value, CheckpointError> {
    let path = file.with_file_name(name);
    if !path.is_file() {
        return Ok(Value::Null);
    }
    let damaged = |problem: String| CheckpointError::damaged(&path, problem);
    let text = durable::read(&path).map_err(|e| CheckpointError::unread(&path, e))?;
    serde_json::from_slice(&text).map_err(|e| damaged(format!("it is not valid JSON: {e}")))
}
