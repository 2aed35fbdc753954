//! Opens checkpoints of any format. Detects the format from the content of a file, not from the file name.

use super::candidate::{self, Candidate};
use super::content::{Content, Entry};
use super::dialects::Dialect;
use super::error::listed;
use super::facts::Settings;
use super::networks::{self, Network, Networks};
use super::optimizer::{self, OptimizerState};
use super::{
    CheckpointError, Facts, Meta, TensorFile, choose, folder, huggingface, pickle, saved_state,
    sharded, timm,
};
use crate::durable;
use serde_json::Value;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The format of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointFormat {
    /// A checkpoint folder of this program.
    Mae,
    /// A pickle file of PyTorch or Paddle.
    Pickle,
    /// A file or folder with the tensor names of Hugging Face.
    HuggingFace,
    /// A safetensors file with the tensor names of the official code and timm.
    Safetensors,
    /// The file `resume.safetensors` of an unfinished job.
    State,
}

/// An open checkpoint. All tensors have the official names.
#[derive(Debug)]
pub struct Opened {
    /// The checkpoint path from the user's command or recipe.
    pub path: PathBuf,
    pub format: CheckpointFormat,
    pub file: TensorFile,
    pub facts: Facts,
    /// The content of `meta.json`; `None` if another program wrote the checkpoint.
    pub meta: Option<Meta>,
    /// The optimizer state, or the reason why it is not available.
    ///
    /// For a checkpoint folder of this program, call [`Opened::own_optimizer`] instead.
    pub optimizer: Result<OptimizerState, String>,
    /// Training position of an unfinished job, as JSON; `None` for all other checkpoints.
    pub progress: Option<String>,
    /// Notes for the user, one sentence each, for example about ignored tensors.
    pub notes: Vec<String>,
}

/// Opens a checkpoint in any supported format.
///
/// If the checkpoint contains several networks, `prefix` selects one. Fails if the file is damaged, if this program
/// supports none of the networks, or if the choice is ambiguous.
pub fn open(path: &Path, prefix: Option<&str>) -> Result<Opened, CheckpointError> {
    let file = weights_file(path)?;
    let meta = folder::meta_beside(&file)?;
    let (is_pickle, mut content) = read(&file)?;
    if let Some(meta) = &meta {
        content.settings = settings_of(meta);
    }
    let Content { entries, others, attributes, settings, optimizer, first_keys, state, .. } =
        content;
    let Networks { found, outside } = networks::split(entries, others);
    if found.is_empty() {
        return Err(choose::no_network(path, &outside, &first_keys));
    }
    let candidate = |network: Network| {
        let settings = stated(settings.clone(), &network, meta.is_some(), &file)?;
        Ok(candidate::evaluate(network, &attributes, settings))
    };
    let candidates =
        found.into_iter().map(candidate).collect::<Result<Vec<_>, CheckpointError>>()?;
    let (chosen, others) = choose::choose(candidates, prefix, path)?;
    let notes = notes(&chosen, others, &outside, is_pickle);
    let Candidate { dialect, file: tensors, facts, .. } = chosen;
    let none = || Err("the checkpoint has no optimizer state".to_owned());
    let optimizer = match optimizer {
        Some(state) if dialect == Dialect::Official => {
            optimizer::from_dict(state, &chosen.order, chosen.transposed)
        }
        _ => none(),
    };
    let (optimizer, progress) = match state {
        Some((optimizer, progress)) => (Ok(optimizer), Some(progress)),
        None => (optimizer, None),
    };
    let format = match (&meta, dialect) {
        (Some(_), _) => CheckpointFormat::Mae,
        (None, _) if progress.is_some() => CheckpointFormat::State,
        (None, Dialect::HuggingFace) => CheckpointFormat::HuggingFace,
        (None, _) if is_pickle => CheckpointFormat::Pickle,
        (None, _) => CheckpointFormat::Safetensors,
    };
    let facts = facts.expect("only a network without problems is chosen");
    let path = path.to_owned();
    Ok(Opened { path, format, file: tensors, facts, meta, optimizer, progress, notes })
}

/// Reads a checkpoint file, or all files that an index file lists.
///
/// Returns (whether at least one file is a pickle, content).
fn read(file: &Path) -> Result<(bool, Content), CheckpointError> {
    if !sharded::is_index(file) {
        return read_one(file);
    }
    let (mut all, mut is_pickle) = (Content::default(), false);
    for part in sharded::parts(file)? {
        let (pickled, content) = read_one(&part)?;
        is_pickle |= pickled;
        all.append(content);
    }
    Ok((is_pickle, all))
}

fn read_one(file: &Path) -> Result<(bool, Content), CheckpointError> {
    let first = first_bytes(file)?;
    refuse_stand_in(file, &first)?;
    if pickle::recognises(&first) && !is_safetensors(&first) {
        let content = pickle::read(file).and_then(Content::of_pickle);
        let content = content.map_err(|problem| CheckpointError::damaged(file, problem))?;
        return Ok((true, content));
    }
    let (read, others) = TensorFile::read_all(file)?;
    let (tensors, settings, state) = match saved_state::of(file, &read) {
        Some(saved) => (saved.tensors, saved.settings, Some((saved.optimizer, read.note))),
        None => (read.tensors, Settings::default(), None),
    };
    let entry = |(name, tensor)| Entry { name, internal: None, tensor };
    let entries = tensors.into_iter().map(entry).collect();
    let mut content = Content::default();
    (content.entries, content.others) = (entries, others);
    (content.settings, content.state) = (settings, state);
    Ok((false, content))
}

/// Returns the settings in `config.json` if Hugging Face or timm wrote the checkpoint; otherwise `settings`.
fn stated(
    settings: Settings,
    network: &Network,
    is_own: bool,
    file: &Path,
) -> Result<Settings, CheckpointError> {
    if is_own {
        return Ok(settings);
    }
    let damaged = |why| CheckpointError::damaged(file, why);
    let config = json_beside(file, "config.json")?;
    match network.dialect {
        Dialect::HuggingFace if !config.is_null() => {
            let preprocessor = json_beside(file, "preprocessor_config.json")?;
            huggingface::settings(&config, &preprocessor).map_err(damaged)
        }
        Dialect::Official if timm::recognises(&config) => {
            let fc_norm = network.members.iter().any(|(name, _)| name == "fc_norm.weight");
            timm::settings(&config, fc_norm).map_err(damaged)
        }
        _ => Ok(settings),
    }
}

const LISTED: usize = 3;

/// Returns notes for the user about the chosen network and about ignored tensors.
///
/// `others` are notes about ignored networks. `outside` are names of tensors that do not belong to a network.
fn notes(
    chosen: &Candidate,
    others: Vec<String>,
    outside: &[String],
    is_pickle: bool,
) -> Vec<String> {
    let mut notes = Vec::new();
    // The official code stores its weights under `model`.
    if !(chosen.prefix.is_empty() || is_pickle && chosen.prefix == "model.") {
        notes.push(format!(
            "mae reads the weights from the tensors with the prefix `{}`",
            chosen.prefix
        ));
    }
    notes.extend(others);
    if !outside.is_empty() {
        let quoted: Vec<String> = outside.iter().map(|name| format!("`{name}`")).collect();
        notes.push(format!(
            "mae ignores the tensors outside the network: {}",
            listed(&quoted, LISTED)
        ));
    }
    notes.extend(chosen.notes.iter().cloned());
    notes
}

impl Opened {
    /// Reads the optimizer state in a checkpoint folder of this program; `None` if there is no optimizer state.
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

/// Returns the network's settings in `recipe`, a TOML text. Ignores unknown keys.
pub(super) fn own_settings(recipe: &str) -> Settings {
    let recipe: toml::Table = recipe.parse().unwrap_or_default();
    let value = |table: &str, key: &str| recipe.get(table)?.get(key);
    let floats = |key: &str| -> Option<Vec<f64>> {
        value("data", key)?.as_array()?.iter().map(toml::Value::as_float).collect()
    };
    let count = |table: &str, key: &str| usize::try_from(value(table, key)?.as_integer()?).ok();
    Settings {
        num_heads: count("model", "num_heads"),
        input_size: value("data", "input_size").and_then(|size| size.clone().try_into().ok()),
        decoder_num_heads: count("model", "decoder_num_heads"),
        norm_pix_loss: value("pretrain", "norm_pix_loss").and_then(toml::Value::as_bool),
        loss_on: value("pretrain", "loss_on").and_then(|on| on.clone().try_into().ok()),
        mask: value("pretrain", "mask").and_then(|mask| mask.clone().try_into().ok()),
        mask_ratio: value("pretrain", "mask_ratio").and_then(toml::Value::as_float),
        mask_granularity: count("pretrain", "mask_granularity"),
        norm_eps: value("model", "norm_eps").and_then(toml::Value::as_float),
        mean: floats("mean"),
        std: floats("std"),
        ..Settings::default()
    }
}

/// Returns all files of the checkpoint at `path` that affect a job.
///
/// If `resumes` is true, the job continues a training, so the optimizer state also counts.
pub fn content_files(path: &Path, resumes: bool) -> Result<Vec<PathBuf>, CheckpointError> {
    let weights = weights_file(path)?;
    if sharded::is_index(&weights) {
        let parts = sharded::parts(&weights)?;
        return Ok([weights].into_iter().chain(parts).collect());
    }
    let is_own = weights.file_name().is_some_and(|name| name == folder::MODEL);
    let optimizer = weights.with_file_name(folder::OPTIMIZER);
    let has_optimizer = resumes && is_own && optimizer.is_file();
    Ok([weights].into_iter().chain(has_optimizer.then_some(optimizer)).collect())
}

/// Returns the error for a path that does not exist. The hint lists other checkpoints in the same folder.
fn missing(path: &Path) -> CheckpointError {
    let entries = path.parent().and_then(|folder| folder.read_dir().ok());
    let entries = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    let mut there: Vec<PathBuf> = entries.filter(|entry| folder::is_whole(entry)).collect();
    there.sort();
    if there.is_empty() {
        return CheckpointError::not_one(path, "this path does not exist");
    }
    let names = there.iter().filter_map(|entry| entry.file_name());
    let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
    CheckpointError::NotACheckpoint {
        path: path.to_owned(),
        problem: "this path does not exist".to_owned(),
        hint: format!("use a checkpoint in the same folder: {}", names.join(", ")),
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
    let index = sharded::INDEXES.map(|name| path.join(name));
    if let Some(index) = index.into_iter().find(|file| file.is_file()) {
        return Ok(index);
    }
    if path.join(".metadata").is_file() {
        return Err(CheckpointError::NotACheckpoint {
            path: path.to_owned(),
            problem: "this is a distributed PyTorch checkpoint (`.metadata` and `*.distcp` files)"
                .to_owned(),
            hint: format!(
                "join the files first: `python -m torch.distributed.checkpoint.format_utils dcp_to_torch {} FILE.pth`",
                path.display()
            ),
        });
    }
    if let Some(last) = folder::last_epoch(path) {
        let problem = format!(
            "this is the folder of a job, not of a checkpoint. The last checkpoint of the job is {}",
            last.display()
        );
        return Err(CheckpointError::not_one(path, &problem));
    }
    let problem = "this is not a checkpoint folder: `model.safetensors` and `pytorch_model.bin` are both missing";
    Err(CheckpointError::not_one(path, problem))
}

/// Reads the first 64 bytes of a file, to detect the format.
fn first_bytes(file: &Path) -> Result<Vec<u8>, CheckpointError> {
    let mut first = Vec::new();
    let read = fs::File::open(file).and_then(|file| file.take(64).read_to_end(&mut first));
    read.map_err(|e| CheckpointError::unread(file, e))?;
    Ok(first)
}

/// Returns whether `first` looks like the start of a safetensors file: header length, then JSON.
fn is_safetensors(first: &[u8]) -> bool {
    matches!(first, [_, _, _, _, 0, 0, 0, 0, b'{', ..])
}

/// Fails if the file is a Git LFS pointer or a web page instead of weights.
fn refuse_stand_in(file: &Path, first: &[u8]) -> Result<(), CheckpointError> {
    let first = first.trim_ascii_start().to_ascii_lowercase();
    let (problem, hint) = if first.starts_with(b"version https://git-lfs") {
        (
            "this is a Git LFS pointer, not a checkpoint",
            "run `git lfs pull` in the clone, or download the file itself",
        )
    } else if first.starts_with(b"<!doctype") || first.starts_with(b"<html") {
        (
            "this is a web page, not a checkpoint",
            "download the file itself: on Hugging Face, replace `/blob/` with `/resolve/` in the URL",
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

/// Reads the JSON file `name` in the folder of `file`; `Null` if the JSON file does not exist.
fn json_beside(file: &Path, name: &str) -> Result<Value, CheckpointError> {
    let path = file.with_file_name(name);
    if !path.is_file() {
        return Ok(Value::Null);
    }
    let damaged = |problem: String| CheckpointError::damaged(&path, problem);
    let text = durable::read(&path).map_err(|e| CheckpointError::unread(&path, e))?;
    serde_json::from_slice(&text).map_err(|e| damaged(format!("invalid JSON: {e}")))
}
