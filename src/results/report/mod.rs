//! `mae report`: a run or a sweep as one HTML page.
//!
//! The page has no scripts and loads nothing. `input` reads the runs. `page` puts the parts in order, and each part has
//! its own module. `groups` groups the runs that differ only in their seed. Only `plot` and `axis` use the plotting
//! library.

mod about;
mod accuracy;
mod axis;
mod beside;
mod cells;
mod confusion;
mod curves;
mod groups;
mod input;
mod means;
mod page;
mod pictures;
mod plot;
mod provenance;
mod text;
mod thin;
mod top1;

pub use text::count;
pub(super) use text::{utc, utc_compact};

use super::error::RunError;
use crate::durable::{self, Manifest};
use input::Report;
use std::path::{Path, PathBuf};

/// Writes `report.html` into the folder of a run or a sweep. Returns the path of the report.
///
/// `published` lists the published tables to show. If the list is empty, mae selects published results for the same
/// model and data. Fails if another program wrote the existing `report.html`.
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

/// Returns whether [`write_report`] wrote this file.
pub(super) fn is_report(file: &Path) -> bool {
    std::fs::read_to_string(file).is_ok_and(|text| text.contains("· mae</title>"))
}

/// Writes the HTML report of the run or sweep in the folder `run` to `file`.
///
/// `published` lists the published tables to show, as in [`write_report`].
pub fn write_report_to(run: &Path, file: &Path, published: &[String]) -> Result<(), RunError> {
    let html = html(run, published)?;
    durable::write_output(file, html.as_bytes()).map_err(RunError::io(file))
}

fn html(run: &Path, published: &[String]) -> Result<String, RunError> {
    let points = input::read_points(run)?;
    page::page(&Report::new(run, &points, published)?)
}
