//! Resolves a recipe: returns one plan per run of its sweep, or all problems.

use std::path::{Path, PathBuf};

use serde_json::{Map, json};
use toml::{Table, Value};

use super::context::{Context, given};
use super::error::{Origin, Problem, RecipeError, RecipeErrors};
use super::jobs::Job;
use super::layers::{self, BaseLayer, Merged};
use super::plan::{DeviceKind, Plan};
use super::schema::{DEFAULTS, KEYS, OPTIONAL_TABLES, Recipe};
use super::stated::{Stated, contradictions};
use super::sweep::{self, Point};
use super::training::{self, Setup};
use super::write::{Settings, same_job, settings, toml_text};
use super::{check, measures, name, near, setup};

/// What to do if the data or checkpoint files of a recipe are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Adds a warning. Used by `mae plan`.
    Warn,
    /// Returns an error.
    Refuse,
    /// Returns an error for missing data. Lists missing checkpoint files in [`ResolvedPoint::missing`].
    ///
    /// Used by `mae run`, because finished jobs no longer need their checkpoint files.
    RefuseIfNeeded,
}

/// A checkpoint file in `from` or `resume` that does not exist.
#[derive(Debug, Clone, PartialEq)]
pub struct MissingFile {
    pub path: PathBuf,
    /// The error to report if a job needs the missing file.
    pub error: RecipeError,
}

/// Options of [`resolve`].
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// What to do if the data or checkpoint files are missing.
    pub missing_data: Missing,
    /// Returns the number of GPUs of a kind, for `devices = "all"`.
    pub gpus: fn(DeviceKind) -> usize,
    /// Number of hosts for `hosts = "auto"`.
    pub hosts: usize,
}

/// A resolved recipe, with one entry per run.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The path of the recipe file as the user typed it.
    pub recipe_path: PathBuf,
    /// Name of the experiment and of its folder in `runs/`.
    pub name: String,
    /// The swept keys; empty without a sweep.
    pub swept: Vec<String>,
    /// All runs of the sweep; exactly one run without a sweep.
    ///
    /// The first swept key changes slowest.
    pub points: Vec<ResolvedPoint>,
    /// Warnings for the user, one sentence each.
    pub warnings: Vec<String>,
}

impl Resolved {
    /// Returns the first run; without a sweep, this is the only run.
    pub fn into_first(self) -> ResolvedPoint {
        self.points.into_iter().next().expect("a recipe has at least one point")
    }

    /// Returns the runs before `points[index]` that contain `job` with the same settings.
    pub fn same_job_before(&self, index: usize, job: &Job) -> impl Iterator<Item = &ResolvedPoint> {
        let own = &self.points[index].settings;
        let same = move |point: &&ResolvedPoint| {
            same_job(&point.settings, own, job) && point.plan.jobs().contains(job)
        };
        self.points[..index].iter().filter(same)
    }
}

/// One run of a recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedPoint {
    /// The settings of the run.
    pub plan: Plan,
    /// The recipe of this run, with all defaults written out.
    ///
    /// In a sweep, `[sweep]` contains only this run's value of each key.
    pub recipe: Recipe,
    /// Checkpoint files that do not exist; always empty without [`Missing::RefuseIfNeeded`].
    pub missing: Vec<MissingFile>,
    /// The settings of `recipe` as text, for comparisons between runs.
    settings: Settings,
}

/// Resolves the recipe at `path` with environment variables and `--set` arguments.
///
/// Paths of data and checkpoints are relative to the current directory. The error contains all problems of the recipe.
pub fn resolve(
    path: &Path,
    env: &[(String, String)],
    set: &[String],
    options: &Options,
) -> Result<Resolved, RecipeErrors> {
    resolve_layers(path, &[BaseLayer::File(path)], env, set, None, options)
}

/// Resolves `text` like a recipe file. Error messages show `path` as the file.
pub fn resolve_text(
    path: &Path,
    text: &str,
    env: &[(String, String)],
    set: &[String],
    options: &Options,
) -> Result<Resolved, RecipeErrors> {
    resolve_layers(path, &[BaseLayer::Text(path, text)], env, set, None, options)
}

/// Resolves the settings of the checkpoint at `path`.
///
/// Later `layers` override earlier ones, and `set` overrides all layers. Fails if a value contradicts `stated`, the
/// settings that the weights determine, such as the depth.
pub fn resolve_checkpoint(
    path: &Path,
    layers: &[BaseLayer<'_>],
    stated: &Recipe,
    set: &[String],
    options: &Options,
) -> Result<ResolvedPoint, RecipeErrors> {
    let stated = Stated { path, settings: stated };
    Ok(resolve_layers(path, layers, &[], set, Some(stated), options)?.into_first())
}

/// Returns the key of the `--set` argument `key=value`.
pub fn set_key(arg: &str) -> &str {
    arg.split('=').next().unwrap_or_default().trim()
}

/// Fails if a `--set` argument has an unknown key or no `=`.
pub fn check_keys(set: &[String]) -> Result<(), RecipeErrors> {
    let unknown = set.iter().filter_map(|arg| {
        let key = set_key(arg);
        if KEYS.iter().any(|known| known == key) && arg.contains('=') {
            return None;
        }
        let problem = Problem::UnknownKey { near: near::key(key, &[]) };
        Some(RecipeError { key: key.to_owned(), origin: Origin::Set { arg: arg.clone() }, problem })
    });
    let unknown: Vec<RecipeError> = unknown.collect();
    if unknown.is_empty() { Ok(()) } else { Err(RecipeErrors(unknown)) }
}

fn resolve_layers(
    path: &Path,
    base: &[BaseLayer<'_>],
    env: &[(String, String)],
    set: &[String],
    stated: Option<Stated<'_>>,
    options: &Options,
) -> Result<Resolved, RecipeErrors> {
    let mut warnings = Vec::new();
    let mut merged = layers::merge(base, env, set, &mut warnings).map_err(RecipeErrors)?;
    name::default_to_file(&mut merged, path);
    let (mut problems, faulty) = check_schema(&mut merged);
    if faulty.iter().any(|key| key == "name") {
        // Without a valid name nothing else can be resolved. All other keys have a default.
        return Err(RecipeErrors(problems));
    }
    let axes = sweep::take_axes(&mut merged, &mut problems);
    let grid = sweep::grid(&axes);
    let mut points = Vec::new();
    for point in &grid {
        let (tree, origins) = at_point(&merged, point);
        let contradictions = stated
            .map(|stated| contradictions(stated, &tree, &origins, &faulty))
            .unwrap_or_default();
        if !contradictions.is_empty() {
            add_new(&mut problems, contradictions);
            continue;
        }
        let mut cx = Context {
            origins: &origins,
            faulty: &faulty,
            env,
            options,
            problems: Vec::new(),
            warnings: Vec::new(),
            missing: Vec::new(),
        };
        points.push(resolve_point(tree, point, &mut cx));
        add_new(&mut problems, cx.problems);
        add_new(&mut warnings, cx.warnings);
    }
    if !problems.is_empty() {
        let missing = points.iter().flat_map(|point| &point.missing);
        add_new(&mut problems, missing.map(|missing| missing.error.clone()).collect());
        problems.sort_by(|a, b| a.origin.cmp(&b.origin));
        return Err(RecipeErrors(problems));
    }
    let name = points.first().and_then(|point| point.recipe.name.clone()).unwrap_or_default();
    let swept = axes.into_iter().map(|axis| axis.key).collect();
    Ok(Resolved { recipe_path: path.to_owned(), name, swept, points, warnings })
}

/// Replaces invalid values by defaults. Returns the problems and the invalid keys.
fn check_schema(merged: &mut Merged) -> (Vec<RecipeError>, Vec<String>) {
    let refused = check::take_refused(&mut merged.tree);
    let faulty: Vec<_> = refused.iter().map(|(key, _)| key.clone()).collect();
    for key in &faulty {
        if let Some(default) = default_of(key) {
            sweep::put(&mut merged.tree, key, default.clone());
        }
    }
    // If a layer set a table to a plain value, the merge also removed the defaults of this table.
    fill(&mut merged.tree, &DEFAULTS);
    let located = |(key, problem)| {
        let origin =
            merged.origins.get(&key).map_or(Origin::Default, |placed| placed.origin.clone());
        RecipeError { key, origin, problem }
    };
    (refused.into_iter().map(located).collect(), faulty)
}

/// Adds missing defaults to `table`, but no optional table such as `[pretrain]`.
fn fill(table: &mut Table, defaults: &Table) {
    for (key, default) in defaults {
        match (table.get_mut(key), default) {
            (Some(Value::Table(inner)), Value::Table(defaults)) => fill(inner, defaults),
            (None, _) if !OPTIONAL_TABLES.contains(&key.as_str()) => {
                drop(table.insert(key.clone(), default.clone()));
            }
            _ => {}
        }
    }
}

/// Returns whether the TOML text `value` is the built-in default of `key`.
pub fn is_default(key: &str, value: &str) -> bool {
    default_of(key).is_some_and(|default| toml_text(default) == value)
}

fn default_of(key: &str) -> Option<&'static Value> {
    let mut parts = key.split('.');
    let first = DEFAULTS.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.get(part))
}

/// Returns the values for one run of a sweep, and where each value is set.
fn at_point(merged: &Merged, point: &Point<'_>) -> (Table, layers::Origins) {
    let Merged { mut tree, mut origins } = merged.clone();
    for (key, value) in point {
        sweep::put(&mut tree, key, (*value).clone());
        if let Some(mut placed) = origins.get(&format!("sweep.{key}")).cloned() {
            placed.rank = usize::MAX;
            origins.insert((*key).to_owned(), placed);
        }
    }
    (tree, origins)
}

fn resolve_point(tree: Table, point: &Point<'_>, cx: &mut Context<'_>) -> ResolvedPoint {
    let mut recipe: Recipe = tree.try_into().expect("the tree fits the schema");
    let name = given(recipe.name.as_ref());
    name::check(&name, cx);
    let data = setup::data(&mut recipe.data, cx);
    let model = setup::model(&mut recipe.model, data.input_size, cx);
    let runtime = setup::runtime(&mut recipe.runtime, cx);
    setup::refuse_skipping_on_hosts(&data, &runtime, cx);
    let setup = Setup { data: &data, model: &model, runtime: &runtime };
    let pretrain = recipe.pretrain.as_mut().map(|table| training::pretrain(table, &setup, cx));
    let finetune = recipe
        .finetune
        .as_mut()
        .map(|table| training::finetune(table, pretrain.as_ref(), &setup, cx));
    let linprobe = recipe
        .linprobe
        .as_mut()
        .map(|table| training::linprobe(table, pretrain.as_ref(), &setup, cx));
    let knn = recipe.knn.as_ref().map(|table| measures::knn(table, pretrain.as_ref(), cx));
    let robustness_classes =
        recipe.robustness.as_ref().and_then(|table| table.classes).unwrap_or_default();
    let robustness = recipe.robustness.as_mut();
    let robustness = robustness.map(|table| measures::robustness(table, finetune.as_ref(), cx));
    if !point.is_empty() {
        let one_value = |(key, value): &(&str, &Value)| ((*key).to_owned(), json!([*value]));
        recipe.sweep = Some(point.iter().map(one_value).collect::<Map<_, _>>());
    }
    let plan = Plan {
        name: if point.is_empty() { name } else { format!("{name}/{}", sweep::folder(point)) },
        swept: point.iter().map(|(key, value)| ((*key).to_owned(), toml_text(value))).collect(),
        seed: given(recipe.seed.as_ref()),
        data,
        model,
        runtime,
        save_every: setup::save_every(&recipe.checkpoint),
        pretrain,
        finetune,
        linprobe,
        knn,
        robustness: robustness.unwrap_or_default(),
        robustness_classes,
    };
    let missing = std::mem::take(&mut cx.missing);
    ResolvedPoint { plan, settings: settings(&recipe), recipe, missing }
}

fn add_new<T: PartialEq>(all: &mut Vec<T>, new: Vec<T>) {
    for item in new {
        if !all.contains(&item) {
            all.push(item);
        }
    }
}
