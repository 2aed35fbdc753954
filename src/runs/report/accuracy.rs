//! The accuracy table, as `accuracy.csv` has it.

use super::Report;
use super::about::jobs;
use super::cells::Cell;
use super::cells::Mark;
use super::cells::Read;
use super::cells::boxed;
use super::cells::explained;
use super::cells::start_cells;
use super::means::means;
use super::spread::by_size;
use super::spread::short;
use super::spread::swept;
use super::text::escape;
use crate::runs::AccuracyRow;
use std::cmp::Ordering;
use std::fmt::Write as _;

/// The columns of a stage: their headings, and how they are read.
struct Columns {
    heading: &'static str,
    cells: &'static [(&'static str, Read)],
}

const STAGES: [Columns; 2] = [
    Columns {
        heading: "fine-tuned",
        cells: &[
            ("top-1 %", |row| &row.finetune.top1),
            ("top-5 %", |row| &row.finetune.top5),
            ("best top-1 %", |row| &row.finetune.best_top1),
            ("in epoch", |row| &row.finetune.best_epoch),
        ],
    },
    Columns {
        heading: "linear probe",
        cells: &[
            ("top-1 %", |row| &row.linprobe.top1),
            ("top-5 %", |row| &row.linprobe.top5),
            ("best top-1 %", |row| &row.linprobe.best_top1),
        ],
    },
];

/// A row of a point of a sweep, or of a run.
struct Row<'a> {
    swept: Vec<String>,
    cells: &'a AccuracyRow,
    /// Of the fine-tuning and the probe: begun, and not at its end.
    open: [bool; 2],
}

/// The accuracy table of a run, or of every point of a sweep; over seeds their means before it.
pub(super) fn accuracy(report: &Report<'_>) -> String {
    let rows = rows(report);
    if rows.is_empty() {
        let recipe = &report.points[0].recipe;
        let expected = recipe.finetune.is_some() || recipe.linprobe.is_some();
        let why =
            if expected { "No accuracies yet." } else { "Pre-training alone: no accuracies." };
        return format!("<p>{why}</p>\n");
    }
    // Over seeds the means are what is compared; the best of single runs is luck.
    let seeds = report.has_seeds();
    let all = explained(table(&keys(report), &rows, !seeds));
    if !seeds {
        return all;
    }
    let means = means(report);
    format!("{means}<details><summary>Every run, {} rows</summary>{all}</details>\n", rows.len())
}

fn keys(report: &Report<'_>) -> Vec<String> {
    let swept = swept(&report.points[0]);
    swept.into_iter().filter(|_| report.is_sweep).map(|(key, _)| key).collect()
}

/// The rows of all points, smaller values first.
fn rows<'a>(report: &Report<'a>) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    for run in report.points {
        let jobs = jobs(run);
        let open =
            |dir: &str| jobs.iter().any(|job| job.dir == dir && job.epoch > 0 && !job.done());
        let values = swept(run).into_iter().filter(|_| report.is_sweep).map(|(_, value)| value);
        let values: Vec<String> = values.collect();
        rows.extend(run.accuracy.iter().map(|cells| Row {
            swept: values.clone(),
            cells,
            open: [open(&cells.finetune.run), open(&cells.linprobe.run)],
        }));
    }
    rows.sort_by(|a, b| {
        let mut pairs = a.swept.iter().zip(&b.swept).map(|(a, b)| by_size(a, b));
        pairs.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    });
    rows
}

fn table(keys: &[String], rows: &[Row<'_>], marks: bool) -> String {
    let used = |stage: &Columns| {
        rows.iter().any(|row| stage.cells.iter().any(|(_, read)| !read(row.cells).is_empty()))
    };
    let stages: Vec<(usize, &Columns)> =
        STAGES.iter().enumerate().filter(|(_, stage)| used(stage)).collect();
    let mut body = String::new();
    for row in rows {
        body.push_str("<tr>");
        for value in &row.swept {
            let _ = write!(body, "<td>{}</td>", escape(value));
        }
        body.push_str(&start_cells(&escape(start(row.cells)), &row.cells.annealed));
        for (stage, columns) in &stages {
            for (heading, read) in columns.cells {
                let best = marks && heading.ends_with('%') && is_best(rows, row.cells, *read);
                let mark = if best { Mark::Best } else { Mark::None };
                // A best value stands; what belongs to the last epoch will change.
                let open = row.open[*stage] && heading.starts_with("top");
                let text = read(row.cells).to_owned();
                body.push_str(&Cell { text, mark, open }.html());
            }
        }
        let loss = Cell { text: row.cells.pretrain_loss.clone(), ..Cell::default() };
        let _ = writeln!(body, "{}</tr>", loss.html());
    }
    boxed("Accuracy table", &format!("{}<tbody>{body}</tbody>", head(keys, &stages)))
}

fn head(keys: &[String], stages: &[(usize, &Columns)]) -> String {
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
    html.push_str("<th rowspan=\"2\" scope=\"col\">pre-training loss</th></tr><tr>");
    for (heading, _) in stages.iter().flat_map(|(_, stage)| stage.cells) {
        let _ = write!(html, "<th scope=\"col\">{heading}</th>");
    }
    html.push_str("</tr></thead>");
    html
}

/// The epoch a row starts from, or the file, as its jobs' folders name it.
fn start(row: &AccuracyRow) -> &str {
    let dirs = [&row.finetune.run, &row.linprobe.run];
    let file = || dirs.into_iter().find_map(|dir| dir.rsplit_once("from-"));
    match row.pretrain_epoch.as_str() {
        "" => file().map_or("", |(_, file)| file),
        epoch => epoch,
    }
}

/// Whether no row that may be compared with this one has a larger value; a start from scratch is not compared.
fn is_best(rows: &[Row<'_>], row: &AccuracyRow, read: Read) -> bool {
    let Ok(own) = read(row).parse::<f64>() else { return false };
    let comparable = rows.iter().filter(|other| other.cells.annealed == row.annealed);
    let mut values = comparable.filter_map(|other| read(other.cells).parse::<f64>().ok());
    !row.annealed.is_empty() && values.all(|other| other <= own)
}
