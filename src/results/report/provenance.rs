//! The provenance table of the HTML report.

use super::about::point_name;
use super::cells::boxed;
use super::input::Report;
use super::text::{escape, utc};
use crate::results::Provenance;
use std::fmt::Write as _;

/// Rows that the table leaves out if all their cells are empty.
const OPTIONAL: [&str; 3] = ["images", "starting checkpoints", "failed jobs"];

/// A table row: the heading, and a function that returns the cell of a run.
type Fact = (&'static str, fn(&Provenance) -> String);

const FACTS: [Fact; 14] = [
    ("version", |p| p.version.clone()),
    ("commit", |p| p.commit.clone()),
    ("command line", |p| p.command_line.join(" ")),
    ("device", |p| p.device.clone()),
    ("devices", |p| p.devices.to_string()),
    ("precision", |p| p.precision.clone()),
    ("CPU threads", |p| p.threads.to_string()),
    ("seed", |p| p.seed.to_string()),
    ("data fingerprint", |p| p.data_fingerprint.clone()),
    (OPTIONAL[0], |p| p.data_note.clone()),
    (OPTIONAL[1], start_files),
    (OPTIONAL[2], failed_jobs),
    ("last start", |p| utc(p.started_unix_s)),
    ("end", |p| p.finished_unix_s.map_or_else(String::new, utc)),
];

/// Returns the provenance table as HTML, with one column per run.
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
        if OPTIONAL.contains(&name) && values.iter().all(String::is_empty) {
            continue;
        }
        let _ = writeln!(html, "<tr><th scope=\"row\">{name}</th>{}</tr>", cells(&values));
    }
    html.push_str("</tbody>");
    boxed("Provenance", &html)
}

fn start_files(provenance: &Provenance) -> String {
    let mut texts: Vec<String> = Vec::new();
    for file in &provenance.start_files {
        let epoch = file.epoch.map_or_else(String::new, |epoch| format!(", epoch {epoch}"));
        let text = format!("{}{epoch} (BLAKE3 {})", file.path.display(), file.blake3);
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts.join("; ")
}

fn failed_jobs(provenance: &Provenance) -> String {
    let failed = provenance.failed_jobs.iter();
    failed.map(|failed| format!("{}: {}", failed.job, failed.reason)).collect::<Vec<_>>().join("; ")
}

/// Returns the cells of a row. Merges the cells if all values are equal.
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
