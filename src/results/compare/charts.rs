//! The charts of the Excel workbook.

use super::comparison::Comparison;
use super::curve::Curve;
use super::sheet::Sheet;
use super::text;
use rust_xlsxwriter::{
    Chart, ChartLegendPosition, ChartMarker, ChartMarkerType, ChartType, Worksheet, XlsxError,
};

/// Excel's limit for the number of lines in a chart.
const MOST_SERIES: usize = 255;
const WIDTH: u32 = 620;
const HEIGHT: u32 = 360;

/// A line in an Excel chart, with its first and last row in the sheet.
struct ChartRows {
    name: String,
    first: u32,
    last: u32,
}

/// Adds charts of mean top-1 accuracy against pre-training epoch to the summary sheet.
pub(super) fn accuracy(
    page: &mut Worksheet,
    sheet: &Sheet,
    comparison: &Comparison,
) -> Result<(), XlsxError> {
    let below = sheet.rows.len() as u32 + 2;
    let (mut left, mut any) = (0_u16, false);
    for (title, y) in
        [("Fine-tuning", "finetune_top1_mean"), ("Linear probe", "linprobe_top1_mean")]
    {
        let series = groups(comparison, sheet, y);
        if !series.is_empty() {
            let title = format!("{title}, top-1 %");
            let mut chart = chart(&title, "pre-training epoch", "top-1 %", true);
            fill(&mut chart, "summary", sheet, &series, ("pretrain_epoch", y));
            page.insert_chart_with_offset(below + 1, left, &chart, 4, 4)?;
            // Column widths vary. Seven columns are always wider than one chart.
            left += 7;
            any = true;
        }
    }
    if any {
        page.write_string(
            below,
            0,
            "Rows with annealed 0 are from the middle of a longer schedule. Rows with annealed 1 are from the end of a schedule. Do not compare the two kinds of rows.",
        )?;
    }
    Ok(())
}

fn groups(comparison: &Comparison, sheet: &Sheet, y: &str) -> Vec<ChartRows> {
    let (Some(x), Some(y)) = (sheet.column("pretrain_epoch"), sheet.column(y)) else {
        return Vec::new();
    };
    let mut starts = vec![0];
    for run in &comparison.runs {
        starts.push(starts[starts.len() - 1] + run.rows.len());
    }
    let series = comparison.groups.iter().filter_map(|group| {
        let rows = starts[group[0]]..starts[group[0] + 1];
        let mut with_epoch = rows.filter(|row| sheet.number(*row, x).is_some());
        let measured = with_epoch.clone().any(|row| sheet.number(row, y).is_some());
        let (first, last) = (with_epoch.clone().next()?, with_epoch.next_back()?);
        let rows = || ChartRows {
            name: text::label(comparison, group),
            first: first as u32 + 1,
            last: last as u32 + 1,
        };
        measured.then(rows)
    });
    series.collect()
}

/// Adds charts of accuracy and loss per epoch to a sheet.
pub(super) fn epochs(
    page: &mut Worksheet,
    name: &str,
    sheet: &Sheet,
    curves: &[&Curve],
) -> Result<(), XlsxError> {
    let mut first = 1;
    let jobs: Vec<ChartRows> = curves
        .iter()
        .map(|curve| {
            let last = first + curve.points.len() as u32 - 1;
            let rows = ChartRows { name: curve.dir.clone(), first, last };
            first = last + 1;
            rows
        })
        .collect();
    let beside = sheet.header.len() as u16 + 1;
    let mut row = 1;
    for (y, title) in [
        ("val_acc1", "Validation top-1 %"),
        ("train_loss", "Training loss"),
        ("val_loss", "Validation loss"),
    ] {
        if sheet.column(y).is_some() {
            let mut chart = chart(&format!("{title} by epoch"), "epoch", title, false);
            fill(&mut chart, name, sheet, &jobs, ("epoch", y));
            page.insert_chart(row, beside, &chart)?;
            row += HEIGHT / 20 + 1;
        }
    }
    Ok(())
}

fn chart(title: &str, x: &str, y: &str, points: bool) -> Chart {
    let kind =
        if points { ChartType::ScatterStraightWithMarkers } else { ChartType::ScatterStraight };
    let mut chart = Chart::new(kind);
    chart.title().set_name(title);
    chart.x_axis().set_name(x);
    chart.y_axis().set_name(y);
    chart.legend().set_position(ChartLegendPosition::Bottom);
    chart.set_width(WIDTH).set_height(HEIGHT);
    chart
}

fn fill(chart: &mut Chart, page: &str, sheet: &Sheet, series: &[ChartRows], (x, y): (&str, &str)) {
    let column = |name: &str| sheet.column(name).expect("the sheet has this column") as u16;
    let (x, y) = (column(x), column(y));
    for rows in series.iter().take(MOST_SERIES) {
        let one = chart
            .add_series()
            .set_name(rows.name.as_str())
            .set_categories((page, rows.first, x, rows.last, x))
            .set_values((page, rows.first, y, rows.last, y));
        if rows.first == rows.last {
            // A line with a single point is invisible without a marker.
            one.set_marker(ChartMarker::new().set_type(ChartMarkerType::Circle).set_size(6));
        }
    }
    // A legend of more series leaves no room for the plot.
    if series.len() > 24 {
        chart.legend().set_hidden();
    }
}
