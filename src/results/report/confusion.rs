//! The confusion matrices of the page.

use super::about::point_name;
use super::input::Report;
use super::text::escape;
use crate::figure::confusion_png;
use crate::results::{Confusion, RunError, job_path};
use crate::shape::StageKind;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write as _;

/// Returns the confusion matrices of the fine-tunings as HTML; empty if there are none.
///
/// For a sweep, returns only the matrix of the last fine-tuning of each group.
pub(super) fn confusions(report: &Report<'_>) -> Result<String, RunError> {
    let mut figures = String::new();
    for run in report.groups.iter().map(|group| group.runs[0]) {
        let jobs = run.jobs.iter().filter(|job| job.stage == StageKind::Finetune);
        let mut jobs: Vec<_> = jobs.collect();
        if report.is_sweep {
            jobs.drain(..jobs.len().saturating_sub(1));
        }
        for job in jobs {
            let folder = job_path(&run.path, &job.dir);
            let Some(Confusion { names, counts }) = Confusion::read(&folder)? else { continue };
            let png = confusion_png(&names, &counts).map_err(RunError::io(&folder))?;
            let point =
                if report.is_sweep { format!("{}, ", point_name(run)) } else { String::new() };
            let caption = escape(&format!("{point}{}", job.dir));
            let _ = writeln!(
                figures,
                "<figure><figcaption>{caption}</figcaption><img alt=\"Confusion matrix, {caption}\" src=\"data:image/png;base64,{}\"></figure>",
                STANDARD.encode(png)
            );
        }
    }
    if figures.is_empty() {
        return Ok(String::new());
    }
    let note = "Validation images of each class after the last epoch: darker cells have a larger share of their row.";
    Ok(format!(
        "<section><h2>Confusion matrices</h2>\n<p class=\"note\">{note}</p>\n<div class=\"pictures\">{figures}</div></section>\n"
    ))
}
