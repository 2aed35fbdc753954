//! Reads a run from its folder, for reports and comparisons. The run may be unfinished.

use super::accuracy::{AccuracyRow, read_accuracy};
use super::epochs::{EpochRow, EpochsCsv};
use super::error::{Remedy, RunError};
use super::provenance::Provenance;
use super::read_checked::read_checked;
use crate::durable::MANIFEST;
use crate::recipe::{Format, Recipe};
use crate::shape::StageKind;
use std::fs;
use std::path::{Path, PathBuf};

/// The results of a run so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    /// Path of the run folder.
    pub path: PathBuf,
    /// Name of the run. In a sweep, the sweep's name and the run's folder.
    ///
    /// Examples: `quickstart`, `mr/pretrain.mask_ratio=0.5`.
    pub name: String,
    /// The resolved recipe.
    pub recipe: Recipe,
    /// Content of `provenance.json`; `None` before the first start.
    pub provenance: Option<Provenance>,
    /// The swept recipe keys, in the order of the columns in `accuracy.csv`.
    pub swept: Vec<String>,
    /// Rows of `accuracy.csv`. Empty if the file is missing.
    pub accuracy: Vec<AccuracyRow>,
    /// Results of all jobs that have started. Pre-training comes first.
    pub jobs: Vec<JobResults>,
}

/// The results of one job so far.
#[derive(Debug, Clone, PartialEq)]
pub struct JobResults {
    pub stage: StageKind,
    /// Folder of the job in the run folder, such as `finetune/from-0800`.
    pub dir: String,
    pub epochs: Vec<EpochRow>,
}

impl Results {
    /// Returns the number of validation images, from `provenance.json` or from the recipe.
    pub(super) fn val_images(&self) -> Option<usize> {
        const DIGITS: usize = 360;
        let digits = self.recipe.data.format == Some(Format::Digits);
        let measured = self.provenance.as_ref().and_then(|provenance| provenance.val_images);
        measured.or(self.recipe.data.val_images).or_else(|| digits.then_some(DIGITS))
    }

    /// Returns the number of epochs of a stage in the recipe.
    pub(super) fn epochs(&self, stage: StageKind) -> Option<usize> {
        match stage {
            StageKind::Pretrain => self.recipe.pretrain.as_ref()?.epochs,
            StageKind::Finetune => self.recipe.finetune.as_ref()?.epochs,
            StageKind::Linprobe => self.recipe.linprobe.as_ref()?.epochs,
        }
    }

    /// Returns the folders of the jobs that have started but not finished.
    pub(super) fn open_jobs(&self) -> Vec<&str> {
        let begun = |job: &&JobResults| {
            job.epochs.last().is_some_and(|row| Some(row.epoch) < self.epochs(job.stage))
        };
        self.jobs.iter().filter(begun).map(|job| job.dir.as_str()).collect()
    }
}

/// Reads the run in `path`, or all runs of the sweep in `path`.
///
/// Runs are sorted by name, with `epochs=800` before `epochs=1600`. Fails if `path` contains no run, or if a file cannot
/// be read.
pub fn read_results(path: &Path) -> Result<Vec<Results>, RunError> {
    let mut runs = run_folders(path)?;
    // A run that was killed in its first moments has no recipe yet.
    runs.retain(|run| has_recipe(run));
    if runs.is_empty() {
        return Err(RunError::NoRun(path.to_owned()));
    }
    runs.iter().map(|run| read_run(run)).collect()
}

/// Returns `path` itself for a run, or the folders of all runs for a sweep.
pub(super) fn run_folders(path: &Path) -> Result<Vec<PathBuf>, RunError> {
    if has_recipe(path) {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).map_err(|error| RunError::unreadable(path, error))?;
    let mut points: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|point| !is_hidden(point))
        .filter(|point| has_recipe(point) || point.join(MANIFEST).is_file())
        .collect();
    points.sort_by_cached_key(|point| natural(&point.to_string_lossy()));
    if points.is_empty() {
        return Err(RunError::NoRun(path.to_owned()));
    }
    Ok(points)
}

fn has_recipe(folder: &Path) -> bool {
    folder.join("recipe.toml").is_file()
}

pub(super) fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

/// Returns a sort key that puts `epochs=800` before `epochs=1600`.
fn natural(name: &str) -> Vec<(String, u64)> {
    let parts = name.split_inclusive(['=', ',', '_']).map(|part| {
        let number = part.trim_end_matches([',', '_']).parse::<f64>();
        // The bits of non-negative floats sort like the floats.
        let bits = number.map(|number| number.max(0.0).to_bits());
        bits.map_or_else(|_| (part.to_owned(), 0), |bits| (String::new(), bits))
    });
    parts.collect()
}

fn read_run(path: &Path) -> Result<Results, RunError> {
    let file = path.join("recipe.toml");
    let text = read_checked(&file, Remedy::WrittenAnew)?;
    let recipe = resolved_recipe(&file, &String::from_utf8_lossy(&text))?;
    let (swept, accuracy) = read_accuracy(path)?;
    Ok(Results {
        path: path.to_owned(),
        name: name(path, &recipe),
        provenance: read_provenance(path)?,
        swept,
        accuracy,
        jobs: read_jobs(path)?,
        recipe,
    })
}

fn name(path: &Path, recipe: &Recipe) -> String {
    let folder = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let folder = folder.unwrap_or_else(|| path.display().to_string());
    match &recipe.name {
        Some(name) if recipe.sweep.is_some() => format!("{name}/{folder}"),
        Some(name) => name.clone(),
        None => folder,
    }
}

pub(super) fn resolved_recipe(file: &Path, text: &str) -> Result<Recipe, RunError> {
    toml::from_str(text).map_err(|e| RunError::Damaged {
        path: file.to_owned(),
        problem: format!("the file is not a valid recipe of a run: {}", e.message()),
        way_on: Remedy::None,
    })
}

/// Reads `provenance.json` in the run folder `path`; `None` if the file is missing.
pub fn read_provenance(path: &Path) -> Result<Option<Provenance>, RunError> {
    let file = path.join("provenance.json");
    if !file.is_file() {
        return Ok(None);
    }
    let bytes = read_checked(&file, Remedy::WrittenAnew)?;
    let read = serde_json::from_slice(&bytes);
    read.map(Some).map_err(|e| RunError::Damaged {
        path: file,
        problem: e.to_string(),
        way_on: Remedy::WrittenAnew,
    })
}

fn read_jobs(path: &Path) -> Result<Vec<JobResults>, RunError> {
    let mut jobs = Vec::new();
    let mut add = |stage, dir: String| -> Result<(), RunError> {
        let epochs = EpochsCsv::in_job(&path.join(&dir)).read()?;
        if !epochs.is_empty() {
            jobs.push(JobResults { stage, dir, epochs });
        }
        Ok(())
    };
    add(StageKind::Pretrain, StageKind::Pretrain.to_string())?;
    for stage in [StageKind::Finetune, StageKind::Linprobe] {
        let Ok(entries) = fs::read_dir(path.join(stage.to_string())) else { continue };
        let mut names: Vec<String> = entries
            .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
            .filter(|name| name.starts_with("from-"))
            .collect();
        names.sort();
        for name in names {
            add(stage, format!("{stage}/{name}"))?;
        }
    }
    Ok(jobs)
}

#[cfg(test)]
mod tests {
    use super::natural;

    #[test]
    fn points_are_sorted_by_the_numbers_in_their_names() {
        let mut names =
            ["b=1600,seed=10", "b=1600,seed=9", "b=800,seed=1", "b=1.5e-4,seed=1", "a=x,s=1"];
        names.sort_by_cached_key(|name| natural(name));
        let expected =
            ["a=x,s=1", "b=1.5e-4,seed=1", "b=800,seed=1", "b=1600,seed=9", "b=1600,seed=10"];
        assert_eq!(names, expected);
    }
}
