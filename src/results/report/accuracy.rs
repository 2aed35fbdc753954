//! The accuracy table of the HTML report.

use super::cells::{Cell, Mark, Read, boxed, explained, start_cells};
use super::groups::{by_size, short, swept};
use super::input::Report;
use super::means::means;
use super::text::{count, escape};
use crate::recipe::KNN_COLUMN;
use crate::results::AccuracyRow;
use crate::results::accuracy::{measure_columns, measure_name};
use crate::results::seeds::Measured;
use std::cmp::Ordering;
use std::fmt::Write as _;

struct TableColumns {
    heading: &'static str,
    cells: &'static [(&'static str, Read)],
}

const STAGES: [TableColumns; 3] = [
    TableColumns {
        heading: "fine-tuned",
        cells: &[
            ("top-1 %", |row| &row.finetune.top1),
            ("top-5 %", |row| &row.finetune.top5),
            ("best top-1 %", |row| &row.finetune.best_top1),
            ("best epoch", |row| &row.finetune.best_epoch),
        ],
    },
    TableColumns {
        heading: "linear probe",
        cells: &[
            ("top-1 %", |row| &row.linprobe.top1),
            ("top-5 %", |row| &row.linprobe.top5),
            ("best top-1 %", |row| &row.linprobe.best_top1),
        ],
    },
    TableColumns { heading: "kNN", cells: &[("top-1 %", |row| row.measure(KNN_COLUMN))] },
];

struct AccuracyTableRow<'a> {
    swept: Vec<String>,
    cells: &'a AccuracyRow,
    /// Whether the values of fine-tuning, linear probe and kNN are still open. kNN is never open.
    open: [bool; 3],
}

#[derive(Clone, Copy)]
enum Marks {
    None,
    All { val_images: Option<usize> },
}

/// Returns the accuracy table and, with several seeds, a table of means.
pub(super) fn accuracy(report: &Report<'_>) -> String {
    let rows = rows(report);
    if rows.is_empty() {
        let recipe = &report.points[0].recipe;
        let expected =
            recipe.finetune.is_some() || recipe.linprobe.is_some() || recipe.knn.is_some();
        let why = if expected {
            "No accuracies yet."
        } else {
            "The run has no fine-tuning and no linear probing, so there are no accuracies."
        };
        return format!("<p>{why}</p>\n");
    }
    // With several seeds only means are compared: the best single run may be chance.
    let seeds = report.has_seeds();
    let val_images = report.points[0].val_images();
    let marks = if seeds { Marks::None } else { Marks::All { val_images } };
    let all = explained(table(&keys(report), &rows, marks)) + &left_out(&rows);
    if !seeds {
        return all;
    }
    let means = means(report);
    format!("{means}<details><summary>All runs, {} rows</summary>{all}</details>\n", rows.len())
}

/// Returns a note about unreadable validation images; empty if there are none.
fn left_out(rows: &[AccuracyTableRow<'_>]) -> String {
    let counts = || rows.iter().filter_map(|row| row.cells.skipped_images());
    let (least, most) = (counts().min(), counts().max());
    let (Some(least), Some(most @ 1..)) = (least, most) else { return String::new() };
    let images = count(most, "unreadable validation image");
    let images = format!("accuracies leave out {images} (<code>data.bad_val</code>)");
    if least == most {
        return format!("<p class=\"note\">The {images}.</p>\n");
    }
    format!(
        "<p class=\"note\">Some {images}, others leave out {least}. They are not from the same images, so they may not \
         be comparable.</p>\n"
    )
}

fn keys(report: &Report<'_>) -> Vec<String> {
    let swept = swept(&report.points[0]);
    swept.into_iter().filter(|_| report.is_sweep).map(|(key, _)| key).collect()
}

/// Returns the rows of all runs, sorted by swept values.
fn rows<'a>(report: &Report<'a>) -> Vec<AccuracyTableRow<'a>> {
    let mut rows = Vec::new();
    for run in report.points {
        let jobs = run.open_jobs();
        let open = |dir: &str| jobs.contains(&dir);
        let values = swept(run).into_iter().filter(|_| report.is_sweep).map(|(_, value)| value);
        let values: Vec<String> = values.collect();
        rows.extend(run.accuracy.iter().map(|cells| AccuracyTableRow {
            swept: values.clone(),
            cells,
            open: [open(&cells.finetune.run), open(&cells.linprobe.run), false],
        }));
    }
    rows.sort_by(|a, b| {
        let mut pairs = a.swept.iter().zip(&b.swept).map(|(a, b)| by_size(a, b));
        pairs.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    });
    rows
}

fn table(keys: &[String], rows: &[AccuracyTableRow<'_>], marks: Marks) -> String {
    let used = |stage: &TableColumns| {
        rows.iter().any(|row| stage.cells.iter().any(|(_, read)| !read(row.cells).is_empty()))
    };
    let stages: Vec<(usize, &TableColumns)> =
        STAGES.iter().enumerate().filter(|(_, stage)| used(stage)).collect();
    let sets = test_sets(rows);
    let mut body = String::new();
    for row in rows {
        body.push_str("<tr>");
        for value in &row.swept {
            let _ = write!(body, "<td>{}</td>", escape(value));
        }
        body.push_str(&start_cells(&escape(start(row.cells)), &row.cells.annealed));
        for (stage, columns) in &stages {
            for (heading, read) in columns.cells {
                let mark = match marks {
                    Marks::All { val_images } if heading.ends_with('%') => {
                        mark(rows, row.cells, *read, val_images)
                    }
                    _ => Mark::None,
                };
                // While the job runs, the top-1 and top-5 of the last epoch still change.
                let open = row.open[*stage] && heading.starts_with("top");
                let text = read(row.cells).to_owned();
                body.push_str(&Cell { text, mark, open }.html());
            }
        }
        let sets = sets.iter().map(|set| row.cells.measure(set));
        for text in sets.chain([row.cells.pretrain_loss.as_str()]) {
            body.push_str(&Cell { text: text.to_owned(), ..Cell::default() }.html());
        }
        body.push_str("</tr>\n");
    }
    boxed("Accuracy table", &format!("{}<tbody>{body}</tbody>", head(keys, &stages, &sets)))
}

fn test_sets<'a>(rows: &[AccuracyTableRow<'a>]) -> Vec<&'a str> {
    let mut sets = measure_columns(rows.iter().map(|row| row.cells));
    sets.retain(|column| *column != KNN_COLUMN);
    sets
}

fn head(keys: &[String], stages: &[(usize, &TableColumns)], sets: &[&str]) -> String {
    let mut html = String::from("<thead><tr>");
    for key in keys {
        let _ = write!(
            html,
            "<th rowspan=\"2\" scope=\"col\" title=\"{}\">{}</th>",
            escape(key),
            escape(short(key))
        );
    }
    html.push_str("<th rowspan=\"2\" scope=\"col\">pre-training epochs</th>");
    html.push_str("<th rowspan=\"2\" scope=\"col\" class=\"text\">schedule</th>");
    for (_, stage) in stages {
        let (columns, name) = (stage.cells.len(), stage.heading);
        let _ = write!(html, "<th colspan=\"{columns}\" scope=\"colgroup\">{name}</th>");
    }
    for set in sets {
        let name = escape(measure_name(set));
        let _ = write!(html, "<th rowspan=\"2\" scope=\"col\">{name}<br>top-1 %</th>");
    }
    html.push_str("<th rowspan=\"2\" scope=\"col\">pre-training loss</th></tr><tr>");
    for (heading, _) in stages.iter().flat_map(|(_, stage)| stage.cells) {
        let _ = write!(html, "<th scope=\"col\">{heading}</th>");
    }
    html.push_str("</tr></thead>");
    html
}

/// Returns the pre-training epoch or the checkpoint file of a row.
fn start(row: &AccuracyRow) -> &str {
    let dirs = [&row.finetune.run, &row.linprobe.run];
    let file = || dirs.into_iter().find_map(|dir| dir.rsplit_once("from-"));
    match row.pretrain_epoch.as_str() {
        "" => file().map_or("", |(_, file)| file),
        epoch => epoch,
    }
}

/// Returns whether the value is the best, close to the best, or neither.
fn mark(
    rows: &[AccuracyTableRow<'_>],
    row: &AccuracyRow,
    read: Read,
    val_images: Option<usize>,
) -> Mark {
    let measured = |row: &AccuracyRow| Measured::of(&[read(row).parse().ok()?]);
    let comparable = rows.iter().filter(|other| other.cells.annealed == row.annealed);
    let figures = comparable.filter_map(|other| measured(other.cells));
    match measured(row) {
        Some(own) if !row.annealed.is_empty() => Mark::among(own, figures, val_images),
        _ => Mark::None,
    }
}
