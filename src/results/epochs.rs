//! `epochs.csv`: the table of one job, one row per epoch.

use super::error::{Remedy, RunError};
use crate::durable;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One row of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct EpochRow {
    /// Counts from 1.
    pub epoch: usize,
    /// Mean learning rate over the epoch's updates, as in the official logs.
    pub lr: f64,
    /// Mean over the epoch's updates.
    pub train_loss: f64,
    /// Mean global norm of the gradient over the epoch's updates, before clipping.
    pub grad_norm: f64,
    /// `None` in pre-training.
    pub validation: Option<Validation>,
    pub images_per_s: f64,
    /// Duration of the epoch: training and validation.
    pub seconds: f64,
    /// Time the training loop waited for data, in seconds.
    pub data_wait_s: f64,
}

/// Results on the validation split after an epoch, and the best epoch so far. Accuracies are in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Validation {
    pub loss: f64,
    pub acc1: f64,
    pub acc5: f64,
    pub best_acc1: f64,
    pub best_epoch: usize,
}

/// The columns of a pre-training job.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct PretrainColumns {
    epoch: usize,
    lr: f64,
    train_loss: f64,
    grad_norm: f64,
    images_per_s: f64,
    seconds: f64,
    data_wait_s: f64,
}

/// The columns of a fine-tuning or linear probing job.
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
}

/// Reads and writes the table of one job.
#[derive(Debug, Clone)]
pub struct EpochsCsv {
    path: PathBuf,
}

impl EpochsCsv {
    pub fn in_job(job: &Path) -> Self {
        Self { path: job.join("epochs.csv") }
    }

    /// Reads all rows. Returns none if the file does not exist yet.
    pub fn read(&self) -> Result<Vec<EpochRow>, RunError> {
        let damaged = |e: &dyn std::fmt::Display| RunError::Damaged {
            path: self.path.clone(),
            problem: e.to_string(),
            way_on: Remedy::RemoveItsFolder,
        };
        if !self.path.exists() {
            return Ok(Vec::new());
        }
        let mut reader = csv::Reader::from_path(&self.path).map_err(|e| damaged(&e))?;
        let has_validation =
            reader.headers().map_err(|e| damaged(&e))?.iter().any(|h| h == "val_acc1");
        let rows: Vec<EpochRow> = if has_validation {
            reader.deserialize().map(|row| row.map(from_classifier)).collect::<Result<_, _>>()
        } else {
            reader.deserialize().map(|row| row.map(from_pretrain)).collect::<Result<_, _>>()
        }
        .map_err(|e| damaged(&e))?;
        if let Some(pair) = rows.windows(2).find(|pair| pair[1].epoch != pair[0].epoch + 1) {
            let [before, after] = [pair[0].epoch, pair[1].epoch];
            return Err(damaged(&format!("after epoch {before} comes epoch {after}")));
        }
        Ok(rows)
    }

    /// Fails if the last row is before `epoch`, the last epoch that the job has finished.
    pub fn check_reaches(&self, epoch: usize) -> Result<(), RunError> {
        let last = self.read()?.last().map_or(0, |row| row.epoch);
        if last >= epoch {
            return Ok(());
        }
        Err(RunError::Damaged {
            path: self.path.clone(),
            problem: format!("it ends with epoch {last}, but the job has finished epoch {epoch}"),
            way_on: Remedy::RemoveItsFolder,
        })
    }

    /// Adds a row and returns all rows.
    ///
    /// Replaces the rows of the same epoch and of later ones: they are from an attempt that was interrupted.
    pub fn put(&self, row: EpochRow) -> Result<Vec<EpochRow>, RunError> {
        let mut rows = self.read()?;
        rows.retain(|old| old.epoch < row.epoch);
        rows.push(row);
        let mut writer = csv::Writer::from_writer(Vec::new());
        for row in &rows {
            match row.validation {
                Some(validation) => writer.serialize(classifier_columns(row, validation)),
                None => writer.serialize(pretrain_columns(row)),
            }
            .expect("a row has only numbers");
        }
        let bytes = writer.into_inner().expect("writing to a vector cannot fail");
        durable::write(&self.path, &bytes).map_err(RunError::io(&self.path))?;
        Ok(rows)
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
    }
}

/// Rounds a measured time or rate to three decimals.
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
        }
    }

    #[test]
    fn a_repeated_epoch_replaces_its_row_and_later_rows() {
        let dir = tempfile::tempdir().unwrap();
        let csv = EpochsCsv::in_job(dir.path());
        for epoch in [1, 2, 3, 2] {
            csv.put(row(epoch)).unwrap();
        }
        assert_eq!(csv.read().unwrap(), vec![row(1), row(2)]);
    }

    #[test]
    fn the_table_of_a_classifier_keeps_its_promised_columns() {
        let dir = tempfile::tempdir().unwrap();
        let validation =
            Validation { loss: 0.5, acc1: 97.5, acc5: 100.0, best_acc1: 97.5, best_epoch: 1 };
        let row = EpochRow { validation: Some(validation), ..row(1) };
        let csv = EpochsCsv::in_job(dir.path());
        csv.put(row.clone()).unwrap();
        assert_eq!(csv.read().unwrap(), vec![row]);
        let text = std::fs::read_to_string(dir.path().join("epochs.csv")).unwrap();
        assert!(text.starts_with(
            "epoch,lr,train_loss,val_loss,val_acc1,val_acc5,best_acc1,best_epoch,images_per_s,seconds"
        ));
    }
}
