//! From the layers to one plan for each point of the grid, or to everything that is wrong.

use std::path::{Path, PathBuf};

use serde_json::{Map, json};
use toml::{Table, Value};

use super::context::{Context, given};
use super::error::{Origin, Problem, RecipeError, RecipeErrors};
use super::jobs::Job;
use super::layers::{self, BaseLayer, Merged};
use super::plan::{DeviceKind, Plan};
use super::schema::{DEFAULTS, KEYS, Recipe};
use super::stated::{Stated, contradictions};
use super::sweep::{self, Point};
use super::training::{self, Setup};
use super::write::{Settings, same_job, settings, toml_text};
use super::{check, name, near, setup};

/// What to do about data that this machine does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// A variable of `data.path` that is not set, or a `from` file that is not there, only warns:
    /// for planning.
    Warn,
    /// It stops: for running.
    Refuse,
}

/// What resolving needs to know of this machine and of the command.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// What to do about data that is not there.
    pub missing_data: Missing,
    /// Counts the GPUs that `devices = "all"` takes of a kind; 0 counts as one device.
    pub gpus: fn(DeviceKind) -> usize,
}

/// A recipe, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The recipe's file, as given.
    pub recipe_path: PathBuf,
    /// The experiment's folder under `runs/`; the points of a sweep are folders in it.
    pub name: String,
    /// The swept keys, in the order of `[sweep]`; empty without a sweep.
    pub swept: Vec<String>,
    /// One for each point of the grid, the first key slowest; exactly one without a sweep.
    pub points: Vec<ResolvedPoint>,
    /// What the user should know, a sentence each.
    pub warnings: Vec<String>,
}

impl Resolved {
    /// Returns the first point: the whole recipe if it has no sweep.
    pub fn into_first(self) -> ResolvedPoint {
        self.points.into_iter().next().expect("a recipe has a point")
    }

    /// Gives the points before `index` of which a job of it is a job, too, and does the same; the first one first.
    pub fn same_job_before(&self, index: usize, job: &Job) -> impl Iterator<Item = &ResolvedPoint> {
        let own = &self.points[index].settings;
        let same = move |point: &&ResolvedPoint| {
            same_job(&point.settings, own, job) && point.plan.jobs().contains(job)
        };
        self.points[..index].iter().filter(same)
    }
}

/// One run.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedPoint {
    /// What will run.
    pub plan: Plan,
    /// The recipe of this point alone, every default written out: resolved again, it gives the same
    /// plan. Of a sweep it keeps one value for each swept key, and with it the point's folder.
    pub recipe: Recipe,
    /// The recipe's, as points are compared by them: made once, for a sweep compares many.
    settings: Settings,
}

/// Resolves the recipe at `path` under the environment `env` and the `--set` arguments `set`
/// (`key=value`).
///
/// Reads recipe files, and of this machine nothing but whether the files of `from` are there.
/// `data.path` and those files are relative to the current directory. Fails with everything that is
/// wrong at once; only where a file cannot be read or is not TOML, with that alone.
pub fn resolve(
    path: &Path,
    env: &[(String, String)],
    set: &[String],
    options: &Options,
) -> Result<Resolved, RecipeErrors> {
    resolve_layers(path, &[BaseLayer::File(path)], env, set, None, options)
}

/// Like [`resolve`], the file's content given: the recipe that a checkpoint carries. `path` names it in messages.
pub fn resolve_text(
    path: &Path,
    text: &str,
    env: &[(String, String)],
    set: &[String],
    options: &Options,
) -> Result<Resolved, RecipeErrors> {
    resolve_layers(path, &[BaseLayer::Text(path, text)], env, set, None, options)
}

/// Resolves the settings of the checkpoint at `path`: `layers`, lowest first, then `set`.
///
/// Also fails if a layer contradicts `stated`, the settings that the checkpoint's weights decide. Every problem names the
/// file or the `--set` argument that the value comes from.
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

/// Returns the key of a `--set` argument, `key=value`.
pub fn set_key(arg: &str) -> &str {
    arg.split('=').next().unwrap_or_default().trim()
}

/// Fails where an argument of `set` (`key=value`) names no key of a recipe: for those that are accepted and not used.
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
    let axes = sweep::take_axes(&mut merged, &mut problems);
    let grid = sweep::grid(&axes);
    let mut points = Vec::new();
    for point in &grid {
        let (tree, origins) = at_point(&merged, point);
        let contradictions =
            stated.map(|stated| contradictions(stated, &tree, &origins, &faulty)).unwrap_or_default();
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
        };
        points.push(resolve_point(tree, point, &mut cx));
        add_new(&mut problems, cx.problems);
        add_new(&mut warnings, cx.warnings);
    }
    if !problems.is_empty() {
        problems.sort_by(|a, b| a.origin.cmp(&b.origin));
        return Err(RecipeErrors(problems));
    }
    let name = points.first().and_then(|point| point.recipe.name.clone()).unwrap_or_default();
    let swept = axes.into_iter().map(|axis| axis.key).collect();
    Ok(Resolved { recipe_path: path.to_owned(), name, swept, points, warnings })
}

/// Gives what the schema refuses and its keys. Defaults take its place, so that the rest can still
/// be checked.
fn check_schema(merged: &mut Merged) -> (Vec<RecipeError>, Vec<String>) {
    let refused = check::take_refused(&mut merged.tree);
    let faulty: Vec<_> = refused.iter().map(|(key, _)| key.clone()).collect();
    for key in &faulty {
        if let Some(default) = default_of(key) {
            sweep::put(&mut merged.tree, key, default.clone());
        }
    }
    let located = |(key, problem)| {
        let origin =
            merged.origins.get(&key).map_or(Origin::Default, |placed| placed.origin.clone());
        RecipeError { key, origin, problem }
    };
    (refused.into_iter().map(located).collect(), faulty)
}

/// Whether a value, as [`super::differences`] writes it, is the built-in default of its key.
pub fn is_default(key: &str, value: &str) -> bool {
    default_of(key).is_some_and(|default| toml_text(default) == value)
}

fn default_of(key: &str) -> Option<&'static Value> {
    let mut parts = key.split('.');
    let first = DEFAULTS.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.get(part))
}

/// The tree with the point's values, which come from where `[sweep]` names them and win over all
/// layers.
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
    let mut recipe: Recipe = tree.try_into().expect("the tree has what the schema takes");
    let name = given(recipe.name.as_ref());
    name::check(&name, cx);
    let data = setup::data(&mut recipe.data, cx);
    let model = setup::model(&mut recipe.model, data.input_size, cx);
    let runtime = setup::runtime(&mut recipe.runtime, cx);
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
        pretrain,
        finetune,
        linprobe,
    };
    ResolvedPoint { plan, settings: settings(&recipe), recipe }
}

fn add_new<T: PartialEq>(all: &mut Vec<T>, new: Vec<T>) {
    for item in new {
        if !all.contains(&item) {
            all.push(item);
        }
    }
}
