//! The reconstruction figures of the HTML report.

use super::about::point_name;
use super::input::Report;
use super::text::escape;
use crate::results::{Results, RunError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fs;
use std::path::PathBuf;

const UN_NORMALIZED: &str = "The model predicts patches that are normalized by their own mean and variance \
                             (<code>norm_pix_loss</code>). To show a predicted patch, the report uses the mean and \
                             variance of the original patch. So the brightness and contrast of the picture are not \
                             predictions.";

/// Returns the reconstruction figures of each checkpoint as HTML.
///
/// Of runs that differ only in their seed, shows only the first run. In a sweep, shows only the last checkpoint of each
/// run.
pub(super) fn reconstructions(report: &Report<'_>) -> Result<String, RunError> {
    let mut figures = String::new();
    let mut un_normalized = false;
    let shown = report.groups.iter().map(|group| group.runs[0]);
    for run in shown {
        let mut pictures = pictures(run);
        if report.is_sweep {
            pictures.drain(..pictures.len().saturating_sub(1));
        }
        for (epoch, path) in pictures {
            let png = fs::read(&path).map_err(RunError::io(&path))?;
            un_normalized |=
                run.recipe.pretrain.as_ref().and_then(|p| p.norm_pix_loss) == Some(true);
            figures += &figure(report, run, "Reconstructions", &format!("epoch {epoch}"), &png);
        }
    }
    if figures.is_empty() {
        return Ok(String::new());
    }
    let note = if un_normalized {
        format!("<p class=\"note\">{UN_NORMALIZED}</p>\n")
    } else {
        String::new()
    };
    let last = if report.is_sweep {
        "<p class=\"note\">This page shows only the last checkpoint of each sweep point. To see all checkpoints of a \
         point, run <code>mae report</code> on its folder.</p>\n"
    } else {
        ""
    };
    Ok(format!(
        "<section><h2>Reconstructions</h2>\n{note}{last}<div class=\"pictures\">{figures}</div></section>\n"
    ))
}

/// Returns a PNG picture of a run as an HTML figure with the caption `what`.
///
/// In a sweep, the caption also names the run.
pub(super) fn figure(
    report: &Report<'_>,
    run: &Results,
    kind: &str,
    what: &str,
    png: &[u8],
) -> String {
    let point = if report.is_sweep { format!("{}, ", point_name(run)) } else { String::new() };
    let caption = escape(&format!("{point}{what}"));
    format!(
        "<figure><figcaption>{caption}</figcaption><img alt=\"{kind}, {caption}\" src=\"data:image/png;base64,{}\"></figure>\n",
        STANDARD.encode(png)
    )
}

/// Returns (epoch, path of the figure), sorted by epoch.
fn pictures(run: &Results) -> Vec<(usize, PathBuf)> {
    let Ok(entries) = fs::read_dir(run.path.join("pretrain/reconstructions")) else {
        return Vec::new();
    };
    let epoch = |name: &str| name.strip_prefix("epoch-")?.strip_suffix(".png")?.parse().ok();
    let mut pictures: Vec<(usize, PathBuf)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((epoch(path.file_name()?.to_str()?)?, path))
        })
        .collect();
    pictures.sort();
    pictures
}
