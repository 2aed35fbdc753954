//! `mae plan`: what a recipe would do; trains nothing.

mod job;
mod price;
mod text;

use super::recipe_args::{RecipeArgs, resolve};
use super::{CliError, output};
use crate::data::{self, DataError, Labels};
use crate::recipe::{DataFacts, Job, Missing, Plan, Resolved, ResolvedPoint, Source};
use crate::shape::StageKind;
use crate::{results, train};
use job::PlannedRun;
use price::{Price, is_for_this_cpu};
use std::path::{Path, PathBuf};

/// Print the resolved recipe and its jobs: effective batch, lr, steps, parameters, FLOPs, memory, time; trains nothing
///
/// Missing data and unset variables are warnings here; `data.train_images` and `data.num_classes` stand in for the data.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Time each stage on this machine for some seconds, instead of assuming a speed; needs the data
    #[arg(long)]
    measure: bool,
    /// The folder that holds all runs: what is done there is marked
    #[arg(long, default_value = "runs", value_name = "DIR")]
    runs: PathBuf,
    /// Print one JSON object on one line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    output::start_log();
    let missing = if args.measure { Missing::Refuse } else { Missing::Warn };
    let resolved = resolve(&args.recipe.recipe, &args.recipe.set, missing)?;
    let mut runs = Vec::new();
    let (mut known, mut told): (Vec<SharedFacts>, Vec<String>) = (Vec::new(), Vec::new());
    for (index, point) in resolved.points.iter().enumerate() {
        // Points on the same data and device share what is found out about them.
        let alike = |SharedFacts { plan, .. }: &SharedFacts| {
            plan.data == point.plan.data && plan.runtime == point.plan.runtime
        };
        let place = if let Some(place) = known.iter().position(alike) {
            place
        } else {
            let (facts, fingerprint) = facts(&point.plan, args.measure)?;
            let price = price(point, facts, args.measure)?;
            known.push(SharedFacts { plan: &point.plan, facts, fingerprint, price });
            known.len() - 1
        };
        let SharedFacts { facts, fingerprint, price, .. } = &known[place];
        let folder = args.runs.join(&point.plan.name);
        let (mut errors, seen) = sources(&resolved, index, facts.num_classes);
        match results::refuse_other(&folder, &point.recipe) {
            Err(error) => errors.push(error.to_string()),
            Ok(()) => errors.extend(other_data(&folder, fingerprint.as_deref())),
        }
        if is_for_this_cpu(&point.plan) {
            let stages: Vec<StageKind> = point.plan.jobs().iter().map(|job| job.stage).collect();
            let memory = train::check_cpu_memory(&point.plan, &stages, facts.num_classes);
            errors.extend(memory.err().map(|error| error.to_string()));
        }
        for error in errors {
            if !told.contains(&error) {
                output::warning(&format!("`mae run` will refuse this, as things are: {error}"));
                told.push(error);
            }
        }
        runs.push(PlannedRun::of(&resolved, index, *facts, price, (&args.runs, seen))?);
    }
    let price = &known.first().expect("a recipe has a point").price;
    if args.json {
        let jobs: Vec<_> = runs.iter().flat_map(|run| &run.jobs).collect();
        let (name, assumed) = (&resolved.name, price.words());
        let wall_s = job::sum(runs.iter().map(|run| run.wall_s));
        let object =
            serde_json::json!({ "name": name, "speed": assumed, "wall_s": wall_s, "jobs": jobs });
        return Ok(output::json(&object)?);
    }
    Ok(output::result(&text::text(&resolved, &runs, price, &args.runs))?)
}

/// What is wrong where the run in `folder` began with other data.
fn other_data(folder: &Path, fingerprint: Option<&str>) -> Option<String> {
    results::refuse_other_data(folder, fingerprint?).err().map(|error| error.to_string())
}

/// Looks at the files that a point starts from, those that are there and that no earlier point has used alike. Gives what is wrong,
/// and how many epochs the pre-training goes on after.
fn sources(resolved: &Resolved, index: usize, num_classes: usize) -> (Vec<String>, Option<usize>) {
    let plan = &resolved.points[index].plan;
    let jobs = plan.jobs();
    let first = |job: &&Job| resolved.same_job_before(index, job).next().is_none();
    let pretrain = jobs.iter().filter(first).find(|job| job.stage == StageKind::Pretrain);
    let resume = pretrain.and(plan.pretrain.as_ref()).and_then(|pretrain| pretrain.resume.as_ref());
    let resume = resume.filter(|path| path.exists()).map(|path| train::check_resume(path, plan));
    let seen = resume.as_ref().and_then(|seen| seen.as_ref().ok()).copied();
    let there = |job: &&Job| matches!(&job.from, Some(Source::File(path)) if path.exists());
    let sources = jobs.iter().filter(there).filter(first);
    let sources = sources.map(|job| train::check_source(job, plan, num_classes).map(drop));
    let errors =
        resume.map(|seen| seen.map(drop)).into_iter().chain(sources).filter_map(Result::err);
    (errors.map(|error| error.to_string()).collect(), seen)
}

fn price(point: &ResolvedPoint, facts: DataSummary, measure: bool) -> Result<Price, CliError> {
    if measure { Price::measure(point, facts.num_classes) } else { Ok(Price::assumed(&point.plan)) }
}

/// What points on the same data and device share.
struct SharedFacts<'a> {
    plan: &'a Plan,
    facts: DataSummary,
    /// The data's, where it was looked at.
    fingerprint: Option<String>,
    price: Price,
}

/// What is known of the data: found, or promised by the recipe where it is not here.
#[derive(Clone, Copy)]
struct DataSummary {
    train_images: Option<usize>,
    val_images: Option<usize>,
    num_classes: usize,
}

fn facts(plan: &Plan, needed: bool) -> Result<(DataSummary, Option<String>), CliError> {
    let labels = plan.finetune.is_some() || plan.linprobe.is_some();
    let promised = plan.data.promised;
    let all = (promised.train_images, promised.num_classes, promised.val_images);
    if let (false, (Some(train_images), Some(num_classes), val_images @ Some(_))) = (needed, all) {
        return Ok((
            DataSummary { train_images: Some(train_images), val_images, num_classes },
            None,
        ));
    }
    match data::open(&plan.data, if labels { Labels::Needed } else { Labels::Unneeded }) {
        Ok(found) => {
            let DataFacts { train_images, num_classes, val_images } = found.facts;
            let (train_images, val_images) = (Some(train_images), Some(val_images));
            Ok((DataSummary { train_images, val_images, num_classes }, Some(found.fingerprint)))
        }
        Err(error) if needed => Err(error.into()),
        Err(error) => {
            let num_classes = promised.num_classes.unwrap_or(1000);
            let unknown = match promised.train_images {
                Some(_) => "the recipe's counts stand in for it",
                None => "steps are not known",
            };
            let classes = match promised.num_classes {
                Some(_) => String::new(),
                None => format!(", {num_classes} classes are assumed"),
            };
            let problem = match &error {
                DataError::Setting { .. } => "`mae run` will refuse the data",
                _ if plan.data.path.exists() => "the data cannot be used as it is",
                _ => "the data is not there",
            };
            output::warning(&format!("{problem}; {unknown}{classes}: {error}"));
            let (train_images, val_images) = (promised.train_images, promised.val_images);
            Ok((DataSummary { train_images, val_images, num_classes }, None))
        }
    }
}
