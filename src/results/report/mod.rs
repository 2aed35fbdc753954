//! A run or a sweep as one HTML file that anyone can open: tables, plots, curves, reconstructions, recipe, provenance.
//!
//! Everything is inside the file: no script, no font, no picture is loaded from anywhere. `page` has the order of the parts,
//! a module a part; `groups` says what is taken together over seeds, `plot` is the only one that knows the plotting library
//! (with `axis`).

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

/// What the parts of a page are made from.
struct Report<'a> {
    name: String,
    /// The run, or the points of the sweep that have begun.
    points: &'a [Results],
    is_sweep: bool,
    /// Points of the sweep without a folder.
    not_begun: usize,
    /// The points, those that differ in their seed alone together.
    groups: Vec<RunGroup<'a>>,
    beside: Vec<PublishedRow>,
}

impl Report<'_> {
    /// Whether there is anything to take a mean of.
    fn has_seeds(&self) -> bool {
        self.groups.iter().any(|group| group.runs.len() > 1)
    }
}

/// Writes `report.html` into the folder of a run or of a sweep and returns its path.
///
/// `published` names the tables of published figures to show; if it is empty, those of the same model and data are shown.
/// Fails if a `report.html` is there that this program did not write.
pub fn write_report(run: &Path, published: &[String]) -> Result<PathBuf, RunError> {
    let file = run.join("report.html");
    let html = html(run, published)?;
    // In the folder of an older version there is no manifest that could say whose file it is.
    let is_unlisted = Manifest::read(run).map_err(RunError::io(run))?.is_none();
    if is_unlisted && file.symlink_metadata().is_ok() && !is_report(&file) {
        return Err(RunError::ForeignFile(file));
    }
    durable::write(&file, html.as_bytes()).map_err(RunError::io(&file))?;
    Ok(file)
}

/// Whether a file is a page that [`write_report`] wrote.
pub(super) fn is_report(file: &Path) -> bool {
    std::fs::read_to_string(file).is_ok_and(|text| text.contains("· mae</title>"))
}

/// Writes the page about a run or a sweep to a file that the user named, as [`write_report`] does.
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

/// How many points of a sweep its table knows beyond those that have a folder.
fn not_begun(sweep: &Path, begun: usize) -> Result<usize, RunError> {
    let (_, rows) = read_accuracy(sweep)?;
    let mut points: Vec<_> = rows.into_iter().map(|row| row.swept).collect();
    points.sort();
    points.dedup();
    Ok(points.len().saturating_sub(begun))
}
