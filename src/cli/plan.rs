//! `mae plan`: what a run of a recipe would do.

mod job;
mod price;
mod scale;
mod text;

use super::recipe_args::{RecipeArgs, resolve};
use super::{CliError, output};
use crate::recipe::{Missing, Plan, Resolved, ResolvedPoint};
use crate::run::{self, CheckedPoint, DataCounts, Preflight, Problem, Purpose, RunOptions};
use crate::train::TrainError;
use job::PlannedRun;
use price::Price;
use std::path::PathBuf;

/// Show jobs, steps, parameters, FLOPs, memory and time of a recipe
///
/// Prints the resolved recipe and its jobs, and trains nothing. Prints a warning for each problem that would make `mae
/// run` fail. If the data is missing, the plan uses `data.train_images`, `data.val_images` and `data.num_classes` from
/// the recipe.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Train each stage for 3 seconds to measure its speed, instead of assuming a speed. This needs the data
    #[arg(long)]
    measure: bool,
    /// Folder of all runs. The plan marks jobs that are finished there
    #[arg(long, default_value = "runs", value_name = "DIR")]
    runs: PathBuf,
    /// Estimate the speed for these numbers of hosts, such as `1,8,64`. Each host has `runtime.devices` GPUs
    #[arg(long, value_name = "HOSTS")]
    scale: Option<String>,
    /// Print one JSON object on one line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    output::start_log();
    let missing = if args.measure { Missing::Refuse } else { Missing::Warn };
    let resolved = resolve(&args.recipe.recipe, &args.recipe.set, missing)?;
    let options = RunOptions {
        runs: args.runs.clone(),
        fresh: false,
        break_lock: false,
        only: None,
        command_line: Vec::new(),
    };
    let purpose = if args.measure { Purpose::Run } else { Purpose::Plan };
    let checked = run::preflight(&resolved, &options, purpose);
    refuse_without_numbers(&checked, args.measure)?;
    warn(&resolved, &checked);
    let mut prices = Prices::default();
    if let Some(hosts) = &args.scale {
        return scale(args, &scale::parse(hosts)?, &resolved, &checked);
    }
    let mut runs = Vec::new();
    for (point, checked) in resolved.points.iter().zip(&checked.points) {
        let price = prices.of(point, checked.counts, args.measure)?;
        runs.push(PlannedRun::of(&point.plan, checked, price)?);
    }
    let price = prices.first();
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

/// Prints the estimated speed for different numbers of hosts. Uses only the first point of a sweep.
fn scale(
    args: &Args,
    hosts: &[usize],
    resolved: &Resolved,
    checked: &Preflight,
) -> Result<(), CliError> {
    let (point, checked) = (&resolved.points[0], &checked.points[0]);
    let mut prices = Prices::default();
    let price = prices.of(point, checked.counts, args.measure)?;
    let rows = scale::scaled(&point.plan, checked, price, hosts);
    if args.json {
        let object = serde_json::json!({
            "name": &resolved.name,
            "speed": price.words(),
            "link_gbit": point.plan.runtime.network(1).gbit,
            "latency_s": point.plan.runtime.network(1).latency_s,
            "scale": rows,
        });
        return Ok(output::json(&object)?);
    }
    Ok(output::result(&scale::text(&point.plan, &rows, price))?)
}

/// Prints a warning for each problem that would make `mae run` fail.
fn warn(resolved: &Resolved, checked: &Preflight) {
    let problems = checked.points.iter().flat_map(|point| &point.problems);
    let mut texts: Vec<String> = Vec::new();
    for problem in checked.sweep_problem.iter().chain(problems) {
        let text = format!("`mae run` would fail now: {problem}");
        if !texts.contains(&text) {
            output::warning(&text);
            texts.push(text);
        }
    }
    for (point, checked) in resolved.points.iter().zip(&checked.points) {
        let Some(text) = unknown_counts(&point.plan, checked) else { continue };
        if !texts.contains(&text) {
            output::warning(&text);
            texts.push(text);
        }
    }
}

/// Returns a warning about unknown numbers of images or classes, if the data cannot be opened.
fn unknown_counts(plan: &Plan, checked: &CheckedPoint) -> Option<String> {
    if !checked.has_data_problem() {
        return None;
    }
    let steps = match plan.data.promised.train_images {
        Some(_) => "the plan uses `data.train_images` from the recipe",
        None => "the number of steps is unknown",
    };
    let classes = match plan.data.promised.num_classes {
        Some(_) => String::new(),
        None => format!(", and the plan assumes {} classes", checked.counts.num_classes),
    };
    Some(format!("mae cannot open the data, so {steps}{classes}"))
}

/// Fails if the recipe makes no updates, or if `measure` is true and the data is unusable.
fn refuse_without_numbers(checked: &Preflight, measure: bool) -> Result<(), CliError> {
    let is_fatal = |problem: &Problem| match &**problem {
        TrainError::NeverUpdates(_) => true,
        TrainError::Data(_) => measure,
        _ => false,
    };
    let fatal = |point: &CheckedPoint| point.problems.iter().any(is_fatal);
    match checked.points.iter().find(|point| fatal(point)).and_then(CheckedPoint::refusal) {
        Some(problems) => Err(problems.into()),
        None => Ok(()),
    }
}

/// The training speed of each run. Runs with the same `[data]` and `[runtime]` share an entry.
#[derive(Default)]
struct Prices<'a>(Vec<(&'a Plan, Price)>);

impl<'a> Prices<'a> {
    fn of(
        &mut self,
        point: &'a ResolvedPoint,
        counts: DataCounts,
        measure: bool,
    ) -> Result<&Price, CliError> {
        let plan = &point.plan;
        let is_alike =
            |(known, _): &(&Plan, Price)| known.data == plan.data && known.runtime == plan.runtime;
        if let Some(place) = self.0.iter().position(is_alike) {
            return Ok(&self.0[place].1);
        }
        let price =
            if measure { Price::measure(point, counts.num_classes)? } else { Price::assumed(plan) };
        self.0.push((plan, price));
        Ok(&self.0[self.0.len() - 1].1)
    }

    fn first(&self) -> &Price {
        &self.0.first().expect("a resolved recipe has at least one point").1
    }
}
