//! The input of the HTML report: a run or a sweep, and published results.

use super::beside::{self, PublishedRow};
use super::groups::{self, RunGroup};
use crate::results::accuracy::read_accuracy;
use crate::results::{Results, RunError, read_results};
use std::path::Path;

/// The results that the HTML report shows.
pub(super) struct Report<'a> {
    pub(super) name: String,
    /// The run, or all started runs of the sweep.
    pub(super) points: &'a [Results],
    pub(super) is_sweep: bool,
    /// Number of runs in the sweep that have not started.
    pub(super) not_begun: usize,
    /// Each group has the runs that differ only in their seed.
    pub(super) groups: Vec<RunGroup<'a>>,
    /// Published results to show in the plots.
    pub(super) beside: Vec<PublishedRow>,
}

impl Report<'_> {
    pub(super) fn has_seeds(&self) -> bool {
        self.groups.iter().any(|group| group.runs.len() > 1)
    }
}

impl<'a> Report<'a> {
    /// Collects the results that the report shows.
    ///
    /// `points` are the runs in the folder `run`. `published` lists published tables.
    pub(super) fn new(
        run: &Path,
        points: &'a [Results],
        published: &[String],
    ) -> Result<Self, RunError> {
        let is_sweep = !run.join("recipe.toml").is_file();
        let first = &points[0];
        if is_sweep && points.iter().any(|point| point.recipe.name != first.recipe.name) {
            return Err(RunError::ManyRuns(run.to_owned()));
        }
        let name = match &first.recipe.name {
            Some(name) if is_sweep => name.clone(),
            _ => first.name.clone(),
        };
        Ok(Self {
            name,
            is_sweep,
            not_begun: if is_sweep { not_begun(run, points.len())? } else { 0 },
            groups: groups::groups(points),
            beside: beside::beside(&first.recipe, published),
            points,
        })
    }
}

pub(super) fn read_points(run: &Path) -> Result<Vec<Results>, RunError> {
    if run.is_dir() { read_results(run) } else { Err(RunError::NoRun(run.to_owned())) }
}

fn not_begun(sweep: &Path, begun: usize) -> Result<usize, RunError> {
    let (_, rows) = read_accuracy(sweep)?;
    let mut points: Vec<_> = rows.into_iter().map(|row| row.swept).collect();
    points.sort();
    points.dedup();
    Ok(points.len().saturating_sub(begun))
}
