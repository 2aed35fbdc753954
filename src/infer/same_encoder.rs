//! Compares settings in a checkpoint with the recipe: number of heads, LayerNorm epsilon.

use super::error::InferError;
use crate::checkpoint::Opened;
use crate::recipe::ModelPlan;
use std::path::Path;

/// LayerNorm epsilons count as equal if their difference is smaller than this.
const SAME_EPSILON: f64 = 1e-5;

/// Fails if the checkpoint and the recipe differ in the number of heads or in the LayerNorm epsilon.
///
/// Does not compare a value that the checkpoint does not store.
pub fn same_encoder(opened: &Opened, model: &ModelPlan) -> Result<(), InferError> {
    let settings = &opened.facts.settings;
    same_heads(opened, "model.num_heads", settings.num_heads, model.num_heads)?;
    match settings.norm_eps {
        Some(eps) if (eps - model.norm_eps).abs() > SAME_EPSILON => Err(setting(
            &opened.path,
            &format!(
                "the checkpoint has `model.norm_eps = {eps:e}`, but the recipe has `model.norm_eps = {:e}`",
                model.norm_eps
            ),
            &format!("add `--set model.norm_eps={eps:e}`"),
        )),
        _ => Ok(()),
    }
}

/// Fails if the number of heads in the checkpoint (`stated`) differs from the number in the recipe.
///
/// `key` names the recipe key in the error.
pub(crate) fn same_heads(
    opened: &Opened,
    key: &str,
    stated: Option<usize>,
    planned: usize,
) -> Result<(), InferError> {
    match stated {
        Some(stated) if stated != planned => Err(setting(
            &opened.path,
            &format!(
                "the checkpoint has `{key} = {stated}`, but the recipe has `{key} = {planned}`. The weights would load, but \
                 the results would be wrong"
            ),
            &format!("add `--set {key}={stated}`"),
        )),
        _ => Ok(()),
    }
}

fn setting(path: &Path, problem: &str, hint: &str) -> InferError {
    InferError::Setting {
        problem: format!("cannot use {}: {problem}", path.display()),
        hint: hint.to_owned(),
    }
}
