//! The table of means over seeds.

use super::about::jobs;
use super::cells::{Cell, Mark, Read, boxed, explained, start_cells};
use super::groups::{by_size, short};
use super::input::Report;
use super::text::escape;
use crate::recipe::KNN_COLUMN;
use crate::results::accuracy::{measure_columns, measure_name};
use crate::results::seeds::Measured;
use crate::results::{AccuracyRow, Results};
use std::fmt::Write as _;

struct MeanRow {
    values: Vec<String>,
    epoch: String,
    annealed: String,
    runs: usize,
    /// One mean per column; `None` without a result.
    figures: Vec<Option<Measured>>,
}

struct Column {
    heading: String,
    read: Box<dyn Fn(&AccuracyRow) -> &str>,
    /// Returns the folder of the job that measures the value.
    job: Option<Read>,
    digits: usize,
    /// Whether the best values get a mark. Losses do not.
    is_marked: bool,
}

fn accuracy(
    name: &str,
    read: Box<dyn Fn(&AccuracyRow) -> &str>,
    job: Option<Read>,
    is_marked: bool,
) -> Column {
    Column { heading: format!("{name} top-1 %"), read, job, digits: 2, is_marked }
}

fn columns(report: &Report<'_>) -> Vec<Column> {
    let mut columns = vec![
        accuracy(
            "fine-tuned",
            Box::new(|row| &row.finetune.top1),
            Some(|row| &row.finetune.run),
            true,
        ),
        accuracy(
            "linear probe",
            Box::new(|row| &row.linprobe.top1),
            Some(|row| &row.linprobe.run),
            true,
        ),
    ];
    let rows = report.points.iter().flat_map(|run| &run.accuracy);
    columns.extend(measure_columns(rows).into_iter().map(|column| {
        let (own, is_knn) = (column.to_owned(), column == KNN_COLUMN);
        let name = if is_knn { "kNN".to_owned() } else { escape(measure_name(column)) };
        accuracy(&name, Box::new(move |row| row.measure(&own)), None, is_knn)
    }));
    columns.push(Column {
        heading: "pre-training loss".to_owned(),
        read: Box::new(|row| &row.pretrain_loss),
        job: None,
        digits: 5,
        is_marked: false,
    });
    columns
}

/// Returns the table of means over seeds as HTML.
pub(super) fn means(report: &Report<'_>) -> String {
    let columns = columns(report);
    let rows = mean_rows(report, &columns);
    let val_images = report.points[0].val_images();
    let mut html = String::from("<thead><tr>");
    for (key, _) in &report.groups[0].values {
        let _ =
            write!(html, "<th scope=\"col\" title=\"{}\">{}</th>", escape(key), escape(short(key)));
    }
    html.push_str(
        "<th scope=\"col\">pre-training epochs</th><th scope=\"col\" class=\"text\">schedule</th>",
    );
    for Column { heading, .. } in &columns {
        let _ = write!(html, "<th scope=\"col\">{heading}</th>");
    }
    html.push_str("<th scope=\"col\">seeds</th></tr></thead><tbody>");
    for row in &rows {
        html.push_str("<tr>");
        for value in &row.values {
            let _ = write!(html, "<td>{}</td>", escape(value));
        }
        html.push_str(&start_cells(&escape(&row.epoch), &row.annealed));
        for (place, (figure, column)) in row.figures.iter().zip(&columns).enumerate() {
            let marked = column.is_marked.then(|| mark(&rows, row, place, val_images));
            let mark = marked.unwrap_or_default();
            let text = figure.map_or_else(String::new, |figure| in_words(figure, column.digits));
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

fn mean_rows(report: &Report<'_>, columns: &[Column]) -> Vec<MeanRow> {
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
            let of = |column: &Column| {
                let same =
                    |row: &&AccuracyRow| row.pretrain_epoch == epoch && row.annealed == annealed;
                let of_run = |run: &&Results| {
                    let row = run.accuracy.iter().find(same)?;
                    // A job in progress would lower the mean.
                    let done = |dir: &str| jobs(run).iter().any(|job| job.dir == dir && job.done());
                    let whole = column.job.is_none_or(|dir| done(dir(row)));
                    (column.read)(row).parse().ok().filter(|_| whole)
                };
                let values: Vec<f64> = group.runs.iter().filter_map(of_run).collect();
                Measured::of(&values)
            };
            let figures: Vec<_> = columns.iter().map(of).collect();
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
