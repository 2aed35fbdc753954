//! Reads the arguments of `mae compare`: folders, tables, logs, patterns and published tables.

use super::error::CompareError;
use super::log::read_log;
use super::published::published;
use super::run::{ComparisonRow, Run};
use super::table::read_table;
use super::text_file;
use crate::recipe;
use crate::results::read_checked::read_checked;
use crate::results::{AccuracyRow, Remedy, Results, RunError, TRASH, read_results};
use std::path::{Path, PathBuf};

const WHAT: &str = "pass the folder of a run or a sweep (`runs/quickstart`), a table (`accuracy.csv`), or a `log.txt` \
                    of the official code";

/// Reads the runs in `arguments` and the published tables `names`.
///
/// If two arguments mean the same run, the result contains this run once.
pub(super) fn read(arguments: &[String], names: &[String]) -> Result<Vec<Run>, CompareError> {
    let mut runs: Vec<Run> = Vec::new();
    let mut seen: Vec<PathBuf> = Vec::new();
    for argument in arguments {
        let before = seen.len();
        for run in read_argument(argument)? {
            let place = Path::new(&run.place);
            let place = place.canonicalize().unwrap_or_else(|_| place.to_owned());
            // All runs of one table have the same path. So the path of such a run is compared only with the paths of
            // earlier arguments.
            let again = if run.recipe.is_some() { seen.len() } else { before };
            if !seen[..again].contains(&place) {
                runs.push(run);
            }
            seen.push(place);
        }
    }
    // Fail if the arguments name a single run. A sweep of which one run has started is accepted.
    let itself =
        |argument: &String| Path::new(argument).canonicalize().ok().as_ref() == seen.first();
    if runs.len() == 1 && names.is_empty() && arguments.first().is_none_or(itself) {
        return Err(CompareError::Alone(runs[0].place.clone()));
    }
    tell_apart(&mut runs);
    runs.iter_mut().for_each(one_file_has_no_name);
    for (index, name) in names.iter().enumerate() {
        if !names[..index].contains(name) {
            runs.extend(published(name)?);
        }
    }
    Ok(runs)
}

fn read_argument(argument: &str) -> Result<Vec<Run>, CompareError> {
    let path = Path::new(argument);
    if path.is_dir() {
        let log = path.join("log.txt");
        return match read_folder(path) {
            // An output folder of the official code.
            Err(CompareError::Run(RunError::NoRun(_))) if log.is_file() => read_file(&log),
            read => read,
        };
    }
    if path.exists() {
        return read_file(path);
    }
    if argument.contains(['*', '?', '[']) {
        return read_pattern(argument);
    }
    let below = Path::new("runs").join(argument);
    let hint =
        if below.is_dir() { format!("did you mean {}?", below.display()) } else { WHAT.to_owned() };
    Err(CompareError::NotThere { path: argument.to_owned(), hint })
}

/// Reads the runs that match a glob pattern: folders, or files if no folder matches.
fn read_pattern(pattern: &str) -> Result<Vec<Run>, CompareError> {
    let no_match = |hint: String| CompareError::NoMatch { pattern: pattern.to_owned(), hint };
    let found = glob::glob(pattern).map_err(|e| no_match(format!("correct the pattern: {e}")))?;
    let found: Vec<PathBuf> = found.filter_map(Result::ok).collect();
    let in_trash =
        |path: &PathBuf| path.iter().any(|part| part == TRASH) && !pattern.contains(TRASH);
    let found: Vec<PathBuf> = found.into_iter().filter(|path| !in_trash(path)).collect();
    let mut runs = Vec::new();
    for folder in found.iter().filter(|path| path.is_dir()) {
        match read_folder(folder) {
            Err(CompareError::Run(RunError::NoRun(_))) => {}
            read => runs.extend(read?),
        }
    }
    if found.iter().all(|path| !path.is_dir()) {
        for file in &found {
            runs.extend(read_file(file)?);
        }
    }
    if runs.is_empty() { Err(no_match(WHAT.to_owned())) } else { Ok(runs) }
}

fn read_folder(path: &Path) -> Result<Vec<Run>, CompareError> {
    read_results(path)?.into_iter().map(from_results).collect()
}

fn from_results(results: Results) -> Result<Run, CompareError> {
    let place = results.path.display().to_string();
    let sweep = results.recipe.sweep.iter().flat_map(|sweep| sweep.keys().cloned());
    let swept = if results.swept.is_empty() { sweep.collect() } else { results.swept.clone() };
    let open_jobs = results.open_jobs().into_iter().map(str::to_owned).collect();
    let val_images = results.val_images();
    let rows = if results.accuracy.is_empty() { losses(&results) } else { results.accuracy };
    let rows = rows.into_iter().enumerate().map(|(index, cells)| {
        let path = results.path.join("accuracy.csv");
        let refuse =
            |problem| RunError::broken_table(path, format!("line {}: {problem}", index + 2));
        ComparisonRow::of(cells, String::new()).map_err(|problem| refuse(problem).into())
    });
    let mut run = Run {
        name: results.name.clone(),
        label: results.name,
        place,
        settings: recipe::settings(&results.recipe),
        recipe: Some(results.recipe),
        swept,
        open_jobs,
        val_images,
        unfinished: results.provenance.as_ref().is_none_or(|p| p.finished_unix_s.is_none()),
        data_fingerprint: results.provenance.map(|p| p.data_fingerprint),
        rows: rows.collect::<Result<_, CompareError>>()?,
        curves: results.jobs.into_iter().map(Into::into).collect(),
        ..Run::default()
    };
    run.sort_rows();
    Ok(run)
}

/// Returns the pre-training loss of each checkpoint and of the latest epoch.
fn losses(results: &Results) -> Vec<AccuracyRow> {
    let Some(pretrain) = &results.recipe.pretrain else { return Vec::new() };
    let Some(job) = results.jobs.first().filter(|job| job.dir == "pretrain") else {
        return Vec::new();
    };
    let kept = pretrain.checkpoint_epochs.as_deref().unwrap_or_default();
    let last = job.epochs.last().map(|row| row.epoch);
    let rows = job.epochs.iter().filter(|row| kept.contains(&row.epoch) || last == Some(row.epoch));
    rows.map(|row| AccuracyRow {
        pretrain_epoch: row.epoch.to_string(),
        annealed: u8::from(pretrain.epochs == Some(row.epoch)).to_string(),
        pretrain_loss: format!("{:.5}", row.train_loss),
        ..AccuracyRow::default()
    })
    .collect()
}

fn read_file(path: &Path) -> Result<Vec<Run>, CompareError> {
    let place = path.display().to_string();
    let way_on = match path.file_name().and_then(|name| name.to_str()) {
        Some("accuracy.csv") => Remedy::WrittenAnew,
        Some("epochs.csv") => Remedy::RemoveItsFolder,
        _ => Remedy::None,
    };
    let text = text_file::text(read_checked(path, way_on)?).map_err(|problem| {
        let (place, problem) = (place.clone(), problem.to_owned());
        CompareError::Table { place, problem, hint: WHAT }
    })?;
    let name = name_of(path);
    if text.trim_start().starts_with('{') {
        return Ok(vec![read_log(&name, &place, &text)?]);
    }
    read_table(&name, &place, &text)
}

/// Returns the last two parts of a path, such as `quickstart/accuracy.csv`.
fn name_of(path: &Path) -> String {
    let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
    let file = path.file_name().map(text).unwrap_or_default();
    let folder = path.parent().and_then(Path::file_name).map(text);
    folder.map_or(file.clone(), |folder| format!("{folder}/{file}"))
}

/// Replaces the name of a run by its path if other runs have this name, too.
fn tell_apart(runs: &mut [Run]) {
    let names: Vec<(String, String)> =
        runs.iter().map(|run| (run.name.clone(), run.place.clone())).collect();
    for run in runs {
        if names.iter().any(|(name, place)| *name == run.name && *place != run.place) {
            let rest = run.label.strip_prefix(&run.name).unwrap_or_default().to_owned();
            run.name.clone_from(&run.place);
            run.label = format!("{}{rest}", run.name);
        }
    }
}

/// Clears the checkpoint file name if only one row has a file.
///
/// A log has no file name. So this row and the result of a log are then in the same row of a table.
fn one_file_has_no_name(run: &mut Run) {
    let mut files = run.rows.iter_mut().filter(|row| row.key.epoch.is_none());
    if let (Some(row), None) = (files.next(), files.next()) {
        row.key.file.clear();
    }
}
