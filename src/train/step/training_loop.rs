//! The one step loop: every stage, every epoch, every update.

use super::gradient::{Gradient, GradientSum};
use super::job::{JobContext, JobDir, JobEnd};
use super::rows::{self, UnreadLosses};
use super::state::{Progress, TrainingState, tensor_file};
use super::step_timer::StepPart;
use crate::checkpoint::{self, Meta};
use crate::data::{Epoch, Loader};
use crate::infer::{DeviceError, Evaluated};
use crate::model::{self, PartialGrads};
use crate::optim::{self, LrSchedule};
use crate::random::Key;
use crate::recipe::Steps;
use crate::results::{EpochSteps, EpochsCsv, TensorBoard};
use crate::shape::StageKind;
use crate::train::{Event, RankContext, Stage, TrainError};
use burn::tensor::Tensor;
use std::collections::HashMap;
use std::time::Instant;

/// The numbers a job's loop works with.
#[derive(Debug, Clone)]
pub(crate) struct FitPlan {
    pub stage: StageKind,
    pub epochs: usize,
    pub accum_iter: usize,
    /// Images of one micro-step, on all devices together.
    pub images_per_micro_step: usize,
    pub steps: Steps,
    pub schedule: LrSchedule,
    pub clip_grad: Option<f64>,
    /// Epochs whose checkpoints are kept.
    pub keep: Vec<usize>,
    /// Names the stage's random numbers; its `epoch` is filled in.
    pub key: Key,
    /// Micro-batches that a rank takes for an update: `accum_iter`, or more where fewer ranks do the work of all devices.
    pub micro_batches: usize,
}

/// Updates between two readings of the device: losses are read together, not one by one.
const READ_EVERY: usize = 20;

/// Trains `stage` from wherever `dir` left off to its last epoch, or until the user stops it.
///
/// `state` is where a fresh start begins; a `resume.safetensors` in `dir` takes its place.
pub(crate) fn fit<S: Stage>(
    stage: &S,
    mut state: TrainingState<S::Model>,
    loader: &Loader,
    plan: &FitPlan,
    dir: &JobDir,
    context: &JobContext,
) -> Result<JobEnd, TrainError> {
    let epochs_csv = EpochsCsv::in_job(&dir.path);
    if dir.resume_file().exists() {
        state = resume(state, dir, &epochs_csv)?;
    }
    // The first rank may remove the file once all have read it.
    context.rank_context.rank.any(false)?;
    announce(plan, dir, &state.progress, context);
    let mut board = tensorboard(&state, plan, dir, context)?;
    let mut said_waited = loader.workers() == 0;
    while state.progress.epoch <= plan.epochs {
        let epoch = state.progress.epoch;
        let trained = train_epoch(stage, &mut state, loader, plan, dir, context, board.as_mut())?;
        let started = Instant::now();
        let measured = match trained {
            JobEnd::Interrupted => Evaluated::Stopped,
            JobEnd::Done => stage.evaluate(&state.model, &context.rank_context)?,
        };
        if measured == Evaluated::Stopped {
            if context.rank_context.rank.is_first() {
                state.save(&dir.resume_file())?;
            }
            return Ok(JobEnd::Interrupted);
        }
        let done = Progress { epoch: epoch + 1, ..Progress::start() };
        let progress = std::mem::replace(&mut state.progress, done);
        if !context.rank_context.rank.is_first() {
            continue;
        }
        let row = rows::row(&progress, measured, started.elapsed().as_secs_f64(), &epochs_csv)?;
        rows::check_metrics(&row, &dir.name)?;
        let rows = epochs_csv.put(row.clone())?;
        if let Some(board) = &mut board {
            board.epoch(&rows)?;
        }
        if plan.keep.contains(&epoch) {
            publish(stage, &state.model, dir, epoch, context)?;
        }
        if epoch < plan.epochs {
            state.save(&dir.resume_file())?;
        }
        (context.row_written)()?;
        let waited = rows::waited(&row, progress.sums.train_s).filter(|_| !said_waited);
        said_waited |= waited.is_some();
        for text in [stage.notice(epoch, row.train_loss), waited].into_iter().flatten() {
            context.tell(Event::Notice { job: &dir.name, text: &text });
        }
        context.tell(Event::EpochDone { job: &dir.name, epochs: plan.epochs, row: &row });
    }
    if context.rank_context.rank.is_first() {
        dir.finish(plan.epochs)?;
    }
    context.tell(Event::JobDone { job: &dir.name });
    Ok(JobEnd::Done)
}

/// Puts what `resume.safetensors` holds into a fresh state. Fails if the table has fewer epochs.
fn resume<M: burn::module::Module>(
    state: TrainingState<M>,
    dir: &JobDir,
    epochs_csv: &EpochsCsv,
) -> Result<TrainingState<M>, TrainError> {
    let first = state.progress.epoch;
    let state = state.resume(&dir.resume_file())?;
    if state.progress.epoch > first {
        epochs_csv.check_reaches(state.progress.epoch - 1)?;
    }
    Ok(state)
}

/// Opens the job's TensorBoard folder; the first rank's alone.
fn tensorboard<M: burn::module::Module>(
    state: &TrainingState<M>,
    plan: &FitPlan,
    dir: &JobDir,
    context: &JobContext,
) -> Result<Option<TensorBoard>, TrainError> {
    if !context.rank_context.rank.is_first() {
        return Ok(None);
    }
    let trained = model::named(&state.model).into_iter().filter(|param| param.trained);
    let n_parameters = trained.map(|param| param.shape.iter().product::<usize>()).sum();
    let steps = EpochSteps { accum_iter: plan.accum_iter, micro_steps: plan.steps.micro_steps };
    let progress = (state.progress.epoch, state.progress.update);
    Ok(Some(TensorBoard::open(&dir.path, plan.stage, n_parameters, steps, progress)?))
}

fn announce(plan: &FitPlan, dir: &JobDir, progress: &Progress, context: &JobContext) {
    context.tell(Event::JobStarted {
        job: &dir.name,
        epoch: progress.epoch,
        epochs: plan.epochs,
        steps_before: (progress.epoch - 1) * plan.steps.updates_per_epoch + progress.update,
        steps: plan.steps.total,
    });
}

/// Makes the updates of the epoch under way that are still to be made.
fn train_epoch<S: Stage>(
    stage: &S,
    state: &mut TrainingState<S::Model>,
    loader: &Loader,
    plan: &FitPlan,
    dir: &JobDir,
    context: &JobContext,
    mut board: Option<&mut TensorBoard>,
) -> Result<JobEnd, TrainError> {
    let epoch = state.progress.epoch;
    let key = Key { epoch, ..plan.key };
    let rank_context = &context.rank_context;
    let loader = loader.clone().share(rank_context.rank.index(), rank_context.rank.world());
    let mut batches = loader.epoch(epoch, state.progress.update * plan.micro_batches);
    let mut unread = UnreadLosses::default();
    // The first update finds out whether there is memory for all of it: nothing is sent before that is known.
    let mut send_early = false;
    let mut clock = Instant::now();
    while state.progress.update < plan.steps.updates_per_epoch {
        let first_micro_step = state.progress.update * plan.accum_iter;
        let done = first_micro_step as f64 / plan.steps.micro_steps as f64; // of this epoch
        let lr = plan.schedule.at((epoch - 1) as f64 + done);
        let (sum, waited) =
            gradient(stage, state, &mut batches, key, plan, rank_context, send_early)?;
        let (gradient, stop) = reduce(sum, &state.model, rank_context, context.stop.requested())?;
        let device = gradient.loss.device();
        let norm = rank_context.timer.time(StepPart::Optimizer, &device, || {
            update(state, gradient.grads, lr, plan.clip_grad)
        });
        send_early = true;
        state.progress.update += 1;
        let sums = &mut state.progress.sums;
        sums.data_wait_s += waited;
        sums.images += plan.accum_iter * plan.images_per_micro_step;
        sums.train_s += clock.elapsed().as_secs_f64();
        clock = Instant::now();
        unread.push(gradient.loss, norm, lr);
        if stop
            || unread.len() >= READ_EVERY
            || state.progress.update == plan.steps.updates_per_epoch
        {
            let first = state.progress.sums.updates + 1;
            let updates = unread.read_into(&mut state.progress, &dir.name)?;
            if let Some(board) = &mut board {
                board.updates(epoch, first, &updates)?;
            }
        }
        tell(plan, dir, state, lr, context);
        if stop {
            return Ok(JobEnd::Interrupted);
        }
    }
    Ok(JobEnd::Done)
}

/// Adds up the gradients of an update's micro-batches; gives beside them the seconds spent waiting for data.
fn gradient<'a, S: Stage>(
    stage: &S,
    state: &mut TrainingState<S::Model>,
    batches: &mut Epoch,
    key: Key,
    plan: &FitPlan,
    rank_context: &'a RankContext,
    send_early: bool,
) -> Result<(GradientSum<'a>, f64), TrainError> {
    let scale = 1.0 / (plan.micro_batches * rank_context.rank.world()) as f64;
    let mut waited = 0.0;
    let run = |sum: &mut GradientSum<'a>| {
        let asked = Instant::now();
        let batch = batches.next().expect("an epoch has all the micro-steps of its updates")?;
        waited += asked.elapsed().as_secs_f64();
        rank_context.timer.add(StepPart::Data, asked.elapsed());
        stage.backward(&mut state.model, batch, key, scale, rank_context, sum)
    };
    let sum = GradientSum::of_update(
        &rank_context.rank,
        &rank_context.timer,
        send_early,
        plan.micro_batches,
        run,
    )?;
    Ok((sum, waited))
}

/// Adds up loss and gradients over the ranks, which agree on whether to stop after it.
fn reduce<M: burn::module::Module>(
    sum: GradientSum<'_>,
    model: &M,
    rank_context: &RankContext,
    stop: bool,
) -> Result<(Gradient, bool), TrainError> {
    rank_context.timer.time(StepPart::Communication, &model::device(model), || {
        let gradient = sum.finish()?;
        Ok((gradient, rank_context.rank.any(stop)?))
    })
}

/// Clips, updates the parameters, gives the gradient's norm before clipping. A parameter without a gradient has one of zeros.
fn update<M: burn::module::Module>(
    state: &mut TrainingState<M>,
    grads: PartialGrads,
    lr: f64,
    clip_grad: Option<f64>,
) -> Tensor<1> {
    let (places, grads): (Vec<_>, Vec<_>) = grads.into_iter().unzip();
    let norm = optim::global_norm(&grads);
    let grads = match clip_grad {
        Some(max_norm) => optim::clip_by_global_norm(grads, &norm, max_norm),
        None => grads,
    };
    let mut grads: HashMap<_, _> = places.into_iter().zip(grads).collect();
    let optimizer = &mut state.optimizer;
    state.model = model::update(state.model.clone(), |place, param| {
        let grad = grads.remove(&place).unwrap_or_else(|| param.zeros_like());
        optimizer.step(place, param, grad, lr)
    });
    norm
}

fn tell<M>(plan: &FitPlan, dir: &JobDir, state: &TrainingState<M>, lr: f64, context: &JobContext) {
    let Progress { epoch, update, sums, .. } = state.progress;
    let loss = (sums.updates > 0).then(|| sums.loss / sums.updates as f64);
    let step = (epoch - 1) * plan.steps.updates_per_epoch + update;
    context.tell(Event::Updated { job: &dir.name, epoch, step, loss, lr });
}

/// Makes an epoch's picture and checkpoint appear. A checkpoint that is there stays, with its picture.
pub(crate) fn publish<S: Stage>(
    stage: &S,
    model: &S::Model,
    dir: &JobDir,
    epoch: usize,
    context: &JobContext,
) -> Result<(), TrainError> {
    let folder = checkpoint::epoch_folder(&dir.path, epoch);
    if checkpoint::is_whole(&folder) {
        return Ok(());
    }
    let file = tensor_file(stage.export(model))?;
    // First the picture: with its last checkpoint a job is done, and nobody comes back for what is missing.
    if let Err(error) = show(stage, model, dir, epoch) {
        let text = format!("no picture of epoch {epoch}, the training goes on: {error}");
        context.tell(Event::Notice { job: &dir.name, text: &text });
    }
    let meta = Meta { epoch, ..dir.meta.clone() };
    checkpoint::publish(&folder, &file, &meta)?;
    Ok(())
}

/// Shows an epoch's model; a panic on the way is an error like any other.
fn show<S: Stage>(
    stage: &S,
    model: &S::Model,
    dir: &JobDir,
    epoch: usize,
) -> Result<(), TrainError> {
    DeviceError::catch(|| stage.show(model, dir, epoch))?
}
