//! What a job shows and opens before its first update.

use super::fit_plan::FitPlan;
use super::job::{JobContext, JobDir};
use super::state::{Progress, TrainingState};
use crate::model;
use crate::results::TensorBoard;
use crate::train::error::TrainError;
use crate::train::events::Event;
use burn::module::Module;

/// Opens the TensorBoard events of a job, at the progress of `state`.
pub(super) fn tensorboard<M: Module>(
    state: &TrainingState<M>,
    plan: &FitPlan,
    dir: &JobDir,
) -> Result<TensorBoard, TrainError> {
    let trained = model::named(&state.model).into_iter().filter(|param| param.trained);
    let n_parameters = trained.map(|param| param.shape.iter().product::<usize>()).sum();
    let progress = (state.progress.epoch, state.progress.update);
    Ok(TensorBoard::open(&dir.path, plan.stage, n_parameters, plan.pace, progress)?)
}

/// Tells the observer that the job starts at `progress`.
pub(super) fn announce(plan: &FitPlan, dir: &JobDir, progress: &Progress, context: &JobContext) {
    context.tell(Event::JobStarted {
        job: &dir.name,
        epoch: progress.epoch,
        epochs: plan.epochs,
        steps_before: (progress.epoch - 1) * plan.steps.updates_per_epoch + progress.update,
        steps: plan.steps.total,
    });
}
