//! `accuracy.csv`, the main result of a run: one row per pre-training epoch.

use super::epochs::{EpochRow, EpochsCsv};
use super::error::{Remedy, RunError};
use super::measure_tables::MeasureTables;
use super::read_back::read_provenance;
use super::read_checked::read_checked;
use crate::durable;
use crate::recipe::{BadVal, Job, KNN_COLUMN, Plan, Source};
use crate::shape::StageKind;
use crate::text::{cell_text, csv_rows};
use std::fs;
use std::path::Path;

/// Columns of `accuracy.csv` that follow the columns of the swept recipe keys.
pub(super) const COLUMNS: [&str; 12] = [
    "pretrain_epoch",
    "annealed",
    "finetune_top1",
    "finetune_top5",
    "finetune_best_top1",
    "finetune_best_epoch",
    "linprobe_top1",
    "linprobe_top5",
    "linprobe_best_top1",
    "pretrain_loss",
    "finetune_run",
    "linprobe_run",
];

/// The last column of `accuracy.csv`, only written with `data.bad_val = "skip"`.
pub(super) const VAL_SKIPPED: &str = "val_skipped";

/// A row of `accuracy.csv`, as text. A cell without a result is empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AccuracyRow {
    /// Values of the swept recipe keys, in the order of the columns.
    pub swept: Vec<String>,
    pub pretrain_epoch: String,
    /// `1` if the pre-training schedule ended at `pretrain_epoch`, `0` if not.
    ///
    /// Empty unless the row belongs to a pre-training epoch of the run.
    pub annealed: String,
    pub finetune: JobCells,
    pub linprobe: JobCells,
    pub pretrain_loss: String,
    /// Accuracies of `[knn]` and `[robustness]`, as (column name, cell).
    pub measures: Vec<(String, String)>,
    /// Number of unreadable validation images that these accuracies leave out.
    ///
    /// `None` unless `data.bad_val` is "skip".
    pub val_skipped: Option<String>,
}

/// The accuracies of one fine-tuning or linear probe, in % with two decimals.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JobCells {
    pub top1: String,
    pub top5: String,
    pub best_top1: String,
    pub best_epoch: String,
    /// Folder of the fine-tuning or linear probe, relative to the folder of `accuracy.csv`.
    pub run: String,
}

/// Returns the rows of `accuracy.csv` for the run in `folder`.
///
/// Each row belongs to one checkpoint that fine-tuning and linear probing start from. The order is: training from
/// scratch (epoch 0), the weights of `pretrain.from`, pre-training epochs, checkpoint files. The row is missing if all
/// jobs of a checkpoint failed. With `[knn]`, each kept pre-training checkpoint has a row. The text `prefix` is put in
/// front of every job folder in the rows.
pub fn accuracy(plan: &Plan, folder: &Path, prefix: &str) -> Result<Vec<AccuracyRow>, RunError> {
    let provenance = read_provenance(folder)?;
    let skipped = provenance.as_ref().and_then(|run| run.val_skipped);
    let failed = provenance.map(|run| run.failed_jobs).unwrap_or_default();
    let mut jobs = plan.jobs();
    jobs.retain(|job| failed.iter().all(|failed| failed.job != job.dir));
    let mut sources: Vec<&Source> = Vec::new();
    let kept = plan.pretrain.iter().filter(|_| plan.knn.is_some());
    let kept = kept.flat_map(|pretrain| &pretrain.checkpoint_epochs);
    let kept: Vec<Source> = kept.map(|epoch| Source::Epoch(*epoch)).collect();
    for source in jobs.iter().filter_map(|job| job.from.as_ref()).chain(&kept) {
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
    sources.sort_by_key(|source| match source {
        Source::Scratch => (0, 0),
        Source::Start(_) => (1, 0),
        Source::Epoch(epoch) => (2, *epoch),
        Source::File(_) => (3, 0),
    });
    let pretrain = EpochsCsv::in_job(&folder.join("pretrain")).read()?;
    let measured = MeasureTables::read(folder)?;
    let rows = sources.into_iter().map(|source| {
        let row = row(plan, &jobs, source, &pretrain, folder, prefix)?;
        let measures = measured.cells(plan, source, &jobs);
        let is_knn = |(column, cell): &(String, String)| column == KNN_COLUMN && !cell.is_empty();
        let val_skipped = match (row.val_skipped, skipped) {
            (Some(none), Some(skipped)) if none.is_empty() && measures.iter().any(is_knn) => {
                Some(skipped.to_string())
            }
            (cell, _) => cell,
        };
        Ok(AccuracyRow { measures, val_skipped, ..row })
    });
    rows.collect()
}

fn row(
    plan: &Plan,
    jobs: &[Job],
    source: &Source,
    pretrain: &[EpochRow],
    folder: &Path,
    prefix: &str,
) -> Result<AccuracyRow, RunError> {
    let mut val_skipped = None;
    let mut cells = |stage: StageKind| -> Result<JobCells, RunError> {
        let job = jobs.iter().find(|job| job.stage == stage && job.from.as_ref() == Some(source));
        match job {
            None => Ok(JobCells::default()),
            Some(job) => {
                let rows = EpochsCsv::in_job(&folder.join(&job.dir)).read()?;
                val_skipped = val_skipped.or(rows.last().and_then(|row| row.val_skipped));
                Ok(job_cells(&rows, &job.dir, prefix))
            }
        }
    };
    let (pretrain_epoch, annealed, pretrain_loss) = match source {
        Source::Scratch => ("0".to_owned(), String::new(), String::new()),
        Source::Start(_) | Source::File(_) => Default::default(),
        Source::Epoch(epoch) => {
            let last = plan.pretrain.as_ref().is_some_and(|p| p.training.epochs == *epoch);
            let loss = pretrain.iter().find(|row| row.epoch == *epoch);
            (
                epoch.to_string(),
                u8::from(last).to_string(),
                loss.map_or_else(String::new, |row| format!("{:.5}", row.train_loss)),
            )
        }
    };
    let (finetune, linprobe) = (cells(StageKind::Finetune)?, cells(StageKind::Linprobe)?);
    let val_skipped = val_skipped.map_or_else(String::new, |skipped| skipped.to_string());
    Ok(AccuracyRow {
        val_skipped: Some(val_skipped).filter(|_| plan.data.bad_val == BadVal::Skip),
        swept: plan.swept.iter().map(|(_, value)| value.trim_matches('"').to_owned()).collect(),
        pretrain_epoch,
        annealed,
        finetune,
        linprobe,
        pretrain_loss,
        measures: Vec::new(),
    })
}

fn job_cells(rows: &[EpochRow], dir: &str, prefix: &str) -> JobCells {
    let Some(last) = rows.last().and_then(|row| row.validation) else {
        return JobCells { run: format!("{prefix}{dir}"), ..JobCells::default() };
    };
    let percent = |value: f64| format!("{value:.2}");
    JobCells {
        top1: percent(last.acc1),
        top5: percent(last.acc5),
        best_top1: percent(last.best_acc1),
        best_epoch: last.best_epoch.to_string(),
        run: format!("{prefix}{dir}"),
    }
}

/// Replaces `accuracy.csv` in `folder` if the content has changed.
///
/// `swept` lists the swept recipe keys. `measures` lists the columns for `[knn]` and `[robustness]`.
pub fn write_accuracy(
    folder: &Path,
    swept: &[String],
    measures: &[String],
    rows: &[AccuracyRow],
) -> Result<(), RunError> {
    let path = folder.join("accuracy.csv");
    let skips = rows.iter().any(|row| row.val_skipped.is_some());
    let rows = rows.iter().map(|row| {
        let swept = row.swept.iter().map(String::as_str);
        let measures = measures.iter().map(|column| row.measure(column));
        let skipped = skips.then(|| row.val_skipped.as_deref().unwrap_or_default());
        swept.chain(row.cells()).chain(measures).chain(skipped).collect::<Vec<_>>()
    });
    let measures = measures.iter().map(String::as_str);
    let header = header(swept).into_iter().chain(measures).chain(skips.then_some(VAL_SKIPPED));
    let header = header.collect();
    let bytes = csv_rows(std::iter::once(header).chain(rows), csv::Terminator::CRLF);
    if std::fs::read(&path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    durable::write(&path, &bytes).map_err(RunError::io(&path))
}

fn header(swept: &[String]) -> Vec<&str> {
    swept.iter().map(String::as_str).chain(COLUMNS).collect()
}

pub(super) fn is_table_of(path: &Path, swept: &[String]) -> bool {
    let header = csv_rows([header(swept)], csv::Terminator::CRLF);
    fs::read(path).is_ok_and(|text| text.starts_with(header.trim_ascii_end()))
}

/// Returns the swept recipe keys and the rows of `accuracy.csv`. Both are empty if the file is missing.
pub(super) fn read_accuracy(folder: &Path) -> Result<(Vec<String>, Vec<AccuracyRow>), RunError> {
    let path = folder.join("accuracy.csv");
    if !path.is_file() {
        return Ok(Default::default());
    }
    let damaged = |problem: String| RunError::broken_table(path.clone(), problem);
    let text = String::from_utf8(read_checked(&path, Remedy::WrittenAnew)?)
        .map_err(|_| damaged("this is not a text file".to_owned()))?;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header: Vec<String> = match reader.headers() {
        Ok(header) => header.iter().map(|head| cell_text(head).to_owned()).collect(),
        Err(e) => return Err(damaged(csv_problem(&text, &e))),
    };
    let skips = header.last().is_some_and(|last| last == VAL_SKIPPED);
    let columns = header.len() - usize::from(skips);
    let keys = header.iter().position(|head| head == COLUMNS[0]).unwrap_or(0);
    let is_table = |(usual, measures): &(&[String], &[String])| {
        *usual == COLUMNS && measures.iter().all(|head| is_measure(head))
    };
    let split = header[keys..columns].split_at_checked(COLUMNS.len()).filter(is_table);
    let Some((_, measures)) = split else {
        return Err(damaged(format!("the columns must be {}", COLUMNS.join(","))));
    };
    let rows = reader.records().map(|record| {
        let record = record?;
        let cell = |column: &str| {
            let place = COLUMNS.iter().position(|name| *name == column).expect("a column");
            cell_text(&record[keys + place]).to_owned()
        };
        let swept = record.iter().take(keys).map(|cell| cell_text(cell).to_owned()).collect();
        let last = record.iter().skip(keys + COLUMNS.len());
        let measures = measures.iter().cloned().zip(last.map(|cell| cell_text(cell).to_owned()));
        let measures = measures.collect();
        let val_skipped = skips.then(|| cell_text(&record[columns]).to_owned());
        Ok(AccuracyRow { swept, measures, val_skipped, ..AccuracyRow::from_cells(cell) })
    });
    let rows =
        rows.collect::<Result<_, csv::Error>>().map_err(|e| damaged(csv_problem(&text, &e)))?;
    Ok((header[..keys].to_vec(), rows))
}

pub(super) fn is_measure(column: &str) -> bool {
    column.ends_with("_top1") && !COLUMNS.contains(&column)
}

/// Removes `_top1` from a column name.
pub(super) fn measure_name(column: &str) -> &str {
    column.strip_suffix("_top1").unwrap_or(column)
}

pub(super) fn measure_columns<'a>(rows: impl IntoIterator<Item = &'a AccuracyRow>) -> Vec<&'a str> {
    let mut columns: Vec<&str> = Vec::new();
    for (column, _) in rows.into_iter().flat_map(|row| &row.measures) {
        if !columns.contains(&column.as_str()) {
            columns.push(column);
        }
    }
    columns
}

/// Describes a CSV error with its line number.
pub(super) fn csv_problem(text: &str, error: &csv::Error) -> String {
    let problem = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("found {len} cells, but the header has {expected_len} cells")
        }
        _ => error.to_string(),
    };
    match error.position() {
        Some(position) => format!("line {}: {problem}", line_of(text, position)),
        None => problem,
    }
}

/// Returns the line number of a CSV record, from 1.
pub(super) fn line_of(text: &str, position: &csv::Position) -> usize {
    let byte = position.byte() as usize;
    let before = text.get(..byte).unwrap_or(text).matches('\n').count();
    let on_its_end = text.get(byte..).is_some_and(|after| after.starts_with('\n'));
    1 + before + usize::from(on_its_end)
}

impl AccuracyRow {
    pub(super) fn from_cells(cell: impl Fn(&str) -> String) -> Self {
        let job = |stage: &str| JobCells {
            top1: cell(&format!("{stage}_top1")),
            top5: cell(&format!("{stage}_top5")),
            best_top1: cell(&format!("{stage}_best_top1")),
            best_epoch: if stage == "finetune" {
                cell("finetune_best_epoch")
            } else {
                String::new()
            },
            run: cell(&format!("{stage}_run")),
        };
        Self {
            swept: Vec::new(),
            pretrain_epoch: cell("pretrain_epoch"),
            annealed: cell("annealed"),
            finetune: job("finetune"),
            linprobe: job("linprobe"),
            pretrain_loss: cell("pretrain_loss"),
            measures: Vec::new(),
            val_skipped: None,
        }
    }

    pub(super) fn skipped_images(&self) -> Option<usize> {
        self.val_skipped.as_deref()?.parse().ok()
    }

    pub(super) fn measure(&self, column: &str) -> &str {
        let cell = self.measures.iter().find(|(name, _)| name == column);
        cell.map_or("", |(_, cell)| cell.as_str())
    }

    pub(super) fn cells(&self) -> [&str; 12] {
        let Self { finetune, linprobe, .. } = self;
        [
            &self.pretrain_epoch,
            &self.annealed,
            &finetune.top1,
            &finetune.top5,
            &finetune.best_top1,
            &finetune.best_epoch,
            &linprobe.top1,
            &linprobe.top5,
            &linprobe.best_top1,
            &self.pretrain_loss,
            &finetune.run,
            &linprobe.run,
        ]
    }
}
