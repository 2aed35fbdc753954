//! A comparison of runs: means over seeds, different settings, and accuracy differences.

use super::error::CompareError;
use super::groups::{self, Setting};
use super::input;
use super::run::{Metric, Run, SettingKey};
use crate::recipe::KNN_COLUMN;
use crate::results::accuracy::measure_columns;
use crate::results::seeds::{self, Measured};
use std::path::Path;

/// A comparison of runs, with means over seeds.
#[derive(Debug)]
pub struct Comparison {
    pub(super) runs: Vec<Run>,
    /// Groups of runs that differ only in their seed, as indices into `runs`.
    pub(super) groups: Vec<Vec<usize>>,
    /// The settings that are not the same in all runs. Swept recipe keys come first.
    pub(super) settings: Vec<Setting>,
    /// The keys of the rows in the result tables, in order.
    pub(super) keys: Vec<SettingKey>,
    /// The columns with accuracies that only some recipes measure, such as `knn_top1`.
    pub(super) measures: Vec<String>,
}

/// The difference of a metric between a group of runs and the first group.
///
/// The runs of a group differ only in their seed. The metric is averaged over each group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Difference {
    pub(super) points: f64,
    /// Largest difference that chance may cause, in the metric's unit.
    pub(super) noise: f64,
}

/// The groups of runs that the terminal shows: each group's number, and the indices of its runs.
///
/// The runs of a group differ only in their seed.
pub(super) type Shown<'a> = [(usize, &'a [usize])];

impl Comparison {
    /// Reads the runs to compare.
    ///
    /// `arguments` name folders, tables, logs or glob patterns. `published` names published tables.
    ///
    /// Fails if an argument is not readable, or if there is only one run.
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

    /// Fails if `path` is not writable or belongs to a compared run.
    pub fn check_output(&self, path: &Path) -> Result<(), CompareError> {
        let refuse = |problem: &str, hint| {
            let (path, problem) = (path.to_owned(), problem.to_owned());
            Err(CompareError::Output { path, problem, hint })
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if folder.is_some_and(|folder| !folder.is_dir()) {
            return refuse(
                "the folder does not exist",
                "create the folder, or choose another path",
            );
        }
        if path.is_dir() {
            return refuse("this is a folder", "pass the name of a file in this folder");
        }
        let read = path.canonicalize().is_ok_and(|path| {
            let places =
                self.runs.iter().filter_map(|run| Path::new(&run.place).canonicalize().ok());
            // The table of a sweep is in the same folder as its points.
            places.into_iter().any(|place| {
                path.starts_with(&place)
                    || path.parent() == place.parent() && path.ends_with("accuracy.csv")
            })
        });
        if read {
            return refuse(
                "this file belongs to a compared run",
                "choose a path outside the compared runs",
            );
        }
        Ok(())
    }

    /// Returns the metrics that are accuracies in %.
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

    /// Returns the metric's mean over `group` minus the mean over the first group.
    ///
    /// Returns `None` for the first group, or if a value is missing.
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

    /// Returns whether a group's metric in the row `key` is preliminary, because a job is unfinished.
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

/// Collects the names of the accuracies that only some runs have, and parses these accuracies in every row.
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
