//! Arguments and steps that all commands with a recipe share.

use super::{CliError, launcher, output};
use crate::recipe::{self, Missing, Options, Resolved};
use crate::shape::StageKind;
use crate::train;
use clap::ValueEnum;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub(super) struct RecipeArgs {
    /// TOML file with the recipe
    pub(super) recipe: PathBuf,
    /// Set one key of the recipe, as in `pretrain.mask_ratio=0.5`
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
}

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

/// Resolves the recipe at `path` with `--set` and environment variables. Prints the warnings.
pub(super) fn resolve(
    path: &Path,
    set: &[String],
    missing_data: Missing,
) -> Result<Resolved, CliError> {
    if path.is_dir() {
        let inside = path.join("recipe.toml");
        let hint = if inside.is_file() {
            format!("pass the recipe in this folder, {}", inside.display())
        } else {
            "pass a TOML file, such as `experiments/quickstart.toml`".to_owned()
        };
        return Err(CliError::Usage(format!(
            "cannot read the recipe {}: this is a folder\nhint: {hint}",
            path.display()
        )));
    }
    let resolved = recipe::resolve(
        path,
        &environment(),
        set,
        &Options { missing_data, gpus: train::count_gpus, hosts: launcher::processes() },
    )?;
    for warning in &resolved.warnings {
        output::warning(warning);
    }
    Ok(resolved)
}

/// Resolves the recipe in `text` without environment variables. `path` is the file name in errors.
pub(super) fn resolve_text(path: &Path, text: &str, set: &[String]) -> Result<Resolved, CliError> {
    let (missing_data, gpus) = (Missing::Refuse, train::count_gpus);
    let options = Options { missing_data, gpus, hosts: 1 };
    Ok(recipe::resolve_text(path, text, &[], set, &options)?)
}

/// Returns the environment variables of this process, except `MAE_LOG`.
pub(super) fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name != "MAE_LOG")
        .collect()
}
