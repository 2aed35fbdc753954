//! The table of means over seeds.

use super::about::jobs;
use super::cells::{Cell, Mark, Read, boxed, explained, start_cells};
use super::groups::{by_size, short};
use super::input::Report;
use super::text::escape;
use crate::results::seeds::Measured;
use crate::results::{AccuracyRow, Results};
use std::fmt::Write as _;

struct MeanRow {
    values: Vec<String>,
    epoch: String,
    annealed: String,
    runs: usize,
    /// Means of three values: fine-tuned top-1, linear-probe top-1, pre-training loss.
    figures: [Option<Measured>; 3],
}

/// The table's columns: heading, value, and folder of the job that measures the value.
const MEANS: [(&str, Read, Option<Read>); 3] = [
    ("fine-tuned top-1 %", |row| &row.finetune.top1, Some(|row| &row.finetune.run)),
    ("linear probe top-1 %", |row| &row.linprobe.top1, Some(|row| &row.linprobe.run)),
    ("pre-training loss", |row| &row.pretrain_loss, None),
];

/// Returns the table of means over seeds as HTML.
pub(super) fn means(report: &Report<'_>) -> String {
    let rows = mean_rows(report);
    let val_images = report.points[0].val_images();
    let mut html = String::from("<thead><tr>");
    for (key, _) in &report.groups[0].values {
        let _ =
            write!(html, "<th scope=\"col\" title=\"{}\">{}</th>", escape(key), escape(short(key)));
    }
    html.push_str(
        "<th scope=\"col\">pre-training epochs</th><th scope=\"col\" class=\"text\">schedule</th>",
    );
    for (name, ..) in MEANS {
        let _ = write!(html, "<th scope=\"col\">{name}</th>");
    }
    html.push_str("<th scope=\"col\">seeds</th></tr></thead><tbody>");
    for row in &rows {
        html.push_str("<tr>");
        for value in &row.values {
            let _ = write!(html, "<td>{}</td>", escape(value));
        }
        html.push_str(&start_cells(&escape(&row.epoch), &row.annealed));
        for (place, figure) in row.figures.iter().enumerate() {
            // Losses depend on masking and normalization, so the lowest one is not the best.
            let (digits, mark) =
                if place < 2 { (2, mark(&rows, row, place, val_images)) } else { (5, Mark::None) };
            let text = figure.map_or_else(String::new, |figure| in_words(figure, digits));
            html.push_str(&Cell { text, mark, open: false }.html());
        }
        let _ = writeln!(html, "<td>{}</td></tr>", row.runs);
    }
    html.push_str("</tbody>");
    explained(boxed("Means over seeds", &html))
}

fn in_words(of: Measured, digits: usize) -> String {
    match of.spread {
        Some(spread) => format!("{:.digits$} ± {spread:.digits$}", of.mean),
        None => format!("{:.digits$}", of.mean),
    }
}

fn mean_rows(report: &Report<'_>) -> Vec<MeanRow> {
    let mut rows = Vec::new();
    for group in &report.groups {
        let mut starts: Vec<(&str, &str)> = Vec::new();
        for row in group.runs.iter().flat_map(|run| &run.accuracy) {
            let start = (row.pretrain_epoch.as_str(), row.annealed.as_str());
            if !start.0.is_empty() && !starts.contains(&start) {
                starts.push(start);
            }
        }
        starts.sort_by(|a, b| by_size(a.0, b.0));
        for (epoch, annealed) in starts {
            let of = |cell: Read, job: Option<Read>| {
                let same =
                    |row: &&AccuracyRow| row.pretrain_epoch == epoch && row.annealed == annealed;
                let of_run = |run: &&Results| {
                    let row = run.accuracy.iter().find(same)?;
                    // A job in progress would lower the mean.
                    let done = |dir: &str| jobs(run).iter().any(|job| job.dir == dir && job.done());
                    let whole = job.is_none_or(|dir| done(dir(row)));
                    cell(row).parse().ok().filter(|_| whole)
                };
                let values: Vec<f64> = group.runs.iter().filter_map(of_run).collect();
                Measured::of(&values)
            };
            let figures = MEANS.map(|(_, cell, job)| of(cell, job));
            rows.push(MeanRow {
                values: group.values.iter().map(|(_, value)| value.clone()).collect(),
                epoch: epoch.to_owned(),
                annealed: annealed.to_owned(),
                runs: figures.iter().flatten().map(|figure| figure.runs).max().unwrap_or(0),
                figures,
            });
        }
    }
    rows
}

fn mark(rows: &[MeanRow], row: &MeanRow, place: usize, val_images: Option<usize>) -> Mark {
    let comparable = rows.iter().filter(|other| other.annealed == row.annealed);
    let figures = comparable.filter_map(|other| other.figures[place]);
    match row.figures[place] {
        // A start from scratch is the baseline and gets no mark.
        Some(own) if !row.annealed.is_empty() => Mark::among(own, figures, val_images),
        _ => Mark::None,
    }
}
