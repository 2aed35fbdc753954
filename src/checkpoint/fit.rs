//! Loads tensors into modules by name, after comparing all names and shapes.

use super::error::listed;
use super::facts::Settings;
use super::{CheckpointError, Facts, HostTensor, TensorFile};
use crate::model::{self, Mae};
use crate::shape::{EncoderDims, ImageSize};
use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use std::path::Path;

const LISTED: usize = 4;

/// Loads the tensors of `file` into `module`.
///
/// Fails if the tensors of `file` and `module` differ in a name or a shape.
pub fn load_module<M: Module>(
    module: M,
    file: &TensorFile,
    path: &Path,
) -> Result<M, CheckpointError> {
    let params = model::named(&module);
    let unexpected: Vec<&str> = file
        .tensors
        .keys()
        .map(String::as_str)
        .filter(|name| params.iter().all(|p| p.name != *name))
        .collect();
    if !unexpected.is_empty() {
        return Err(does_not_fit(
            file,
            path,
            &format!(
                "the file contains tensors that the model does not have: {}",
                listed(&unexpected, LISTED)
            ),
        ));
    }
    load_named(module, file, path, |_| true, |_, tensor, _| tensor.values.clone())
}

/// The patch grids of position embeddings: `from` in the file, `to` in the model.
#[derive(Debug, Clone, Copy)]
pub struct Grids {
    pub from: ImageSize,
    pub to: ImageSize,
}

impl Grids {
    /// Returns the patch grids of a checkpoint and of an encoder.
    pub fn of(facts: &Facts, encoder: &EncoderDims) -> Self {
        let to = encoder.grid();
        Self { from: facts.grid().unwrap_or(to), to }
    }
}

/// Loads the encoder weights of `file` into `vit`, but not `fc_norm` and the head.
///
/// Resizes the position embeddings if `vit` has a different number of patches, as in the official code.
pub fn load_encoder(
    vit: model::Vit,
    file: &TensorFile,
    path: &Path,
    grids: Grids,
) -> Result<model::Vit, CheckpointError> {
    let encoder = |name: &str| !name.starts_with("head.") && !name.starts_with("fc_norm.");
    load_named(vit, file, path, encoder, |name, tensor, shape| resized(name, tensor, shape, grids))
}

/// Returns the values of a tensor. Resizes position embeddings to `shape`, the shape in the model.
fn resized(name: &str, tensor: &HostTensor, shape: &[usize], grids: Grids) -> Vec<f32> {
    if is_pos_embed(name) && tensor.shape == [1, 1 + grids.from.area(), shape[2]] {
        model::resize_pos_embed(&tensor.values, shape[2], grids.from, grids.to)
    } else {
        tensor.values.clone()
    }
}

pub(super) fn is_pos_embed(name: &str) -> bool {
    ["pos_embed", "decoder_pos_embed"].contains(&name)
}

/// Loads the weights in `file` into `mae`, to start a new pre-training.
///
/// `mae` keeps its own weights for the [`missing_parts`] of `file`. Ignores the head and the `fc_norm` of a classifier.
/// Resizes the position embeddings as [`load_encoder`] does.
pub fn load_start(
    mae: Mae,
    file: &TensorFile,
    path: &Path,
    grids: Grids,
) -> Result<Mae, CheckpointError> {
    let random = missing_parts(file);
    let wanted = |name: &str| !random.iter().any(|part| part.has(name));
    load_named(mae, file, path, wanted, |name, tensor, shape| resized(name, tensor, shape, grids))
}

/// A part of a masked autoencoder that some checkpoints do not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaePart {
    /// The decoder, including the mask token.
    Decoder,
    /// The last LayerNorm of the encoder.
    Norm,
}

impl MaePart {
    /// Returns whether the tensor `name` belongs to this part.
    pub(super) fn has(self, name: &str) -> bool {
        match self {
            Self::Decoder => name.ends_with("mask_token") || name.starts_with("decoder_"),
            Self::Norm => name.starts_with("norm."),
        }
    }
}

/// Returns the parts of a masked autoencoder that `file` does not contain.
pub fn missing_parts(file: &TensorFile) -> Vec<MaePart> {
    let has = |name: &str| file.tensors.contains_key(name);
    let mut missing = Vec::new();
    if !has("decoder_embed.weight") {
        missing.push(MaePart::Decoder);
    }
    if !has("norm.weight") && has("fc_norm.weight") {
        missing.push(MaePart::Norm);
    }
    missing
}

/// Loads the encoder weights of a linear probe into `vit`, including `fc_norm`.
pub fn load_frozen(
    vit: model::Vit,
    file: &TensorFile,
    path: &Path,
) -> Result<model::Vit, CheckpointError> {
    let frozen = |name: &str| !name.starts_with("head.");
    load_named(vit, file, path, frozen, |_, tensor, _| tensor.values.clone())
}

/// Replaces each parameter of `module` if `wanted(parameter name)` is true.
///
/// `values` maps (parameter name, tensor in `file`, parameter shape) to the new values.
fn load_named<M: Module>(
    module: M,
    file: &TensorFile,
    path: &Path,
    wanted: impl Fn(&str) -> bool,
    values: impl Fn(&str, &HostTensor, &[usize]) -> Vec<f32>,
) -> Result<M, CheckpointError> {
    let mut missing = Vec::new();
    let mut shapes = Vec::new();
    let params = model::named(&module);
    for param in params.iter().filter(|p| wanted(&p.name)) {
        match file.tensors.get(&param.name) {
            None => missing.push(param.name.as_str()),
            Some(tensor) => {
                let given = values(&param.name, tensor, &param.shape).len();
                let fits = given == param.shape.iter().product::<usize>()
                    && (is_pos_embed(&param.name) || tensor.shape == param.shape);
                if !fits {
                    shapes.push(format!(
                        "`{}` has the shape {:?}, expected {:?}",
                        param.name, tensor.shape, param.shape
                    ));
                }
            }
        }
    }
    if missing.contains(&"norm.weight") && file.tensors.contains_key("fc_norm.weight") {
        return Err(CheckpointError::DoesNotFit {
            path: path.into(),
            problem: format!("the file does not contain the tensors {}", listed(&missing, LISTED)),
            hint: "set `global_pool = true` in the stage that starts from this checkpoint, because the checkpoint's \
                   `fc_norm` normalizes the mean of the patches"
                .to_owned(),
        });
    }
    if !missing.is_empty() {
        return Err(does_not_fit(
            file,
            path,
            &format!("the file does not contain the tensors {}", listed(&missing, LISTED)),
        ));
    }
    if !shapes.is_empty() {
        return Err(does_not_fit(file, path, &listed(&shapes, LISTED)));
    }
    Ok(model::apply(module, |name, shape, old| {
        let tensor = file.tensors.get(name).filter(|_| wanted(name))?;
        let data = TensorData::new(values(name, tensor, shape), [old.dims()[0]]);
        Some(Tensor::from_data(data, &old.device()))
    }))
}

/// Returns the error for tensors that do not fit the model. The hint lists recipe settings that fit `file`.
fn does_not_fit(file: &TensorFile, path: &Path, problem: &str) -> CheckpointError {
    let hint = match Facts::of(file, Settings::default()) {
        Ok(facts) => {
            let keys: Vec<String> =
                facts.keys().into_iter().map(|(key, value)| format!("`{key} = {value}`")).collect();
            format!("to match the checkpoint, set {}", keys.join(", "))
        }
        Err(_) => "set `[model]`, `data.input_size` and `data.in_chans` to the values from the training of this checkpoint"
            .to_owned(),
    };
    CheckpointError::DoesNotFit { path: path.into(), problem: problem.to_owned(), hint }
}
