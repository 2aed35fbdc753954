//! A run read back from its folder: what a report and a comparison work with. It may still be going on.

use super::accuracy::{AccuracyRow, read_accuracy};
use super::folder::resolved_recipe;
use super::{EpochRow, EpochsCsv, Provenance, Remedy, RunError};
use crate::durable;
use crate::recipe::{Format, Recipe};
use crate::shape::StageKind;
use std::fs;
use std::path::{Path, PathBuf};

/// What one run left so far: a whole recipe's, or one point's of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    /// The run's folder.
    pub path: PathBuf,
    /// The folder below the sweep's, and the recipe's name before it: `mr/pretrain.mask_ratio=0.5`; or the name alone.
    pub name: String,
    /// Everything written out.
    pub recipe: Recipe,
    /// What made the numbers; `None` where the run has not begun.
    pub provenance: Option<Provenance>,
    /// The swept keys of this point, in the order of its table.
    pub swept: Vec<String>,
    /// `accuracy.csv`; empty without a fine-tuning or a probe.
    pub accuracy: Vec<AccuracyRow>,
    /// The jobs that have begun, the pre-training first.
    pub jobs: Vec<JobResults>,
}

/// What one job left so far.
#[derive(Debug, Clone, PartialEq)]
pub struct JobResults {
    pub stage: StageKind,
    /// Its folder below the run's, with `/` between parts: `finetune/from-0800`.
    pub dir: String,
    pub epochs: Vec<EpochRow>,
}

impl Results {
    /// Images of the validation split, as the recipe states them or the run found them; the digits are part of the program.
    pub(super) fn val_images(&self) -> Option<usize> {
        const DIGITS: usize = 360;
        let digits = self.recipe.data.format == Some(Format::Digits);
        let found = || self.provenance.as_ref().and_then(|provenance| provenance.val_images);
        self.recipe.data.val_images.or_else(found).or_else(|| digits.then_some(DIGITS))
    }

    /// The epochs that the recipe has a stage train.
    pub(super) fn epochs(&self, stage: StageKind) -> Option<usize> {
        match stage {
            StageKind::Pretrain => self.recipe.pretrain.as_ref()?.epochs,
            StageKind::Finetune => self.recipe.finetune.as_ref()?.epochs,
            StageKind::Linprobe => self.recipe.linprobe.as_ref()?.epochs,
        }
    }

    /// The folders of the jobs that have begun and are not at their end: what they measured will change.
    pub(super) fn open_jobs(&self) -> Vec<&str> {
        let begun = |job: &&JobResults| {
            job.epochs.last().is_some_and(|row| Some(row.epoch) < self.epochs(job.stage))
        };
        self.jobs.iter().filter(begun).map(|job| job.dir.as_str()).collect()
    }
}

/// Reads the run in `path`, or every point of the sweep in `path`, in the order of their names, numbers in them by value.
///
/// Fails where there is neither, or a file of a run cannot be read.
pub fn read_results(path: &Path) -> Result<Vec<Results>, RunError> {
    if path.join("recipe.toml").is_file() {
        return Ok(vec![read_run(path)?]);
    }
    let entries = fs::read_dir(path).map_err(RunError::io(path))?;
    let mut points: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| !is_hidden(&entry.path()))
        .map(|entry| entry.path())
        .filter(|path| path.join("recipe.toml").is_file())
        .collect();
    points.sort_by_cached_key(|point| natural(&point.to_string_lossy()));
    if points.is_empty() {
        return Err(RunError::NoRun(path.to_owned()));
    }
    points.iter().map(|point| read_run(point)).collect()
}

/// Whether a path's last part begins with a dot: the trash, and what is not shown, is passed over.
pub(super) fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

/// Sorts `epochs=800` before `epochs=1600`: text and numbers in turn.
fn natural(name: &str) -> Vec<(String, u64)> {
    let parts = name.split_inclusive(['=', ',', '_']).map(|part| {
        let number = part.trim_end_matches([',', '_']).parse::<f64>();
        // The bits of numbers from 0 up are in the numbers' order.
        let bits = number.map(|number| number.max(0.0).to_bits());
        bits.map_or_else(|_| (part.to_owned(), 0), |bits| (String::new(), bits))
    });
    parts.collect()
}

fn read_run(path: &Path) -> Result<Results, RunError> {
    let file = path.join("recipe.toml");
    let text = fs::read_to_string(&file)
        .map_err(|source| RunError::Unreadable { path: file.clone(), source })?;
    let recipe = resolved_recipe(&file, &text)?;
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

/// Reads a file of a run. Content that differs from its checksum is damaged; a file that cannot be read is not.
pub(super) fn read_checked(file: &Path, way_on: Remedy) -> Result<Vec<u8>, RunError> {
    durable::read(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => {
            RunError::Damaged { path: file.to_owned(), problem: error.to_string(), way_on }
        }
        _ => RunError::Unreadable { path: file.to_owned(), source: error },
    })
}

/// Reads `provenance.json` of the run in `path`; `None` where there is none.
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
    fn points_are_in_the_order_of_their_numbers() {
        let mut names =
            ["b=1600,seed=10", "b=1600,seed=9", "b=800,seed=1", "b=1.5e-4,seed=1", "a=x,s=1"];
        names.sort_by_cached_key(|name| natural(name));
        let expected =
            ["a=x,s=1", "b=1.5e-4,seed=1", "b=800,seed=1", "b=1600,seed=9", "b=1600,seed=10"];
        assert_eq!(names, expected);
    }
}
