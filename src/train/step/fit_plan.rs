//! The settings of a job's training loop.

use super::rows::OnNanRule;
use super::state::Progress;
use crate::optim::LrSchedule;
use crate::random::Key;
use crate::recipe::Steps;
use crate::shape::StageKind;
use std::time::Duration;

/// The settings of a job's training loop.
#[derive(Debug, Clone)]
pub(crate) struct FitPlan {
    pub stage: StageKind,
    pub epochs: usize,
    pub accum_iter: usize,
    /// Number of images in one micro-step, over all devices.
    pub images_per_micro_step: usize,
    pub steps: Steps,
    pub schedule: LrSchedule,
    pub clip_grad: Option<f64>,
    pub on_nan: OnNanRule,
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
        let first_micro_step = progress.update * self.accum_iter;
        let done = first_micro_step as f64 / self.steps.micro_steps as f64; // of this epoch
        self.schedule.at((progress.epoch - 1) as f64 + done)
    }
}
