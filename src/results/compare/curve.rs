//! The epochs of a job, read from a run folder or a log.

use crate::results::{EpochRow, JobResults};
use crate::shape::StageKind;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Curve {
    pub(super) stage: StageKind,
    /// Folder of the job in the run folder, such as `finetune/from-0800`.
    pub(super) dir: String,
    pub(super) points: Vec<CurvePoint>,
}

/// The results of one epoch; `None` if the log lacks a value.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct CurvePoint {
    /// Number of the epoch, from 1.
    pub(super) epoch: usize,
    pub(super) lr: Option<f64>,
    pub(super) train_loss: Option<f64>,
    pub(super) val_loss: Option<f64>,
    pub(super) val_acc1: Option<f64>,
    pub(super) val_acc5: Option<f64>,
    pub(super) best_acc1: Option<f64>,
    pub(super) best_epoch: Option<f64>,
    pub(super) grad_norm: Option<f64>,
    pub(super) images_per_s: Option<f64>,
    pub(super) seconds: Option<f64>,
    pub(super) data_wait_s: Option<f64>,
}

impl From<JobResults> for Curve {
    fn from(job: JobResults) -> Self {
        let points = job.epochs.iter().map(CurvePoint::from).collect();
        Self { stage: job.stage, dir: job.dir, points }
    }
}

impl From<&EpochRow> for CurvePoint {
    fn from(row: &EpochRow) -> Self {
        let validation = row.validation.as_ref();
        Self {
            epoch: row.epoch,
            lr: Some(row.lr),
            train_loss: Some(row.train_loss),
            val_loss: validation.map(|v| v.loss),
            val_acc1: validation.map(|v| v.acc1),
            val_acc5: validation.map(|v| v.acc5),
            best_acc1: validation.map(|v| v.best_acc1),
            best_epoch: validation.map(|v| v.best_epoch as f64),
            grad_norm: Some(row.grad_norm),
            images_per_s: Some(row.images_per_s),
            seconds: Some(row.seconds),
            data_wait_s: Some(row.data_wait_s),
        }
    }
}
