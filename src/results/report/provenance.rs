//! Where the numbers come from.

use super::Report;
use super::about::point_name;
use super::cells::boxed;
use super::text::{escape, utc};
use crate::results::Provenance;
use std::fmt::Write as _;

/// What was done to the images; a row only where that is known.
const IMAGES: &str = "images";

/// A fact's name, and how it is read.
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
    ("fingerprint of the data", |p| p.data_fingerprint.clone()),
    (IMAGES, |p| p.data_note.clone()),
    ("last start", |p| utc(p.started_unix_s)),
    ("end", |p| p.finished_unix_s.map_or_else(String::new, utc)),
];

/// A row a fact, a column a run.
pub(super) fn provenance(report: &Report<'_>) -> String {
    let begun = report.points.iter().filter_map(|run| Some((run, run.provenance.as_ref()?)));
    let runs: Vec<_> = begun.collect();
    if runs.is_empty() {
        return "<p>No provenance yet: the run has not begun.</p>\n".to_owned();
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

/// The cells of a fact; what all runs share is said once.
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
