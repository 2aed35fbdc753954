//! What a page shows: a run, or the points of a sweep, and published results.

use super::beside::{self, PublishedRow};
use super::groups::{self, RunGroup};
use crate::results::accuracy::read_accuracy;
use crate::results::{Results, RunError, read_results};
use std::path::Path;

/// The input of every part of the page.
pub(super) struct Report<'a> {
    pub(super) name: String,
    /// The run, or all points of the sweep that have a folder.
    pub(super) points: &'a [Results],
    pub(super) is_sweep: bool,
    /// Number of points of the sweep that do not have a folder yet.
    pub(super) not_begun: usize,
    /// The sweep points, grouped if they differ only in their seed.
    pub(super) groups: Vec<RunGroup<'a>>,
    /// Published results to show in the plots.
    pub(super) beside: Vec<PublishedRow>,
}

impl Report<'_> {
    /// Returns whether a group of sweep points has several seeds.
    pub(super) fn has_seeds(&self) -> bool {
        self.groups.iter().any(|group| group.runs.len() > 1)
    }
}

impl<'a> Report<'a> {
    /// Collects the input of the page for the folder `run`.
    ///
    /// `points` are the runs in this folder, as [`read_points`] returns them. `published` names published tables.
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

/// Reads the run or the sweep in the folder `run`. Returns at least one run.
pub(super) fn read_points(run: &Path) -> Result<Vec<Results>, RunError> {
    if run.is_dir() { read_results(run) } else { Err(RunError::NoRun(run.to_owned())) }
}

/// Returns how many points in a sweep's `accuracy.csv` have no folder yet. `begun` is the number of points with a
/// folder.
fn not_begun(sweep: &Path, begun: usize) -> Result<usize, RunError> {
    let (_, rows) = read_accuracy(sweep)?;
    let mut points: Vec<_> = rows.into_iter().map(|row| row.swept).collect();
    points.sort();
    points.dedup();
    Ok(points.len().saturating_sub(begun))
}
