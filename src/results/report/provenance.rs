//! The provenance table of the page.

use super::about::point_name;
use super::cells::boxed;
use super::input::Report;
use super::text::{escape, utc};
use crate::results::Provenance;
use std::fmt::Write as _;

/// Heading of the row that says how the images were changed. The row is left out if this is unknown for all runs.
const IMAGES: &str = "images";

/// A row of the table: its heading, and a function that returns the value for a run.
type Fact = (&'static str, fn(&Provenance) -> String);

const FACTS: [Fact; 12] = [
    ("version", |p| p.version.clone()),
    ("commit", |p| p.commit.clone()),
    ("command line", |p| p.command_line.join(" ")),
    ("device", |p| p.device.clone()),
    ("devices", |p| p.devices.to_string()),
    ("precision", |p| p.precision.clone()),
    ("CPU threads", |p| p.threads.to_string()),
    ("seed", |p| p.seed.to_string()),
    ("data fingerprint", |p| p.data_fingerprint.clone()),
    (IMAGES, |p| p.data_note.clone()),
    ("last start", |p| utc(p.started_unix_s)),
    ("end", |p| p.finished_unix_s.map_or_else(String::new, utc)),
];

/// Returns the table about devices, versions and data as HTML, with one column per run.
pub(super) fn provenance(report: &Report<'_>) -> String {
    let begun = report.points.iter().filter_map(|run| Some((run, run.provenance.as_ref()?)));
    let runs: Vec<_> = begun.collect();
    if runs.is_empty() {
        return "<p>There is no provenance yet, because the run has not started.</p>\n".to_owned();
    }
    let mut html = String::new();
    if report.is_sweep {
        html.push_str("<thead><tr><td></td>");
        for (run, _) in &runs {
            let _ = write!(html, "<th scope=\"col\">{}</th>", escape(&point_name(run)));
        }
        html.push_str("</tr></thead>");
    }
    html.push_str("<tbody>");
    for (name, fact) in FACTS {
        let values: Vec<String> = runs.iter().map(|(_, provenance)| fact(provenance)).collect();
        if name == IMAGES && values.iter().all(String::is_empty) {
            continue;
        }
        let _ = writeln!(html, "<tr><th scope=\"row\">{name}</th>{}</tr>", cells(&values));
    }
    html.push_str("</tbody>");
    boxed("Provenance", &html)
}

/// Returns the HTML cells of a row, one per run. If all values are the same, returns one cell across all columns.
fn cells(values: &[String]) -> String {
    let same = values.iter().all(|value| *value == values[0]);
    let (shown, span) = if same { (&values[..1], values.len()) } else { (values, 1) };
    let mut html = String::new();
    for value in shown {
        let value = if value.is_empty() { "–".to_owned() } else { escape(value) };
        let _ = write!(html, "<td class=\"text\" colspan=\"{span}\">{value}</td>");
    }
    html
}
