//! `epochs.csv`: the results of one job, one row per epoch.

use super::error::{Remedy, RunError};
use super::read_checked::read_checked;
use crate::durable::{self, GrowingFile};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind::NotFound;
use std::path::{Path, PathBuf};

/// One row of `epochs.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// Number of the epoch, from 1.
    pub epoch: usize,
    /// Mean learning rate over the updates of the epoch.
    pub lr: f64,
    /// Mean training loss over the updates of the epoch.
    pub train_loss: f64,
    /// Mean gradient norm before clipping.
    pub grad_norm: f64,
    /// Results on the validation split; `None` for pre-training.
    pub validation: Option<Validation>,
    pub images_per_s: f64,
    /// Duration of the epoch in seconds, including validation.
    pub seconds: f64,
    /// Time in seconds that the training loop waited for data.
    pub data_wait_s: f64,
    /// Number of updates skipped because of NaN or infinity; `None` unless `on_nan` is "skip".
    pub skipped_updates: Option<usize>,
    /// Number of unreadable validation images that the validation results leave out.
    ///
    /// `None` for pre-training, or if `data.bad_val` is not "skip".
    pub val_skipped: Option<usize>,
    /// Loss scale at the end of the epoch; `None` unless the precision is fp16.
    pub loss_scale: Option<f64>,
}

/// The validation results of an epoch, and the best top-1 up to this epoch.
///
/// Accuracies are in %.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    pub loss: f64,
    pub acc1: f64,
    pub acc5: f64,
    pub best_acc1: f64,
    pub best_epoch: usize,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct PretrainColumns {
    epoch: usize,
    lr: f64,
    train_loss: f64,
    grad_norm: f64,
    images_per_s: f64,
    seconds: f64,
    data_wait_s: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    skipped_updates: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loss_scale: Option<f64>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct ClassifierColumns {
    epoch: usize,
    lr: f64,
    train_loss: f64,
    val_loss: f64,
    val_acc1: f64,
    val_acc5: f64,
    best_acc1: f64,
    best_epoch: usize,
    images_per_s: f64,
    seconds: f64,
    grad_norm: f64,
    data_wait_s: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    skipped_updates: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    val_skipped: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loss_scale: Option<f64>,
}

/// Reads the `epochs.csv` of a job.
#[derive(Debug, Clone)]
pub struct EpochsCsv {
    path: PathBuf,
}

impl EpochsCsv {
    pub fn in_job(job: &Path) -> Self {
        Self { path: job.join("epochs.csv") }
    }

    /// Reads all complete rows. Returns no rows if the file is missing.
    ///
    /// Fails if the content differs from the recorded checksum.
    pub fn read(&self) -> Result<Vec<EpochRow>, RunError> {
        Ok(self.parse(&self.text()?)?.into_iter().map(|(row, _)| row).collect())
    }

    fn text(&self) -> Result<Vec<u8>, RunError> {
        match read_checked(&self.path, Remedy::RemoveItsFolder) {
            Err(RunError::Unreadable { source, .. }) if source.kind() == NotFound => Ok(Vec::new()),
            read => read,
        }
    }

    /// Returns each row of `text` with the byte position where the row ends.
    fn parse(&self, text: &[u8]) -> Result<Vec<(EpochRow, usize)>, RunError> {
        let damaged = |e: &dyn std::fmt::Display| self.damaged(e.to_string());
        let mut reader = csv::Reader::from_reader(text);
        let headers = reader.byte_headers().map_err(|e| damaged(&e))?.clone();
        let has_validation = headers.iter().any(|head| head == b"val_acc1");
        let (mut rows, mut record) = (Vec::<(EpochRow, usize)>::new(), csv::ByteRecord::new());
        while reader.read_byte_record(&mut record).map_err(|e| damaged(&e))? {
            let row = if has_validation {
                record.deserialize(Some(&headers)).map(from_classifier)
            } else {
                record.deserialize(Some(&headers)).map(from_pretrain)
            };
            let row = row.map_err(|e| damaged(&e))?;
            if let Some((before, _)) = rows.last()
                && row.epoch != before.epoch + 1
            {
                let (before, after) = (before.epoch, row.epoch);
                return Err(damaged(&format!(
                    "the epochs are not in order: epoch {after} follows epoch {before}"
                )));
            }
            let end = reader.position().byte() as usize;
            // The reader stops before the second half of CR LF.
            let end = end + usize::from(text.get(end) == Some(&b'\n'));
            rows.push((row, end));
        }
        Ok(rows)
    }

    fn damaged(&self, problem: String) -> RunError {
        let path = self.path.clone();
        RunError::Damaged { path, problem, way_on: Remedy::RemoveItsFolder }
    }

    /// Fails if `epochs.csv` ends before `epoch`, the last epoch that the job has finished.
    pub fn check_reaches(&self, epoch: usize) -> Result<(), RunError> {
        let last = self.read()?.last().map_or(0, |row| row.epoch);
        if last >= epoch {
            return Ok(());
        }
        Err(self.damaged(format!(
            "the file ends with epoch {last}, but the job has finished epoch {epoch}"
        )))
    }

    /// Opens `epochs.csv` to append the rows of the epochs after `epoch`.
    ///
    /// Removes existing rows after `epoch`, because the resumed job trains these epochs again.
    pub fn append_after(&self, epoch: usize) -> Result<EpochsWriter, RunError> {
        let mut text = self.text()?;
        let mut rows = self.parse(&text)?;
        rows.retain(|(row, _)| row.epoch <= epoch);
        let Some(&(_, mut end)) = rows.last() else {
            return Ok(EpochsWriter { path: self.path.clone(), file: None, rows: Vec::new() });
        };
        // An editor may have removed the last line break. Without it, the next row would continue the last row.
        if text[end - 1] != b'\n' {
            text.insert(end, b'\n');
            end += 1;
            durable::write(&self.path, &text).map_err(RunError::io(&self.path))?;
        }
        let file = GrowingFile::open(&self.path, &text[..end]).map_err(RunError::io(&self.path))?;
        let rows = rows.into_iter().map(|(row, _)| row).collect();
        Ok(EpochsWriter { path: self.path.clone(), file: Some(file), rows })
    }
}

/// Appends rows to the `epochs.csv` of a training job.
#[derive(Debug)]
pub struct EpochsWriter {
    path: PathBuf,
    /// `None` before the first row.
    file: Option<GrowingFile>,
    rows: Vec<EpochRow>,
}

impl EpochsWriter {
    /// Returns all rows of the file.
    pub fn rows(&self) -> &[EpochRow] {
        &self.rows
    }

    /// Appends a row to `epochs.csv` and flushes the file to the disk.
    pub fn push(&mut self, row: EpochRow) -> Result<(), RunError> {
        let has_headers = self.file.is_none();
        let mut writer = csv::WriterBuilder::new().has_headers(has_headers).from_writer(Vec::new());
        match row.validation {
            Some(validation) => writer.serialize(classifier_columns(&row, validation)),
            None => writer.serialize(pretrain_columns(&row)),
        }
        .expect("numbers always fit a row");
        let bytes = writer.into_inner().expect("writing to a vector cannot fail");
        match &mut self.file {
            Some(file) => file.append(&bytes),
            None => GrowingFile::create(&self.path, &bytes).map(|file| self.file = Some(file)),
        }
        .map_err(RunError::io(&self.path))?;
        self.rows.push(row);
        Ok(())
    }
}

fn pretrain_columns(row: &EpochRow) -> PretrainColumns {
    PretrainColumns {
        epoch: row.epoch,
        lr: row.lr,
        train_loss: row.train_loss,
        grad_norm: row.grad_norm,
        images_per_s: thousandths(row.images_per_s),
        seconds: thousandths(row.seconds),
        data_wait_s: thousandths(row.data_wait_s),
        skipped_updates: row.skipped_updates,
        loss_scale: row.loss_scale,
    }
}

fn classifier_columns(row: &EpochRow, validation: Validation) -> ClassifierColumns {
    ClassifierColumns {
        epoch: row.epoch,
        lr: row.lr,
        train_loss: row.train_loss,
        val_loss: validation.loss,
        val_acc1: validation.acc1,
        val_acc5: validation.acc5,
        best_acc1: validation.best_acc1,
        best_epoch: validation.best_epoch,
        images_per_s: thousandths(row.images_per_s),
        seconds: thousandths(row.seconds),
        grad_norm: row.grad_norm,
        data_wait_s: thousandths(row.data_wait_s),
        skipped_updates: row.skipped_updates,
        val_skipped: row.val_skipped,
        loss_scale: row.loss_scale,
    }
}

fn from_pretrain(c: PretrainColumns) -> EpochRow {
    EpochRow {
        epoch: c.epoch,
        lr: c.lr,
        train_loss: c.train_loss,
        grad_norm: c.grad_norm,
        validation: None,
        images_per_s: c.images_per_s,
        seconds: c.seconds,
        data_wait_s: c.data_wait_s,
        skipped_updates: c.skipped_updates,
        val_skipped: None,
        loss_scale: c.loss_scale,
    }
}

fn from_classifier(c: ClassifierColumns) -> EpochRow {
    EpochRow {
        epoch: c.epoch,
        lr: c.lr,
        train_loss: c.train_loss,
        grad_norm: c.grad_norm,
        validation: Some(Validation {
            loss: c.val_loss,
            acc1: c.val_acc1,
            acc5: c.val_acc5,
            best_acc1: c.best_acc1,
            best_epoch: c.best_epoch,
        }),
        images_per_s: c.images_per_s,
        seconds: c.seconds,
        data_wait_s: c.data_wait_s,
        skipped_updates: c.skipped_updates,
        val_skipped: c.val_skipped,
        loss_scale: c.loss_scale,
    }
}

fn thousandths(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::{EpochRow, EpochsCsv, Validation};

    fn row(epoch: usize) -> EpochRow {
        EpochRow {
            epoch,
            lr: 1.0 / 3.0,
            train_loss: 0.1,
            grad_norm: 2.0,
            validation: None,
            images_per_s: 10.0,
            seconds: 1.5,
            data_wait_s: 0.0,
            skipped_updates: None,
            val_skipped: None,
            loss_scale: None,
        }
    }

    #[test]
    fn a_repeated_epoch_replaces_its_row_and_later_rows() {
        let dir = tempfile::tempdir().unwrap();
        let csv = EpochsCsv::in_job(dir.path());
        let mut writer = csv.append_after(0).unwrap();
        for epoch in [1, 2, 3] {
            writer.push(row(epoch)).unwrap();
        }
        let mut writer = csv.append_after(1).unwrap();
        writer.push(row(2)).unwrap();
        assert_eq!(writer.rows(), [row(1), row(2)]);
        assert_eq!(csv.read().unwrap(), [row(1), row(2)]);
        // Remove the last line break, as an editor may do.
        let path = dir.path().join("epochs.csv");
        let text = std::fs::read_to_string(&path).unwrap();
        crate::durable::write(&path, text.trim_end().as_bytes()).unwrap();
        csv.append_after(2).unwrap().push(row(3)).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 4);
        csv.append_after(0).unwrap().push(row(1)).unwrap();
        assert_eq!(csv.read().unwrap(), [row(1)]);
    }

    #[test]
    fn the_table_of_a_classifier_keeps_its_promised_columns() {
        let dir = tempfile::tempdir().unwrap();
        let validation =
            Validation { loss: 0.5, acc1: 97.5, acc5: 100.0, best_acc1: 97.5, best_epoch: 1 };
        let row = EpochRow { validation: Some(validation), ..row(1) };
        let csv = EpochsCsv::in_job(dir.path());
        csv.append_after(0).unwrap().push(row.clone()).unwrap();
        assert_eq!(csv.read().unwrap(), vec![row]);
        let text = std::fs::read_to_string(dir.path().join("epochs.csv")).unwrap();
        assert!(text.starts_with(
            "epoch,lr,train_loss,val_loss,val_acc1,val_acc5,best_acc1,best_epoch,images_per_s,seconds"
        ));
    }
}
