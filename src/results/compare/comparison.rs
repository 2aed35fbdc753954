//! A comparison of runs: means over seeds, different settings, and accuracy differences.

use super::error::CompareError;
use super::groups::{self, Setting};
use super::input;
use super::run::{Metric, Run, SettingKey};
use crate::recipe::KNN_COLUMN;
use crate::results::accuracy::measure_columns;
use crate::results::seeds::{self, Measured};
use std::path::Path;

/// The runs that `mae compare` compares, with means over seeds.
#[derive(Debug)]
pub struct Comparison {
    pub(super) runs: Vec<Run>,
    /// Groups of runs that differ only in their seed, as indices into `runs`.
    pub(super) groups: Vec<Vec<usize>>,
    /// Settings that differ between the runs. Swept recipe keys come first.
    pub(super) settings: Vec<Setting>,
    pub(super) keys: Vec<SettingKey>,
    /// Accuracy columns of `[knn]` and `[robustness]`, such as `knn_top1`.
    pub(super) measures: Vec<String>,
}

/// The mean of a metric over several seeds, minus the mean of the baseline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Difference {
    pub(super) points: f64,
    /// Largest difference that chance may cause, in the metric's unit.
    pub(super) noise: f64,
}

/// The groups in the terminal output, as (printed number, run indices).
pub(super) type Shown<'a> = [(usize, &'a [usize])];

impl Comparison {
    /// Reads the runs to compare.
    ///
    /// `arguments` are folders, tables, logs or glob patterns. `published` lists names of published tables.
    ///
    /// Fails if an argument cannot be read, or if there is only one run.
    pub fn read(arguments: &[String], published: &[String]) -> Result<Self, CompareError> {
        let mut runs = input::read(arguments, published)?;
        let measures = measures(&mut runs);
        Ok(Self {
            groups: groups::over_seeds(&runs),
            settings: groups::settings(&runs),
            keys: groups::keys(&runs),
            measures,
            runs,
        })
    }

    /// Fails if the comparison cannot be written to `path`, or if `path` belongs to a compared run.
    pub fn check_output(&self, path: &Path) -> Result<(), CompareError> {
        let refuse = |problem: &str, hint| {
            let (path, problem) = (path.to_owned(), problem.to_owned());
            Err(CompareError::Output { path, problem, hint })
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if folder.is_some_and(|folder| !folder.is_dir()) {
            return refuse(
                "the folder of this file does not exist",
                "create the folder, or choose another path",
            );
        }
        if path.is_dir() {
            return refuse(
                "the path is a folder, not a file",
                "pass the path of a file in this folder",
            );
        }
        let read = path.canonicalize().is_ok_and(|path| {
            let places =
                self.runs.iter().filter_map(|run| Path::new(&run.place).canonicalize().ok());
            // Runs of a sweep are folders beside the sweep's `accuracy.csv`.
            places.into_iter().any(|place| {
                path.starts_with(&place)
                    || path.parent() == place.parent() && path.ends_with("accuracy.csv")
            })
        });
        if read {
            return refuse(
                "this file belongs to one of the compared runs",
                "choose a path outside the compared runs",
            );
        }
        Ok(())
    }

    /// Returns the metrics in %: fine-tuning, linear probe, `[knn]` and `[robustness]`.
    pub(super) fn accuracies(&self) -> Vec<Metric> {
        let measures = (0..self.measures.len()).map(Metric::Measure);
        [Metric::Finetune, Metric::Linprobe].into_iter().chain(measures).collect()
    }

    pub(super) fn measured(
        &self,
        group: &[usize],
        key: &SettingKey,
        metric: Metric,
    ) -> Option<Measured> {
        let runs = group.iter().map(|run| &self.runs[*run]);
        let values = runs.filter_map(|run| run.row(key)?.value(metric));
        Measured::of(&values.collect::<Vec<_>>())
    }

    /// Subtracts the mean over the first group of runs from the mean over `group`.
    ///
    /// Returns `None` if `group` is the first group, or if a value is missing.
    pub(super) fn against_first(
        &self,
        group: &[usize],
        key: &SettingKey,
        metric: Metric,
    ) -> Option<Difference> {
        let first = self.groups.first().filter(|first| *first != group)?;
        let (a, b) = (self.measured(first, key, metric)?, self.measured(group, key, metric)?);
        let is_val = match metric {
            Metric::Measure(index) => self.measures[index] == KNN_COLUMN,
            _ => true,
        };
        let images = self.val_images(first).or_else(|| self.val_images(group)).filter(|_| is_val);
        Some(Difference { points: b.mean - a.mean, noise: seeds::noise(&a, &b, images) })
    }

    pub(super) fn val_images(&self, group: &[usize]) -> Option<usize> {
        self.runs[*group.first()?].val_images
    }

    /// Returns whether the metric may still change, because a job is unfinished.
    pub(super) fn is_open(&self, group: &[usize], key: &SettingKey, metric: Metric) -> bool {
        group.iter().any(|run| {
            let run = &self.runs[*run];
            run.row(key).is_some_and(|row| row.job(metric).is_some_and(|job| run.is_open(job)))
        })
    }

    pub(super) fn group_of(&self, run: usize) -> &[usize] {
        let found = self.groups.iter().find(|group| group.contains(&run));
        found.expect("every run is in a group")
    }
}

/// Returns the accuracy columns of `[knn]` and `[robustness]`, and parses their cells.
fn measures(runs: &mut [Run]) -> Vec<String> {
    let cells = runs.iter().flat_map(|run| &run.rows).map(|row| &row.cells);
    let names: Vec<String> = measure_columns(cells).into_iter().map(str::to_owned).collect();
    for row in runs.iter_mut().flat_map(|run| &mut run.rows) {
        row.measures = names.iter().map(|name| row.cells.measure(name).parse().ok()).collect();
    }
    names
}

impl Difference {
    pub(super) fn is_inside_noise(&self) -> bool {
        seeds::is_inside(self.points, self.noise)
    }
}
