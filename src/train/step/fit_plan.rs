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
    /// Number of images of one update, over all devices.
    pub images_per_update: usize,
    pub steps: Steps,
    /// The micro-steps that learning rates and TensorBoard steps follow: those of the job's first start. `devices` and
    /// `accum_iter` may be different in this start.
    pub pace: EpochSteps,
    pub schedule: LrSchedule,
    pub clip_grad: Option<f64>,
    pub on_nan: OnNanRule,
    /// Number of unreadable images that are not in the validation split; `None` without `data.bad_val = "skip"`.
    pub val_skipped: Option<usize>,
    pub gradient_checkpointing: bool,
    /// Epochs whose checkpoints are kept.
    pub keep: Vec<usize>,
    /// Whether kept checkpoints contain the optimizer state.
    pub keep_optimizer: bool,
    /// Time between two saves within an epoch; `None` saves only after each epoch.
    pub save_every: Option<Duration>,
    /// Selects the stage's random numbers. The training loop sets the key's `epoch`.
    pub key: Key,
    /// Number of micro-batches per update on one rank.
    ///
    /// This is `accum_iter`, or more if the job has fewer ranks than `runtime.devices`.
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
