//! `mae eval`: a checkpoint on the validation split.

use super::CliError;
use super::output;
use super::recipe_args::resolve;
use super::run::stop_on_ctrl_c;
use crate::checkpoint;
use crate::checkpoint::Meta;
use crate::data;
use crate::data::Labels;
use crate::recipe;
use crate::recipe::Missing;
use crate::recipe::Options;
use crate::recipe::Plan;
use crate::train;
use crate::train::Classifier;
use crate::train::Evaluated;
use crate::train::Replicas;
use crate::train::Stop;
use std::path::Path;
use std::path::PathBuf;

/// Measure a fine-tuned or probed checkpoint: top-1, top-5 and loss on the validation split
#[derive(clap::Args)]
pub(super) struct Args {
    /// A checkpoint folder, as runs/NAME/finetune/from-0160/checkpoints/epoch-0010
    checkpoint: PathBuf,
    /// Take the data from this recipe instead of the one the checkpoint was trained by
    #[arg(long, value_name = "RECIPE")]
    data: Option<PathBuf>,
    /// Set one key of the recipe, as `data.path=/data/imagenet`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print one JSON object on one line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    output::start_log();
    let (model, meta) = checkpoint::find(&args.checkpoint)?;
    let plan = plan_for(&args.checkpoint, &meta, args.data.as_deref(), &args.set)?;
    let device = train::choose(&plan.runtime)?;
    let classifier = Classifier::load(&model, &meta, &plan, &device.device)?;
    let data = data::open(&plan.data, Labels::Needed)?;
    if data.facts.num_classes != meta.num_classes {
        return Err(CliError::Usage(format!(
            "{} tells {} classes apart, the data has {}\nhint: give the data set it was trained for with --data or --set data.path=...",
            args.checkpoint.display(),
            meta.num_classes,
            data.facts.num_classes
        )));
    }
    let stop = Stop::default();
    stop_on_ctrl_c(&stop);
    let replicas = Replicas::start(device.threads);
    let batch_size = 64;
    match classifier.evaluate(&plan, &data, batch_size, &replicas, &stop)? {
        Evaluated::Metrics(metrics) if args.json => Ok(output::json(&serde_json::json!({
            "top1": metrics.top1,
            "top5": metrics.top5,
            "loss": metrics.loss,
            "images": metrics.images,
        }))?),
        Evaluated::Metrics(metrics) => Ok(output::result(&format!(
            "top-1 {:.2} %, top-5 {:.2} %, loss {:.5} on {} images",
            metrics.top1, metrics.top5, metrics.loss, metrics.images
        ))?),
        Evaluated::Nothing | Evaluated::Stopped => Err(CliError::Interrupted),
    }
}

/// Gives the plan that a checkpoint is used by: its own recipe's, with `[data]` and `[runtime]` of `other` where given.
///
/// `set` goes on top of `other`, or of the checkpoint's own recipe where there is none. The input size stays the model's.
pub(super) fn plan_for(
    checkpoint: &Path,
    meta: &Meta,
    other: Option<&Path>,
    set: &[String],
) -> Result<Plan, CliError> {
    let own_set = if other.is_some() { &[][..] } else { set };
    let options = Options { missing_data: Missing::Warn, gpus: 0 };
    let carried = checkpoint.join("meta.json");
    let own = recipe::resolve_text(&carried, &meta.recipe, &[], own_set, &options)?;
    let mut plan = only_point(own);
    if let Some(other) = other {
        let other = only_point(resolve(other, set, Missing::Warn)?);
        plan.runtime = other.runtime;
        plan.data = recipe::DataPlan { input_size: plan.data.input_size, ..other.data };
    }
    Ok(plan)
}

fn only_point(resolved: recipe::Resolved) -> Plan {
    resolved.points.into_iter().next().expect("a recipe has a point").plan
}
