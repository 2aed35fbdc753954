//! The accuracy plots: top-1 against pre-training epoch and against each swept key.

use super::axis::PlotAxis;
use super::beside::{PublishedRow, model};
use super::cells::Read;
use super::groups::{RunGroup, by_size, short};
use super::input::Report;
use super::plot::{Baseline, Chart, PlotPoint, SCRATCH, Series, Shape, heights, legend};
use super::text::escape;
use crate::recipe::KNN_COLUMN;
use crate::results::AccuracyRow;
use crate::results::seeds::Measured;
use std::fmt::Write as _;

/// A stage that measures an accuracy.
struct SeriesKind {
    id: &'static str,
    name: &'static str,
    own: Read,
    published: fn(&PublishedRow) -> Option<f64>,
}

const KINDS: [SeriesKind; 3] = [
    SeriesKind {
        id: "finetune",
        name: "Fine-tuned",
        own: |row| &row.finetune.top1,
        published: |row| row.finetune_top1,
    },
    SeriesKind {
        id: "linprobe",
        name: "Linear probe",
        own: |row| &row.linprobe.top1,
        published: |row| row.linprobe_top1,
    },
    SeriesKind {
        id: "knn",
        name: "k nearest neighbours",
        own: |row| row.measure(KNN_COLUMN),
        published: |_| None,
    },
];

const MOST_LINES: usize = 18;

/// Returns all accuracy plots as HTML.
pub(super) fn plots(report: &Report<'_>) -> String {
    let by_epoch: Vec<Chart> =
        KINDS.iter().filter_map(|kind| against_epochs(report, kind)).collect();
    let mut html = String::new();
    if !by_epoch.is_empty() {
        html.push_str("<h3>Against the pre-training epoch</h3>\n");
        html.push_str(&grid(&by_epoch));
        html.push_str("<p class=\"note\">Filled marks show the end of a schedule. Rings show the middle of a longer schedule.");
        if report.has_seeds() {
            html.push_str(" Marks are means over seeds. Bars show ± one standard deviation.");
        }
        html.push_str("</p>\n");
    }
    for key in swept_keys(report) {
        let charts: Vec<Chart> =
            KINDS.iter().filter_map(|kind| against_key(report, kind, &key)).collect();
        if !charts.is_empty() {
            let _ = write!(html, "<h3>Against {}</h3>\n{}", escape(&key), grid(&charts));
        }
    }
    html.push_str(&sources(report));
    html
}

/// Returns HTML that shows charts and their legends side by side.
fn grid(charts: &[Chart]) -> String {
    let with_legend = |chart: &Chart| {
        format!("<div>{}{}</div>", chart.figure(), legend(&chart.series, &chart.baselines))
    };
    format!(
        "<div class=\"charts wide\">{}</div>\n",
        charts.iter().map(with_legend).collect::<String>()
    )
}

fn swept_keys(report: &Report<'_>) -> Vec<String> {
    let of_first = report.groups.first().map(|group| &group.values);
    of_first.into_iter().flatten().map(|(key, _)| key.clone()).collect()
}

/// Returns the mean accuracy over the runs in `group` for a pre-training epoch.
fn point(group: &RunGroup<'_>, kind: &SeriesKind, epoch: &str, x: f64) -> Option<PlotPoint> {
    let rows = group.runs.iter().flat_map(|run| &run.accuracy);
    let rows: Vec<&AccuracyRow> = rows.filter(|row| row.pretrain_epoch == epoch).collect();
    let values: Vec<f64> = rows.iter().filter_map(|row| (kind.own)(row).parse().ok()).collect();
    let measured = Measured::of(&values)?;
    let hollow = rows.iter().any(|row| row.annealed == "0");
    Some(PlotPoint { x, y: measured.mean, spread: measured.spread, hollow })
}

/// Returns the pre-training epochs of all rows, sorted and without duplicates.
fn epochs<'a>(groups: &[&RunGroup<'a>]) -> Vec<&'a str> {
    let rows = groups.iter().flat_map(|group| &group.runs).flat_map(|run| &run.accuracy);
    let mut epochs: Vec<&str> =
        rows.map(|row| row.pretrain_epoch.as_str()).filter(|e| !e.is_empty()).collect();
    epochs.sort_by(|a, b| by_size(a, b));
    epochs.dedup();
    epochs
}

fn against_epochs(report: &Report<'_>, kind: &SeriesKind) -> Option<Chart> {
    let (mut series, mut baselines) = (Vec::new(), Vec::new());
    for (slot, group) in report.groups.iter().enumerate() {
        let label = group.label();
        let name = if label.is_empty() { kind.name.to_lowercase() } else { label.clone() };
        let starts = epochs(&[group]).into_iter().filter(|epoch| *epoch != "0");
        let points = starts.filter_map(|epoch| point(group, kind, epoch, epoch.parse().ok()?));
        let points: Vec<PlotPoint> = points.collect();
        if !points.is_empty() {
            series.push(Series { name, slot, shape: Shape::Marks, points });
        }
        if let Some(scratch) = point(group, kind, "0", 0.0) {
            baselines.push(Baseline { name: format!("scratch, {label}"), slot, y: scratch.y });
        }
    }
    // If only the pre-training is swept, all sweep points have the same result from scratch: one line is enough.
    if baselines.iter().all(|line| (line.y - baselines[0].y).abs() < 0.005) {
        baselines.truncate(1);
        for line in &mut baselines {
            *line = Baseline { name: "scratch".to_owned(), slot: SCRATCH, y: line.y };
        }
    }
    if series.is_empty() && baselines.is_empty() {
        return None;
    }
    let slot = report.groups.len();
    let plain =
        published(report, kind, slot, PublishedRow::is_plain, |row| Some(row.pretrain_epoch));
    series.extend(plain);
    baselines.extend(published_scratch(report, kind, slot));
    let xs: Vec<f64> = series.iter().flat_map(|s| &s.points).map(|p| p.x).collect();
    Some(Chart {
        id: format!("top1-{}", kind.id),
        title: format!("{}: top-1 against pre-training", kind.name),
        x_label: "pre-training epochs".to_owned(),
        y_label: "top-1, %".to_owned(),
        x: PlotAxis::at(&xs),
        y: PlotAxis::percent(&heights(&series, &baselines), 6),
        series,
        baselines,
    })
}

fn next_slot(series: &[Series]) -> usize {
    series.iter().filter(|line| line.slot != SCRATCH).count()
}

/// Returns published results as crosses, one series per table and model.
fn published(
    report: &Report<'_>,
    kind: &SeriesKind,
    first_slot: usize,
    belongs: impl Fn(&PublishedRow) -> bool,
    x: impl Fn(&PublishedRow) -> Option<f64>,
) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    for row in report.beside.iter().filter(|row| belongs(row)) {
        let (Some(y), Some(x)) = ((kind.published)(row), x(row)) else { continue };
        let name = name(report, row);
        let point = PlotPoint { x, y, spread: None, hollow: false };
        if let Some(series) = series.iter_mut().find(|series| series.name == name) {
            series.points.push(point);
        } else {
            let slot = first_slot + table(report, row);
            series.push(Series { name, slot, shape: Shape::Crosses, points: vec![point] });
        }
    }
    series
}

/// Returns published results of training from scratch as horizontal lines.
fn published_scratch(report: &Report<'_>, kind: &SeriesKind, first_slot: usize) -> Vec<Baseline> {
    let rows = report.beside.iter().filter(|row| row.is_scratch());
    let baseline = |row: &PublishedRow| {
        let name = format!("scratch, {}", name(report, row));
        Some(Baseline { name, slot: first_slot + table(report, row), y: (kind.published)(row)? })
    };
    rows.filter_map(baseline).collect()
}

fn name(report: &Report<'_>, row: &PublishedRow) -> String {
    if model(&report.points[0].recipe).as_ref() == Some(&row.model) {
        row.table.to_owned()
    } else {
        format!("{}, {}", row.table, row.model)
    }
}

/// Returns the index of the published table that contains `row`.
fn table(report: &Report<'_>, row: &PublishedRow) -> usize {
    let mut tables: Vec<&str> = report.beside.iter().map(|row| row.table).collect();
    tables.dedup();
    tables.iter().position(|table| *table == row.table).unwrap_or(0)
}

fn sources(report: &Report<'_>) -> String {
    let keys = swept_keys(report);
    let shown = |row: &&PublishedRow| {
        row.is_plain() || row.is_scratch() || keys.iter().any(|key| row.varies(key))
    };
    let mut tables: Vec<(&str, Vec<&str>)> = Vec::new();
    for row in report.beside.iter().filter(shown) {
        match tables.iter_mut().find(|(table, _)| *table == row.table) {
            Some((_, sources)) => sources.push(&row.source),
            None => tables.push((row.table, vec![&row.source])),
        }
    }
    let mut html = String::new();
    for (table, mut sources) in tables {
        sources.dedup();
        let _ = writeln!(html, "<p class=\"note\">× {table}: {}</p>", escape(&sources.join("; ")));
    }
    html
}

/// The lines of a plot, as (label, groups of runs).
type Lines<'r, 'a> = Vec<(String, Vec<&'r RunGroup<'a>>)>;

fn against_key(report: &Report<'_>, kind: &SeriesKind, key: &str) -> Option<Chart> {
    let value = |group: &RunGroup<'_>| {
        group.values.iter().find(|(k, _)| k == key).map(|(_, value)| value.clone())
    };
    let mut names: Vec<String> = report.groups.iter().filter_map(value).collect();
    names.sort_by(|a, b| by_size(a, b));
    names.dedup();
    let numbers: Option<Vec<f64>> = names.iter().map(|name| name.parse().ok()).collect();
    let place = |name: &str| match &numbers {
        Some(_) => name.parse().ok(),
        None => names.iter().position(|n| n == name).map(|place| place as f64),
    };
    let lines = lines(report, key);
    let all: Vec<&RunGroup<'_>> = report.groups.iter().collect();
    let mut starts = epochs(&all);
    if lines.len() * starts.len() > MOST_LINES {
        starts.drain(..starts.len().saturating_sub((MOST_LINES / lines.len()).max(1)));
    }
    let mut series = Vec::new();
    for (others, groups) in &lines {
        for epoch in &starts {
            let at = |group: &&&RunGroup<'_>| point(group, kind, epoch, place(&value(group)?)?);
            let points: Vec<PlotPoint> = groups.iter().filter_map(|group| at(&group)).collect();
            if points.is_empty() {
                continue;
            }
            let start = if *epoch == "0" { "scratch".to_owned() } else { format!("epoch {epoch}") };
            let name = if others.is_empty() { start } else { format!("{others}, {start}") };
            let slot = if *epoch == "0" { SCRATCH } else { next_slot(&series) };
            series.push(Series { name, slot, shape: Shape::Marks, points });
        }
    }
    if series.is_empty() {
        return None;
    }
    let varied = |row: &PublishedRow| row.varies(key);
    series.extend(published(report, kind, next_slot(&series), varied, |row| place(&row.value)));
    let xs: Vec<f64> = series.iter().flat_map(|s| &s.points).map(|p| p.x).collect();
    Some(Chart {
        id: format!("top1-{}-{}", kind.id, key.replace('.', "-")),
        title: format!("{}: top-1 against {}", kind.name, short(key)),
        x_label: key.to_owned(),
        y_label: "top-1, %".to_owned(),
        x: if numbers.is_some() { PlotAxis::at(&xs) } else { PlotAxis::names(&names) },
        y: PlotAxis::percent(&heights(&series, &[]), 6),
        series,
        baselines: Vec::new(),
    })
}

fn lines<'r, 'a>(report: &'r Report<'a>, key: &str) -> Lines<'r, 'a> {
    let mut lines: Lines<'r, 'a> = Vec::new();
    for group in &report.groups {
        let others = group.values.iter().filter(|(k, _)| k != key);
        let others: Vec<String> = others.map(|(k, v)| format!("{} {v}", short(k))).collect();
        let others = others.join(", ");
        match lines.iter_mut().find(|(name, _)| *name == others) {
            Some((_, groups)) => groups.push(group),
            None => lines.push((others, vec![group])),
        }
    }
    lines
}
