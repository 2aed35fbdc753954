//! Whether a checkpoint's encoder computes as the plan says: shapes do not tell.

use super::error::InferError;
use crate::checkpoint::Opened;
use crate::recipe::ModelPlan;
use std::path::Path;

/// Epsilons that differ by less than this, as 1e-6 and Hugging Face's 1e-12, give the same numbers.
const SAME_EPSILON: f64 = 1e-5;

/// Fails where a file says how its encoder computes and the recipe says otherwise: shapes would not tell.
pub fn same_encoder(opened: &Opened, model: &ModelPlan) -> Result<(), InferError> {
    let settings = &opened.facts.settings;
    same_heads(opened, "model.num_heads", settings.num_heads, model.num_heads)?;
    match settings.norm_eps {
        Some(eps) if (eps - model.norm_eps).abs() > SAME_EPSILON => Err(setting(
            &opened.path,
            &format!(
                "its LayerNorms have an epsilon of {eps:e}, the recipe's {:e}",
                model.norm_eps
            ),
            &format!("--set model.norm_eps={eps:e}"),
        )),
        _ => Ok(()),
    }
}

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
                "it has {key} = {stated}, the recipe {planned}: its shapes fit, its numbers would be wrong"
            ),
            &format!("--set {key}={stated}"),
        )),
        _ => Ok(()),
    }
}

pub(crate) fn setting(path: &Path, problem: &str, hint: &str) -> InferError {
    InferError::Setting { problem: format!("{}: {problem}", path.display()), hint: hint.to_owned() }
}
