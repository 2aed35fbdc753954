//! What every command that takes a recipe shares.

use super::{CliError, output};
use crate::recipe::{self, Missing, Options, Resolved};
use crate::shape::StageKind;
use crate::train;
use clap::ValueEnum;
use std::path::{Path, PathBuf};

/// The recipe and its last layer.
#[derive(clap::Args)]
pub(super) struct RecipeArgs {
    /// The experiment, a TOML file
    pub(super) recipe: PathBuf,
    /// Set one key of the recipe, as `pretrain.mask_ratio=0.5`; the value is TOML, else text
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
}

/// A stage, as an argument.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum StageArg {
    Pretrain,
    Finetune,
    Linprobe,
}

impl From<StageArg> for StageKind {
    fn from(stage: StageArg) -> Self {
        match stage {
            StageArg::Pretrain => Self::Pretrain,
            StageArg::Finetune => Self::Finetune,
            StageArg::Linprobe => Self::Linprobe,
        }
    }
}

/// Resolves a recipe under this process's environment, and prints its warnings.
pub(super) fn resolve(
    path: &Path,
    set: &[String],
    missing_data: Missing,
) -> Result<Resolved, CliError> {
    let resolved = recipe::resolve(
        path,
        &environment(),
        set,
        &Options { missing_data, gpus: train::count_gpus },
    )?;
    for warning in &resolved.warnings {
        output::warning(warning);
    }
    Ok(resolved)
}

/// As [`resolve`], of a text that stands for the recipe at `path`.
pub(super) fn resolve_text(path: &Path, text: &str, set: &[String]) -> Result<Resolved, CliError> {
    let options = Options { missing_data: Missing::Refuse, gpus: train::count_gpus };
    Ok(recipe::resolve_text(path, text, &[], set, &options)?)
}

/// The environment, without the variable that is the log's.
pub(super) fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name != "MAE_LOG")
        .collect()
}
