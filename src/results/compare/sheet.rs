//! The tables of a comparison, for CSV files and Excel sheets.

use super::comparison::Comparison;
use super::error::CompareError;
use super::run::{ComparisonRow, Metric, Run};
use super::text;
use crate::durable;
use crate::recipe::NOT_SET;
use crate::results::accuracy::COLUMNS;
use crate::results::seeds::Measured;
use crate::text::csv_rows;
use std::path::Path;

/// Columns whose cells are always text, even if a cell looks like a number.
const WORDS: [&str; 8] =
    ["run", "runs", "seeds", "model", "variant", "source", "finetune_run", "linprobe_run"];

/// A table of text. A missing value is an empty cell.
pub(super) struct Sheet {
    pub(super) header: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Sheet {
    pub(super) fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|head| head == name)
    }

    /// Returns the number in a cell; `None` if the cell is text.
    pub(super) fn number(&self, row: usize, column: usize) -> Option<f64> {
        let words = WORDS.contains(&self.header[column].as_str());
        let number: f64 = self.rows[row][column].parse().ok().filter(|_| !words)?;
        number.is_finite().then_some(number)
    }
}

/// Returns the main table, with one row per run and checkpoint.
pub(super) fn summary(comparison: &Comparison) -> Sheet {
    let published = comparison.runs.iter().any(|run| run.origin.is_some());
    let mut header = vec!["run".to_owned()];
    header.extend(comparison.settings.iter().map(|setting| setting.key.clone()));
    header.extend(COLUMNS.map(str::to_owned));
    header.extend(["finetune_top1_diff", "linprobe_top1_diff"].map(str::to_owned));
    for stage in ["finetune", "linprobe"] {
        header.extend(["mean", "spread", "runs"].map(|what| format!("{stage}_top1_{what}")));
    }
    if published {
        header.extend(["model", "variant", "value", "source"].map(str::to_owned));
    }
    header.extend(comparison.measures.iter().cloned());
    let mut rows = Vec::new();
    for (index, run) in comparison.runs.iter().enumerate() {
        for row in &run.rows {
            let mut cells = vec![run.name.clone()];
            cells.extend(comparison.settings.iter().map(|s| setting(s.values[index].as_deref())));
            cells.extend(row.cells.cells().map(str::to_owned));
            cells.extend(measures(comparison, index, row));
            if published {
                cells.extend(origin(run, row));
            }
            let measures = comparison.measures.iter().map(|name| row.cells.measure(name));
            cells.extend(measures.map(str::to_owned));
            rows.push(cells);
        }
    }
    Sheet { header, rows }
}

fn setting(value: Option<&str>) -> String {
    value.filter(|value| *value != NOT_SET).unwrap_or_default().to_owned()
}

fn origin(run: &Run, row: &ComparisonRow) -> [String; 4] {
    let Some(origin) = run.origin.clone() else { return Default::default() };
    [origin.model, origin.variant, origin.value, row.source.clone()]
}

/// Returns the cells `finetune_top1_diff`, `linprobe_top1_diff`, and means over seeds.
fn measures(comparison: &Comparison, run: usize, row: &ComparisonRow) -> Vec<String> {
    let group = comparison.group_of(run);
    let metrics = [Metric::Finetune, Metric::Linprobe];
    let difference = |metric| {
        let difference = comparison.against_first(group, &row.key, metric);
        difference.map(|difference| number(difference.points)).unwrap_or_default()
    };
    let mut cells: Vec<String> = metrics.into_iter().map(difference).collect();
    for metric in metrics {
        cells.extend(measured(comparison.measured(group, &row.key, metric)));
    }
    cells
}

fn measured(measured: Option<Measured>) -> [String; 3] {
    let Some(measured) = measured else { return Default::default() };
    let spread = measured.spread.map(number).unwrap_or_default();
    [number(measured.mean), spread, measured.runs.to_string()]
}

/// Formats a number with at most four decimals.
fn number(value: f64) -> String {
    // Adding 0 turns "-0" into "0".
    format!("{}", (value * 1e4).round() / 1e4 + 0.0)
}

/// Returns the settings that differ: one row per setting, one column per run.
pub(super) fn differences(comparison: &Comparison) -> Sheet {
    let shown: Vec<usize> =
        (0..comparison.runs.len()).filter(|run| !comparison.runs[*run].published).collect();
    let mut header = vec!["setting".to_owned()];
    header.extend(shown.iter().map(|run| comparison.runs[*run].label.clone()));
    let rows = comparison.settings.iter().map(|setting| {
        let values = shown.iter().map(|run| setting.values[*run].clone().unwrap_or_default());
        [setting.key.clone()].into_iter().chain(values).collect()
    });
    Sheet { rows: rows.collect(), header }
}

/// Returns the means over seeds; `None` if no runs differ only in their seed.
pub(super) fn groups(comparison: &Comparison) -> Option<Sheet> {
    comparison.groups.iter().find(|group| group.len() > 1)?;
    let settings: Vec<_> = comparison.settings.iter().filter(|s| s.key != "seed").collect();
    let mut header = vec!["run".to_owned(), "seeds".to_owned()];
    header.extend(settings.iter().map(|setting| setting.key.clone()));
    header.extend(["pretrain_epoch", "annealed"].map(str::to_owned));
    for stage in ["finetune", "linprobe"] {
        let what = ["mean", "spread", "runs", "diff", "noise"];
        header.extend(what.map(|what| format!("{stage}_top1_{what}")));
    }
    let mut rows = Vec::new();
    for group in &comparison.groups {
        let runs: Vec<&Run> = group.iter().map(|run| &comparison.runs[*run]).collect();
        for key in
            comparison.keys.iter().filter(|key| runs.iter().any(|run| run.row(key).is_some()))
        {
            let mut cells = vec![text::label(comparison, group), text::seeds(&runs)];
            cells.extend(settings.iter().map(|s| setting(s.values[group[0]].as_deref())));
            cells.push(key.epoch.map(|epoch| epoch.to_string()).unwrap_or_default());
            cells.push(key.annealed.map(|yes| u8::from(yes).to_string()).unwrap_or_default());
            for metric in [Metric::Finetune, Metric::Linprobe] {
                cells.extend(measured(comparison.measured(group, key, metric)));
                let difference = comparison.against_first(group, key, metric);
                cells.push(difference.map(|d| number(d.points)).unwrap_or_default());
                cells.push(difference.map(|d| number(d.noise)).unwrap_or_default());
            }
            rows.push(cells);
        }
    }
    Some(Sheet { header, rows })
}

/// Writes a table as CSV (RFC 4180), atomically.
pub(super) fn write_csv(path: &Path, sheet: &Sheet) -> Result<(), CompareError> {
    let rows = std::iter::once(&sheet.header).chain(&sheet.rows);
    let bytes = csv_rows(rows, csv::Terminator::CRLF);
    durable::write_output(path, &bytes)
        .map_err(|source| CompareError::Io { path: path.into(), source })
}
