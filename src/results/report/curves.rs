//! The charts over epochs: losses, learning rates, accuracies, throughput.

use super::axis::PlotAxis;
use super::groups::by_size;
use super::input::Report;
use super::plot::{Chart, PlotPoint, SCRATCH, Series, Shape, heights, legend};
use super::text::escape;
use super::thin::thin;
use crate::results::seeds::Measured;
use crate::results::{EpochRow, JobResults};
use crate::shape::StageKind;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Maximum number of points in a line, about one per pixel.
const MOST_POINTS: usize = 400;

struct CurveFigure {
    id: &'static str,
    title: &'static str,
    y_label: &'static str,
    scale: AxisScale,
    of: fn(&EpochRow) -> Option<f64>,
}

enum AxisScale {
    Numbers,
    FromZero,
    Percent,
}

const TRAIN_LOSS: CurveFigure = CurveFigure {
    id: "train-loss",
    title: "Training loss",
    y_label: "loss",
    scale: AxisScale::Numbers,
    of: |row| Some(row.train_loss),
};
const LR: CurveFigure = CurveFigure {
    id: "lr",
    title: "Learning rate",
    y_label: "rate",
    scale: AxisScale::FromZero,
    of: |row| Some(row.lr),
};
const VAL_LOSS: CurveFigure = CurveFigure {
    id: "val-loss",
    title: "Validation loss",
    y_label: "loss",
    scale: AxisScale::Numbers,
    of: |row| Some(row.validation?.loss),
};
const VAL_ACC1: CurveFigure = CurveFigure {
    id: "val-acc1",
    title: "Validation top-1",
    y_label: "top-1, %",
    scale: AxisScale::Percent,
    of: |row| Some(row.validation?.acc1),
};
const THROUGHPUT: CurveFigure = CurveFigure {
    id: "throughput",
    title: "Throughput",
    y_label: "images/s",
    scale: AxisScale::FromZero,
    of: |row| Some(row.images_per_s),
};
const DATA_WAIT: CurveFigure = CurveFigure {
    id: "data-wait",
    title: "Waiting for data",
    y_label: "share of the epoch time (%)",
    scale: AxisScale::FromZero,
    of: |row| (row.seconds > 0.0).then(|| 100.0 * row.data_wait_s / row.seconds),
};

const PRETRAIN: [CurveFigure; 4] = [TRAIN_LOSS, LR, THROUGHPUT, DATA_WAIT];
const CLASSIFIER: [CurveFigure; 5] = [VAL_ACC1, VAL_LOSS, TRAIN_LOSS, THROUGHPUT, DATA_WAIT];

/// A line in a chart: the mean over `jobs`, which differ only in their seed.
struct Line<'a> {
    name: String,
    jobs: Vec<&'a JobResults>,
}

/// Returns the charts of all stages as HTML.
pub(super) fn curves(report: &Report<'_>) -> String {
    let mut html = String::new();
    for (stage, title, figures) in [
        (StageKind::Pretrain, "Pre-training", &PRETRAIN[..]),
        (StageKind::Finetune, "Fine-tuning", &CLASSIFIER[..]),
        (StageKind::Linprobe, "Linear probing", &CLASSIFIER[..]),
    ] {
        let blocks = blocks(report, stage, figures);
        if !blocks.is_empty() {
            let _ = write!(html, "<h3>{title}</h3>\n{blocks}");
        }
    }
    html
}

/// Returns the charts of a stage as HTML. For a sweep, groups them by start checkpoint.
fn blocks(report: &Report<'_>, stage: StageKind, figures: &[CurveFigure]) -> String {
    if !report.is_sweep {
        let jobs = report.points.iter().flat_map(|run| &run.jobs).filter(|job| job.stage == stage);
        let lines: Vec<_> =
            jobs.map(|job| Line { name: start(&job.dir), jobs: vec![job] }).collect();
        return block(&stage.to_string(), &lines, figures);
    }
    let all = report.points.iter().flat_map(|run| &run.jobs).filter(|job| job.stage == stage);
    let mut dirs: Vec<&str> = all.map(|job| job.dir.as_str()).collect();
    dirs.sort_by(|a, b| by_size(a, b));
    dirs.dedup();
    let last = dirs.iter().rfind(|dir| start(dir).starts_with("epoch")).or(dirs.last()).copied();
    let mut html = String::new();
    for dir in dirs {
        let mut lines = Vec::new();
        for group in &report.groups {
            let jobs = group.runs.iter().flat_map(|run| &run.jobs).filter(|job| job.dir == dir);
            lines.push(Line { name: group.label(), jobs: jobs.collect() });
        }
        lines.retain(|line| !line.jobs.is_empty());
        let charts = block(&dir.replace('/', "-"), &lines, figures);
        if stage == StageKind::Pretrain {
            return charts;
        }
        let open = if Some(dir) == last { " open" } else { "" };
        let _ = writeln!(
            html,
            "<details{open}><summary>From {}</summary>{charts}</details>",
            escape(&start(dir))
        );
    }
    html
}

/// Returns `epoch 800` for the job folder `finetune/from-0800`.
fn start(dir: &str) -> String {
    match dir.split_once("from-").map(|(_, start)| start) {
        None => String::new(),
        Some(start) => match start.parse::<usize>() {
            Ok(epoch) => format!("epoch {epoch}"),
            Err(_) => start.to_owned(),
        },
    }
}

/// Returns several charts with a common legend as HTML.
fn block(id: &str, lines: &[Line<'_>], figures: &[CurveFigure]) -> String {
    let charts: Vec<Chart> = figures.iter().filter_map(|figure| chart(id, lines, figure)).collect();
    let Some(first) = charts.first() else { return String::new() };
    let seeds = lines.iter().map(|line| line.jobs.len()).max().unwrap_or(1);
    let seeds = if seeds > 1 {
        format!(
            "<p class=\"note\">Lines are means over up to {seeds} seeds. Bands show ± one standard deviation.</p>\n"
        )
    } else {
        String::new()
    };
    format!(
        "{}{seeds}<div class=\"charts\">{}</div>\n",
        legend(&first.series, &[]),
        charts.iter().map(Chart::figure).collect::<String>()
    )
}

fn chart(id: &str, lines: &[Line<'_>], figure: &CurveFigure) -> Option<Chart> {
    let line = |(slot, line): (usize, &Line<'_>)| {
        let points = points(&line.jobs, figure.of);
        let slot = if line.name == "scratch" { SCRATCH } else { slot };
        Series {
            name: line.name.clone(),
            slot,
            shape: Shape::Curve,
            points: thin(&points, MOST_POINTS, |p| p.y),
        }
    };
    let series: Vec<Series> = lines.iter().enumerate().map(line).collect();
    let heights = heights(&series, &[]);
    if heights.is_empty() {
        return None;
    }
    let xs: Vec<f64> = series.iter().flat_map(|s| &s.points).map(|p| p.x).collect();
    Some(Chart {
        id: format!("{id}-{}", figure.id),
        title: figure.title.to_owned(),
        x_label: "epoch".to_owned(),
        y_label: figure.y_label.to_owned(),
        x: PlotAxis::epochs(&xs, 5),
        y: match figure.scale {
            AxisScale::Numbers => PlotAxis::numbers(&heights, 6),
            AxisScale::FromZero => PlotAxis::from_zero(&heights, 5),
            AxisScale::Percent => PlotAxis::percent(&heights, 6),
        },
        series,
        baselines: Vec::new(),
    })
}

/// Returns the mean and standard deviation over `jobs` for each epoch.
fn points(jobs: &[&JobResults], of: fn(&EpochRow) -> Option<f64>) -> Vec<PlotPoint> {
    let mut by_epoch: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for row in jobs.iter().flat_map(|job| &job.epochs) {
        let value = of(row).filter(|value| value.is_finite());
        by_epoch.entry(row.epoch).or_default().extend(value);
    }
    let point = |(epoch, values): (usize, Vec<f64>)| {
        let measured = Measured::of(&values)?;
        Some(PlotPoint {
            x: epoch as f64,
            y: measured.mean,
            spread: measured.spread,
            hollow: false,
        })
    };
    by_epoch.into_iter().filter_map(point).collect()
}
