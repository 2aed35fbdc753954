//! `mae report`: a run or a sweep as one HTML page with tables, plots, curves, reconstructions, recipe and provenance.
//!
//! The file is self-contained: it has no scripts and loads nothing. `page` puts the parts in order, and each part has its own
//! module. `groups` groups the runs that differ only in their seed. Only `plot` and `axis` use the plotting library.

mod about;
mod accuracy;
mod axis;
mod beside;
mod cells;
mod curves;
mod groups;
mod means;
mod page;
mod pictures;
mod plot;
mod provenance;
mod text;
mod thin;
mod top1;

pub use text::count;
pub(super) use text::utc_compact;

use super::accuracy::read_accuracy;
use super::{Results, RunError, read_results};
use crate::durable::{self, Manifest};
use beside::PublishedRow;
use groups::RunGroup;
use std::path::{Path, PathBuf};

/// The input of every part of the page.
struct Report<'a> {
    name: String,
    /// The run, or the points of the sweep that have a folder.
    points: &'a [Results],
    is_sweep: bool,
    /// Number of points of the sweep without a folder.
    not_begun: usize,
    /// The points, grouped if they differ only in their seed.
    groups: Vec<RunGroup<'a>>,
    /// Published results to show in the plots.
    beside: Vec<PublishedRow>,
}

impl Report<'_> {
    /// Whether a group has several seeds.
    fn has_seeds(&self) -> bool {
        self.groups.iter().any(|group| group.runs.len() > 1)
    }
}

/// Writes `report.html` into the folder of a run or of a sweep and returns its path.
///
/// `published` names the published tables to show. If it is empty, the page shows those of the same model and data.
/// Fails if the folder has a `report.html` that this program did not write.
pub fn write_report(run: &Path, published: &[String]) -> Result<PathBuf, RunError> {
    let file = run.join("report.html");
    let html = html(run, published)?;
    // A folder of an older version has no manifest, so the file itself must show who wrote it.
    let is_unlisted = Manifest::read(run).map_err(RunError::io(run))?.is_none();
    if is_unlisted && file.symlink_metadata().is_ok() && !is_report(&file) {
        return Err(RunError::ForeignFile(file));
    }
    durable::write(&file, html.as_bytes()).map_err(RunError::io(&file))?;
    Ok(file)
}

/// Whether [`write_report`] wrote the file.
pub(super) fn is_report(file: &Path) -> bool {
    std::fs::read_to_string(file).is_ok_and(|text| text.contains("· mae</title>"))
}

/// Writes the page about a run or a sweep to a path of the user's choice. `published` is as in [`write_report`].
pub fn write_report_to(run: &Path, file: &Path, published: &[String]) -> Result<(), RunError> {
    let html = html(run, published)?;
    durable::write_output(file, html.as_bytes()).map_err(RunError::io(file))
}

fn html(run: &Path, published: &[String]) -> Result<String, RunError> {
    if !run.is_dir() {
        return Err(RunError::NoRun(run.to_owned()));
    }
    let points = read_results(run)?;
    let is_sweep = !run.join("recipe.toml").is_file();
    let first = &points[0];
    if is_sweep && points.iter().any(|point| point.recipe.name != first.recipe.name) {
        return Err(RunError::ManyRuns(run.to_owned()));
    }
    let name = match &first.recipe.name {
        Some(name) if is_sweep => name.clone(),
        _ => first.name.clone(),
    };
    page::page(&Report {
        name,
        is_sweep,
        not_begun: if is_sweep { not_begun(run, points.len())? } else { 0 },
        groups: groups::groups(&points),
        beside: beside::beside(&first.recipe, published),
        points: &points,
    })
}

/// Returns how many points in the table of a sweep have no folder yet; `begun` is the number of those that have one.
fn not_begun(sweep: &Path, begun: usize) -> Result<usize, RunError> {
    let (_, rows) = read_accuracy(sweep)?;
    let mut points: Vec<_> = rows.into_iter().map(|row| row.swept).collect();
    points.sort();
    points.dedup();
    Ok(points.len().saturating_sub(begun))
}
