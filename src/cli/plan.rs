//! `mae plan`: what a recipe would do; trains nothing.

use super::CliError;
use super::output;
use super::recipe_args::RecipeArgs;
use super::recipe_args::resolve;
use crate::data;
use crate::data::Labels;
use crate::recipe;
use crate::recipe::DataFacts;
use crate::recipe::Job;
use crate::recipe::Missing;
use crate::recipe::Plan;
use crate::recipe::Resolved;
use crate::recipe::Source;
use serde::Serialize;
use std::fmt::Write as _;

/// Print the resolved recipe and its jobs: effective batch, lr, steps, parameters, FLOPs; trains nothing
///
/// Missing data and unset variables are warnings here; `data.train_images` and `data.num_classes` stand in for the data.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Print one JSON object on one line
    #[arg(long)]
    json: bool,
}

/// One job, in numbers.
#[derive(Debug, Serialize)]
struct PlannedJob {
    /// The run's folder; the points of a sweep have one each.
    run: String,
    stage: String,
    /// `null` for a pre-training.
    from: Option<String>,
    dir: String,
    epochs: usize,
    effective_batch_size: usize,
    lr: f64,
    /// Updates in all; `null` where the size of the data is not known.
    steps: Option<usize>,
    params: u64,
    /// Forward, multiply-adds counted as 2.
    flops_per_image: f64,
    memory_bytes: f64,
    /// `data-parallel` or `job-parallel`; `null` with one device.
    schedule: Option<&'static str>,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    output::start_log();
    let resolved = resolve(&args.recipe.recipe, &args.recipe.set, Missing::Warn)?;
    let mut jobs = Vec::new();
    let first = &resolved.points.first().expect("a recipe has a point").plan;
    let facts = facts(first);
    for point in &resolved.points {
        for job in point.plan.jobs() {
            jobs.push(planned(&point.plan, &job, facts)?);
        }
    }
    if args.json {
        return Ok(output::json(&serde_json::json!({ "name": resolved.name, "jobs": jobs }))?);
    }
    Ok(output::result(&text(&resolved, &jobs))?)
}

/// What is known of the data: found, or promised by the recipe where it is not here.
#[derive(Clone, Copy)]
struct Facts {
    train_images: Option<usize>,
    num_classes: usize,
}

fn facts(plan: &Plan) -> Facts {
    let labels = plan.finetune.is_some() || plan.linprobe.is_some();
    let promised = plan.data.promised;
    if let (Some(train_images), Some(num_classes)) = (promised.train_images, promised.num_classes) {
        return Facts { train_images: Some(train_images), num_classes };
    }
    match data::open(&plan.data, if labels { Labels::Needed } else { Labels::Unneeded }) {
        Ok(found) => {
            let DataFacts { train_images, num_classes, .. } = found.facts;
            Facts { train_images: Some(train_images), num_classes }
        }
        Err(error) => {
            let num_classes = promised.num_classes.unwrap_or(1000);
            output::warning(&format!(
                "the data is not there, so steps are not known and {num_classes} classes are assumed: {error}"
            ));
            Facts { train_images: promised.train_images, num_classes }
        }
    }
}

fn planned(plan: &Plan, job: &Job, facts: Facts) -> Result<PlannedJob, CliError> {
    let training = plan.training(job.stage).expect("a job's stage is part of the plan");
    let cost = plan.cost(job.stage, facts.num_classes).expect("a job's stage is part of the plan");
    let steps = match facts.train_images {
        Some(images) => {
            Some(training.steps(job.stage, images).map_err(crate::train::TrainError::from)?)
        }
        None => None,
    };
    Ok(PlannedJob {
        run: plan.name.clone(),
        stage: job.stage.to_string(),
        from: job.from.as_ref().map(|source| match source {
            Source::Scratch => "scratch".to_owned(),
            Source::Epoch(epoch) => epoch.to_string(),
            Source::File(path) => path.display().to_string(),
        }),
        dir: job.dir.clone(),
        epochs: training.epochs,
        effective_batch_size: training.effective_batch_size,
        lr: training.lr,
        steps: steps.map(|steps| steps.total),
        params: cost.params,
        flops_per_image: cost.flops_per_image,
        memory_bytes: cost.memory_bytes,
        schedule: (plan.runtime.devices > 1).then(|| {
            let own = job.is_independent() && plan.is_job_parallel(apart(plan));
            if own { "job-parallel" } else { "data-parallel" }
        }),
    })
}

/// Jobs that can run side by side.
fn apart(plan: &Plan) -> usize {
    plan.jobs().iter().filter(|job| job.is_independent()).count()
}

/// How several devices share the jobs.
fn schedule(plan: &Plan) -> String {
    match plan.runtime.devices {
        1 => String::new(),
        n if plan.is_job_parallel(apart(plan)) => format!(
            ": pre-training on all {n} devices together, then one job on each (job-parallel)"
        ),
        n => format!(": each on all {n} devices together (data-parallel)"),
    }
}

fn text(resolved: &Resolved, jobs: &[PlannedJob]) -> String {
    let mut text = String::new();
    for point in &resolved.points {
        let _ = writeln!(text, "{}", recipe::recipe_toml(&point.recipe));
        let _ = writeln!(text, "# jobs of runs/{}{}", point.plan.name, schedule(&point.plan));
        let _ = writeln!(
            text,
            "# {:<26} {:>6} {:>9} {:>10} {:>9} {:>12} {:>13} {:>10}",
            "job", "epochs", "eff.batch", "lr", "steps", "params", "GFLOPs/image", "memory GiB"
        );
        for job in jobs.iter().filter(|job| job.run == point.plan.name) {
            let steps = job.steps.map_or_else(|| "?".to_owned(), |steps| steps.to_string());
            let _ = writeln!(
                text,
                "# {:<26} {:>6} {:>9} {:>10.4e} {:>9} {:>12} {:>13.4} {:>10.2}",
                job.dir,
                job.epochs,
                job.effective_batch_size,
                job.lr,
                steps,
                job.params,
                job.flops_per_image / 1e9,
                job.memory_bytes / (1u64 << 30) as f64
            );
        }
    }
    text.trim_end().to_owned()
}
