//! The settings of a job's training loop.

use super::rows::OnNanRule;
use super::state::Progress;
use crate::optim::LrSchedule;
use crate::random::Key;
use crate::recipe::Steps;
use crate::results::EpochSteps;
use crate::shape::StageKind;
use std::time::Duration;

/// The settings of a job's training loop.
#[derive(Debug, Clone)]
pub(crate) struct FitPlan {
    pub stage: StageKind,
    pub epochs: usize,
    /// Effective batch size: the number of images of one update over all devices.
    pub images_per_update: usize,
    pub steps: Steps,
    /// Micro-steps per epoch and per update, for learning rates and TensorBoard steps.
    ///
    /// The job's first start sets these numbers. A later start may have different `devices` or `accum_iter`.
    pub pace: EpochSteps,
    pub schedule: LrSchedule,
    pub clip_grad: Option<f64>,
    pub on_nan: OnNanRule,
    /// Number of unreadable validation images that are left out; `None` unless `data.bad_val = "skip"`.
    pub val_skipped: Option<usize>,
    pub gradient_checkpointing: bool,
    /// Epochs after which the job keeps a checkpoint.
    pub keep: Vec<usize>,
    /// Whether kept checkpoints contain the optimizer state.
    pub keep_optimizer: bool,
    /// Time between two saves of the state; `None` saves only at the end of each epoch.
    pub save_every: Option<Duration>,
    /// Random key of the stage. The training loop sets the key's `epoch`.
    pub key: Key,
    /// Number of micro-batches that one rank computes for an update.
    ///
    /// This number is `accum_iter`. It is larger if the job has fewer ranks than `runtime.devices`.
    pub micro_batches: usize,
}

impl FitPlan {
    /// Returns the learning rate of the next update.
    pub(super) fn lr(&self, progress: &Progress) -> f64 {
        let first_micro_step = progress.update * self.pace.accum_iter;
        let done = first_micro_step as f64 / self.pace.micro_steps as f64; // of this epoch
        self.schedule.at((progress.epoch - 1) as f64 + done)
    }
}
