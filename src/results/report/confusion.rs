//! The confusion matrices of the page.

use super::input::Report;
use super::pictures::figure;
use crate::figure::confusion_png;
use crate::results::{Confusion, RunError, job_path};
use crate::shape::StageKind;

/// Returns the confusion matrices of the fine-tunings as HTML; empty if there are none.
///
/// Of runs that differ only in their seed, shows only the first run. In a sweep, shows only the last checkpoint of each
/// run.
pub(super) fn confusions(report: &Report<'_>) -> Result<String, RunError> {
    let mut figures = String::new();
    for run in report.groups.iter().map(|group| group.runs[0]) {
        let jobs = run.jobs.iter().filter(|job| job.stage == StageKind::Finetune);
        let mut jobs: Vec<_> = jobs.collect();
        if report.is_sweep {
            let last = jobs.iter().rposition(|job| !job.dir.ends_with("/from-scratch"));
            let last = last.or(jobs.len().checked_sub(1));
            jobs = last.map(|last| jobs[last]).into_iter().collect();
        }
        for job in jobs {
            let folder = job_path(&run.path, &job.dir);
            let Some(Confusion { names, counts }) = Confusion::read(&folder)? else { continue };
            let png = confusion_png(&names, &counts).map_err(RunError::io(&folder))?;
            figures += &figure(report, run, "Confusion matrix", &job.dir, &png);
        }
    }
    if figures.is_empty() {
        return Ok(String::new());
    }
    let note = "Predictions for the validation images after the last epoch. A darker cell contains a larger share of the images of its row.";
    Ok(format!(
        "<section><h2>Confusion matrices</h2>\n<p class=\"note\">{note}</p>\n<div class=\"pictures\">{figures}</div></section>\n"
    ))
}
