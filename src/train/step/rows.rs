//! Computes a row of `epochs.csv`: means over the updates of an epoch, and validation metrics.

use super::loss_scale::ScaleChange;
use super::state::{EpochSums, Progress, TrainingState};
use crate::infer::{Evaluated, host};
use crate::results::{EpochRow, Validation};
use crate::train::error::TrainError;
use burn::tensor::Tensor;

/// What a job does if the loss or a gradient is NaN or infinite.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OnNanRule {
    /// Maximum number of skipped updates in an epoch; `None` stops the job at the first NaN or infinity.
    pub skip_limit: Option<usize>,
    pub updates_per_epoch: usize,
    /// Recipe key of the learning rate for error messages: `lr` or `blr`.
    pub rate: &'static str,
}

impl OnNanRule {
    fn limit(self) -> usize {
        self.skip_limit.unwrap_or(0).min(self.updates_per_epoch.saturating_sub(1))
    }
}

/// Loss and gradient norm of an update, both `[1]` and on the device.
pub(crate) struct MadeUpdate {
    pub loss: Tensor<1>,
    /// Norm of the gradient before clipping.
    pub norm: Tensor<1>,
    /// Whether the update was skipped because a scaled fp16 gradient overflowed.
    pub overflow: bool,
}

/// Losses and gradient norms that the host has not read from the device yet.
#[derive(Clone, Default)]
pub(crate) struct UnreadLosses {
    values: Vec<Tensor<1>>,
    /// For each update: the learning rate, and whether an fp16 gradient overflowed.
    updates: Vec<(f64, bool)>,
}

impl UnreadLosses {
    pub(crate) fn push(&mut self, made: MadeUpdate, lr: f64) {
        self.values.push(made.loss);
        self.values.push(made.norm);
        self.updates.push((lr, made.overflow));
    }

    pub(crate) fn len(&self) -> usize {
        self.updates.len()
    }

    /// Reads losses and gradient norms from the device, and adds them to the sums of the epoch.
    ///
    /// Returns loss and learning rate of each update, and the number of skipped updates. Fails if the epoch has skipped
    /// more updates than `rule` allows.
    pub(crate) fn read_into(
        &mut self,
        progress: &mut Progress,
        job: &str,
        rule: OnNanRule,
    ) -> Result<(Vec<(f64, f64)>, usize), TrainError> {
        let (mut updates, mut skipped) = (Vec::new(), 0);
        if self.updates.is_empty() {
            return Ok((updates, skipped));
        }
        let count = self.values.len();
        let all = Tensor::cat(std::mem::take(&mut self.values), 0);
        let read = host(&all, &[count])?.values;
        let pushed = std::mem::take(&mut self.updates);
        for (pair, (lr, overflow)) in read.chunks_exact(2).zip(pushed) {
            let sums = &mut progress.sums;
            sums.updates += 1;
            sums.lr += lr;
            updates.push((f64::from(pair[0]), lr));
            if overflow {
                // The loss is finite, so it is part of the mean. The update was skipped.
                sums.loss += f64::from(pair[0]);
                sums.overflows += 1;
                continue;
            }
            let named = [("the loss", pair[0]), ("the gradient norm", pair[1])];
            let Some((what, value)) = named.into_iter().find(|(_, value)| !value.is_finite())
            else {
                sums.loss += f64::from(pair[0]);
                sums.grad_norm += f64::from(pair[1]);
                continue;
            };
            if sums.skipped >= rule.limit() {
                return Err(TrainError::NotFinite {
                    what,
                    value: f64::from(value),
                    job: job.to_owned(),
                    epoch: progress.epoch,
                    update: sums.updates,
                    lr,
                    rate: rule.rate,
                    skipped: sums.skipped,
                });
            }
            sums.skipped += 1;
            skipped += 1;
        }
        Ok((updates, skipped))
    }
}

/// Returns the `epochs.csv` row of a finished epoch.
pub(crate) fn row(
    progress: &Progress,
    measured: Evaluated,
    evaluation_s: f64,
    earlier: &[EpochRow],
) -> EpochRow {
    let Progress { epoch, sums, .. } = *progress;
    let EpochSums { updates, skipped, overflows, images, train_s, data_wait_s, .. } = sums;
    let validation = match measured {
        Evaluated::Metrics(metrics) => {
            let mut best = (metrics.top1, epoch);
            // If several epochs have the best accuracy, the first of them is the best epoch. So go from the last row to
            // the first.
            for old in earlier.iter().rev() {
                match old.validation {
                    Some(v) if v.acc1 >= best.0 => best = (v.acc1, old.epoch),
                    _ => {}
                }
            }
            Some(Validation {
                loss: metrics.loss,
                acc1: metrics.top1,
                acc5: metrics.top5,
                best_acc1: best.0,
                best_epoch: best.1,
            })
        }
        Evaluated::Nothing | Evaluated::Stopped => None,
    };
    let losses = updates - skipped;
    let norms = (losses - overflows).max(1); // an epoch may have only overflows
    EpochRow {
        epoch,
        lr: sums.lr / updates as f64,
        train_loss: sums.loss / losses as f64,
        grad_norm: sums.grad_norm / norms as f64,
        validation,
        images_per_s: images as f64 / train_s.max(1e-9),
        seconds: train_s + evaluation_s,
        data_wait_s,
        skipped_updates: None,
        val_skipped: None,
        loss_scale: None,
    }
}

/// Returns a warning about skipped updates.
pub(crate) fn skipped_text(skipped: usize, progress: &Progress, rule: OnNanRule) -> String {
    let updates = if skipped == 1 { "update" } else { "updates" };
    format!(
        "skipped {skipped} {updates} in epoch {}, because the loss or the gradient was NaN or infinite ({} of at most {} in this epoch)",
        progress.epoch,
        progress.sums.skipped,
        rule.limit()
    )
}

/// Returns a message about a change of the fp16 loss scale; `None` without a change.
pub(crate) fn scale_text<M>(change: ScaleChange, state: &TrainingState<M>) -> Option<String> {
    let factor = state.loss_scale?.factor;
    let Progress { epoch, update, .. } = state.progress;
    let update = update + 1;
    match change {
        ScaleChange::Kept => None,
        ScaleChange::Doubled => Some(format!("the fp16 loss scale is doubled to {factor}")),
        ScaleChange::Halved => Some(format!(
            "the fp16 gradient of update {update} in epoch {epoch} overflowed: the update is skipped, and the loss scale is halved to {factor}"
        )),
    }
}

/// Returns a warning if an epoch spent much of its training time waiting for data.
pub(crate) fn waited(row: &EpochRow, train_s: f64) -> Option<String> {
    const SHARE: f64 = 0.05;
    let share = row.data_wait_s / train_s.max(1e-9);
    (share > SHARE && row.data_wait_s > 1.0).then(|| {
        format!(
            "epoch {} spent {:.0} % of its time waiting for data. To find the slow part, run `mae bench data`. To load \
             faster, raise `data.workers`, set `data.decode = \"fast\"`, or train on smaller images (`mae data pack \
             --short-side 256`)",
            row.epoch,
            100.0 * share
        )
    })
}

/// Fails if the validation loss is NaN or infinite.
pub(crate) fn check_metrics(row: &EpochRow, job: &str, rule: OnNanRule) -> Result<(), TrainError> {
    match row.validation {
        Some(validation) if !validation.loss.is_finite() => Err(TrainError::NotFinite {
            what: "the validation loss",
            value: validation.loss,
            job: job.to_owned(),
            epoch: row.epoch,
            update: 0,
            lr: row.lr,
            rate: rule.rate,
            skipped: 0,
        }),
        _ => Ok(()),
    }
}
