//! Opens the checkpoint of a command, and resolves the recipe.

use super::recipe_args::environment;
use super::{CliError, output};
use crate::checkpoint::{self, CheckpointPlan, Meta, Needs, Opened, PlanArgs};
use crate::recipe::Plan;
use crate::{data, train};
use std::path::Path;

pub(super) struct Ready {
    pub(super) opened: Opened,
    pub(super) meta: Meta,
    pub(super) plan: Plan,
}

/// Opens the checkpoint at `path`, resolves the recipe, and prints all warnings.
///
/// `recipe` is a file with `[data]`, `[runtime]` and settings that the checkpoint does not store. `prefix` is the start
/// of the network's tensor names, if the checkpoint has several networks.
pub(super) fn ready(
    path: &Path,
    recipe: Option<&Path>,
    prefix: Option<&str>,
    set: &[String],
    needs: Needs,
) -> Result<Ready, CliError> {
    let opened = checkpoint::open(path, prefix)?;
    for note in &opened.notes {
        output::warning(&format!("{}: {note}", path.display()));
    }
    let env = environment();
    let args = PlanArgs { recipe, set, env: &env, gpus: train::count_gpus };
    let CheckpointPlan { plan, mut meta, warnings } = opened.plan(needs, &args)?;
    for warning in &warnings {
        output::warning(warning);
    }
    if opened.meta.is_none() && meta.class_names.is_empty() && meta.num_classes == 1000 {
        meta.class_names = data::imagenet1k_names();
    }
    Ok(Ready { opened, meta, plan })
}
