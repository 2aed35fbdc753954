//! The training loop of every stage.

use super::fit_plan::FitPlan;
use super::gradient::{Gradient, GradientSum};
use super::job::{JobContext, JobDir, JobEnd, RankContext};
use super::job_start::{announce, tensorboard};
use super::micro_batch::MicroBatch;
use super::publish::publish;
use super::rows::{self, MadeUpdate, UnreadLosses};
use super::saves::{Saves, StopRequest};
use super::stage::Stage;
use super::state::{Progress, TrainingState};
use super::state_writer::StateWriter;
use super::step_timer::StepPart;
use crate::data::{Epoch, Loader};
use crate::durable;
use crate::infer::{Evaluated, check_faults, is_large};
use crate::model;
use crate::random::Key;
use crate::results::{EpochRow, EpochsCsv, EpochsWriter};
use crate::shape::StageKind;
use crate::train::error::TrainError;
use crate::train::events::Event;
use burn::module::Module;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The host reads losses from the device after at most this many updates.
const READ_EVERY: usize = 20;
/// Maximum duration of the work in the device's queue. A stop has to wait for this work.
const QUEUE: Duration = Duration::from_secs(3);

/// Trains `stage` until its last epoch is finished or the user stops the run.
///
/// Resumes from `resume.safetensors` in the folder of the job, or starts from `state` if this file is missing.
pub(crate) fn fit<S: Stage>(
    stage: &Arc<S>,
    state: TrainingState<S::Model>,
    loader: &Loader,
    plan: &FitPlan,
    dir: &JobDir,
    context: &JobContext,
) -> Result<JobEnd, TrainError> {
    let mut training = TrainingLoop::resume_or_start(stage, state, loader, plan, dir, context)?;
    while training.state.progress.epoch <= plan.epochs {
        let trained = training.train_epoch()?;
        let started = Instant::now();
        let measured = match trained {
            JobEnd::Interrupted => Evaluated::Stopped,
            JobEnd::Done => training.evaluate()?,
        };
        if measured == Evaluated::Stopped || training.is_saved_late()? {
            training.save_at_stop()?;
            return Ok(JobEnd::Interrupted);
        }
        training.finish_epoch(measured, started)?;
    }
    if let Some(saves) = &training.saves {
        saves.close()?;
        saves.wait()?;
    }
    // If another process writes the files of this job, it also finishes the job.
    if context.rank_context.rank.is_first() && !durable::is_redirected(&dir.path) {
        dir.finish(plan.epochs)?;
    }
    context.tell(Event::JobDone { job: &dir.name });
    Ok(JobEnd::Done)
}

struct TrainingLoop<'a, S: Stage> {
    stage: &'a Arc<S>,
    state: TrainingState<S::Model>,
    loader: Loader,
    plan: &'a FitPlan,
    dir: &'a JobDir,
    context: &'a JobContext,
    /// Writes `epochs.csv` on rank 0; `None` on all other ranks.
    epochs_csv: Option<EpochsWriter>,
    /// Saves states and TensorBoard events on rank 0; `None` on all other ranks.
    saves: Option<Saves<S::Model>>,
    /// Whether several threads share each operation of the optimizer update, because the model is large.
    is_large: bool,
    read_every: usize,
    last_read: Instant,
    /// Whether to warn about a slow data loader. The warning appears only once.
    report_waiting: bool,
}

impl<'a, S: Stage> TrainingLoop<'a, S> {
    fn resume_or_start(
        stage: &'a Arc<S>,
        mut state: TrainingState<S::Model>,
        loader: &Loader,
        plan: &'a FitPlan,
        dir: &'a JobDir,
        context: &'a JobContext,
    ) -> Result<Self, TrainError> {
        let rank = &context.rank_context.rank;
        let table = EpochsCsv::in_job(&dir.path);
        let saved = dir.saved_state()?;
        if let Some(saved) = &saved {
            let first = state.progress.epoch;
            state = state.resume(&saved.path)?;
            if state.progress.epoch > first {
                table.check_reaches(state.progress.epoch - 1)?;
            }
        }
        // Rank 0 may replace the saved state only after all ranks have read it. So wait for all ranks.
        rank.any(false)?;
        if let Some(warning) = saved.and_then(|saved| saved.warning) {
            context.tell(Event::Warning { job: &dir.name, text: &warning });
        }
        announce(plan, dir, &state.progress, context);
        let (mut epochs_csv, mut saves) = (None, None);
        if rank.is_first() {
            epochs_csv = Some(table.append_after(state.progress.epoch - 1)?);
            let board = tensorboard(&state, plan, dir)?;
            let writer = StateWriter::new(dir.clone(), plan.save_every);
            saves = Some(Saves::new(&dir.name, writer, board, plan.on_nan, &context.stop));
        }
        let report_waiting = loader.workers() > 0;
        let loader = loader.clone().share(rank.share());
        let is_large = is_large(state.model.num_params());
        let training = Self {
            stage,
            state,
            loader,
            plan,
            dir,
            context,
            epochs_csv,
            saves,
            is_large,
            read_every: 1,
            last_read: Instant::now(),
            report_waiting,
        };
        training.end_update(&UnreadLosses::default());
        Ok(training)
    }

    /// Makes the remaining updates of the current epoch.
    ///
    /// Returns [`JobEnd::Interrupted`] if the user stops the run.
    fn train_epoch(&mut self) -> Result<JobEnd, TrainError> {
        let (plan, epoch) = (self.plan, self.state.progress.epoch);
        let mut batches = self.loader.epoch(epoch, self.state.progress.update * plan.micro_batches);
        let mut unread = UnreadLosses::default();
        // The first update may run out of memory, and a running all-reduce cannot be cancelled. So in the first update,
        // no all-reduce starts before the backward pass has ended.
        let mut send_early = false;
        let mut clock = Instant::now();
        self.last_read = clock;
        while self.state.progress.update < plan.steps.updates_per_epoch {
            let lr = plan.lr(&self.state.progress);
            let may_skip = plan.on_nan.skip_limit.is_some() || self.state.loss_scale.is_some();
            let before = may_skip.then(|| self.state.model.clone());
            let (sum, waited) = self.backward(&mut batches, send_early)?;
            let (gradient, stop) = self.reduce(sum)?;
            if stop == StopRequest::SavedLate {
                return Ok(JobEnd::Interrupted);
            }
            let stop = stop == StopRequest::AfterUpdate;
            let made = self.update(before.as_ref(), gradient, lr)?;
            send_early = true;
            self.state.progress.update += 1;
            let sums = &mut self.state.progress.sums;
            sums.data_wait_s += waited;
            sums.images += plan.images_per_update;
            sums.train_s += clock.elapsed().as_secs_f64();
            clock = Instant::now();
            unread.push(made, lr);
            let last = self.state.progress.update == plan.steps.updates_per_epoch;
            if stop || last || unread.len() >= self.read_every {
                self.read(&mut unread)?;
            }
            self.end_update(&unread);
            self.report_update(lr);
            if stop {
                return Ok(JobEnd::Interrupted);
            }
            // All ranks have the same state, so rank 0 decides alone.
            if let Some(saves) = &self.saves
                && saves.is_due()?
            {
                self.read(&mut unread)?;
                self.save()?;
                self.end_update(&unread);
            }
        }
        Ok(JobEnd::Done)
    }

    /// Runs forward and backward pass of an update. Returns the gradient sums, and the seconds spent waiting for data.
    fn backward(
        &mut self,
        batches: &mut Epoch,
        send_early: bool,
    ) -> Result<(GradientSum<'a>, f64), TrainError> {
        let (plan, rank_context) = (self.plan, &self.context.rank_context);
        let (rank, timer) = (&rank_context.rank, &rank_context.timer);
        let key = Key { epoch: self.state.progress.epoch, ..plan.key };
        let scale = self.state.loss_scale.map_or(1.0, |scale| scale.factor);
        let weight = scale / (plan.micro_batches * rank.world()) as f64;
        let mut waited = 0.0;
        let sum = GradientSum::of_update(rank, timer, send_early, plan.micro_batches, |sum| {
            let asked = Instant::now();
            let batch = batches.next().expect("an epoch has all micro-steps of its updates")?;
            waited += asked.elapsed().as_secs_f64();
            check_faults()?;
            timer.add(StepPart::Data, asked.elapsed());
            let micro_batch = MicroBatch {
                batch: Arc::new(batch),
                key,
                weight,
                gradient_checkpointing: plan.gradient_checkpointing,
                rank_context,
                sum,
            };
            self.stage.backward(&mut self.state.model, micro_batch)
        })?;
        Ok((sum, waited))
    }

    /// Updates the model. `before` is the model before the backward pass, to undo a skipped update.
    fn update(
        &mut self,
        before: Option<&S::Model>,
        Gradient { loss, grads }: Gradient,
        lr: f64,
    ) -> Result<MadeUpdate, TrainError> {
        let RankContext { timer, replicas, .. } = &self.context.rank_context;
        let (state, plan, is_large) = (&mut self.state, self.plan, self.is_large);
        let before = (before, plan.on_nan.skip_limit.is_some());
        let (made, change) = timer.time(StepPart::Optimizer, &loss.device(), || {
            let update = || state.make_update(before, (loss, grads), lr, plan.clip_grad);
            if is_large { replicas.inside(update)? } else { update() }
        })?;
        if let Some(text) = rows::scale_text(change, &self.state) {
            self.context.tell(Event::Notice { job: &self.dir.name, text: &text });
        }
        Ok(made)
    }

    /// Sums the gradients over all ranks, and decides whether the job stops.
    fn reduce(&self, sum: GradientSum<'_>) -> Result<(Gradient, StopRequest), TrainError> {
        let rank_context = &self.context.rank_context;
        let device = model::device(&self.state.model);
        rank_context.timer.time(StepPart::Communication, &device, || {
            let gradient = sum.finish()?;
            let own = match self.begin_update()? {
                true if self.context.stop.requested() => StopRequest::AfterUpdate,
                true => StopRequest::Continue,
                false => StopRequest::SavedLate,
            };
            let all = rank_context.rank.exchange(own)?;
            Ok((gradient, all.into_iter().max().unwrap_or(own)))
        })
    }

    /// Reads losses from the device, for `epochs.csv` and TensorBoard.
    fn read(&mut self, unread: &mut UnreadLosses) -> Result<(), TrainError> {
        let progress = &mut self.state.progress;
        let first = progress.sums.updates + 1;
        let (updates, skipped) = unread.read_into(progress, &self.dir.name, self.plan.on_nan)?;
        self.state.optimizer.settle(skipped);
        if skipped > 0 {
            let text = rows::skipped_text(skipped, progress, self.plan.on_nan);
            self.context.tell(Event::Warning { job: &self.dir.name, text: &text });
        }
        if let Some(saves) = &self.saves {
            saves.board_updates(progress.epoch, first, &updates)?;
        }
        if !updates.is_empty() {
            let per_update = self.last_read.elapsed().as_secs_f64() / updates.len() as f64;
            self.read_every =
                (QUEUE.as_secs_f64() / per_update).clamp(1.0, READ_EVERY as f64) as usize;
        }
        self.last_read = Instant::now();
        Ok(())
    }

    /// Evaluates the model on the validation split. The ranks share the images.
    fn evaluate(&self) -> Result<Evaluated, TrainError> {
        let rank_context = &self.context.rank_context;
        Ok(match self.stage.evaluate(self.state.result(), rank_context)? {
            Some(own) => Evaluated::from_shares(rank_context.rank.exchange(own)?),
            None => Evaluated::Nothing,
        })
    }

    /// Writes the epoch's row of `epochs.csv`, saves the state, and keeps a checkpoint if the epoch is in `keep`.
    fn finish_epoch(&mut self, measured: Evaluated, started: Instant) -> Result<(), TrainError> {
        let (plan, dir, context) = (self.plan, self.dir, self.context);
        let epoch = self.state.progress.epoch;
        let next = Progress { epoch: epoch + 1, ..Progress::start() };
        let progress = std::mem::replace(&mut self.state.progress, next);
        let is_kept = plan.keep.contains(&epoch);
        let Some(epochs_csv) = &mut self.epochs_csv else { return self.checkpoint_kept(epoch) };
        let evaluation_s = started.elapsed().as_secs_f64();
        let mut row = rows::row(&progress, measured, evaluation_s, epochs_csv.rows());
        row.skipped_updates = plan.on_nan.skip_limit.map(|_| progress.sums.skipped);
        row.val_skipped = row.validation.and(plan.val_skipped);
        row.loss_scale = self.state.loss_scale.map(|scale| scale.factor);
        rows::check_metrics(&row, &dir.name, plan.on_nan)?;
        epochs_csv.push(row.clone())?;
        if let Some(saves) = &self.saves {
            saves.board_epoch(epochs_csv.rows())?;
        }
        if is_kept {
            publish(&**self.stage, &self.state, dir, (epoch, plan.keep_optimizer), context)?;
        }
        if epoch < plan.epochs {
            self.save()?;
            self.end_update(&UnreadLosses::default());
        }
        self.checkpoint_kept(epoch)?;
        // The tables of a run list the pre-training loss only at epochs in `checkpoint_epochs`.
        if is_kept || plan.stage != StageKind::Pretrain {
            (context.row_written)()?;
        }
        self.report_epoch(&row, progress.sums.train_s);
        Ok(())
    }

    /// After a pre-training checkpoint that is kept, lets all hosts measure it together.
    fn checkpoint_kept(&self, epoch: usize) -> Result<(), TrainError> {
        let is_kept = self.plan.stage == StageKind::Pretrain && self.plan.keep.contains(&epoch);
        if is_kept && self.context.rank_context.rank.is_first_here() {
            (self.context.checkpoint_kept)()?;
        }
        Ok(())
    }

    /// Starts to save the state for the next start of the run.
    fn save(&self) -> Result<(), TrainError> {
        self.saves.as_ref().map_or(Ok(()), |saves| saves.start(&self.state))
    }

    /// Saves the state and waits for the disk. Does nothing if another thread has already saved the state.
    fn save_at_stop(&self) -> Result<(), TrainError> {
        match &self.saves {
            Some(saves) if saves.close()? => {
                saves.start(&self.state)?;
                saves.wait()
            }
            _ => Ok(()),
        }
    }

    /// After a stop request, allows other threads to save the current state.
    fn end_update(&self, unread: &UnreadLosses) {
        if let Some(saves) = &self.saves {
            saves.end_update(&self.state, unread);
        }
    }

    /// Prevents other threads from saving the state, before an update changes the state.
    ///
    /// Returns false if another thread has already saved the state.
    fn begin_update(&self) -> Result<bool, TrainError> {
        self.saves.as_ref().map_or(Ok(true), Saves::begin_update)
    }

    /// Prevents other threads from saving the state, at the end of an epoch.
    ///
    /// Returns true on all ranks if another thread has already saved the state.
    fn is_saved_late(&self) -> Result<bool, TrainError> {
        self.context.rank_context.rank.any(!self.begin_update()?)
    }

    fn report_update(&self, lr: f64) {
        let Progress { epoch, update, sums, .. } = self.state.progress;
        let loss = (sums.updates > 0).then(|| sums.loss / sums.updates as f64);
        let step = (epoch - 1) * self.plan.steps.updates_per_epoch + update;
        self.context.tell(Event::Updated { job: &self.dir.name, epoch, step, loss, lr });
    }

    fn report_epoch(&mut self, row: &EpochRow, train_s: f64) {
        let job = &self.dir.name;
        let waited = rows::waited(row, train_s).filter(|_| self.report_waiting);
        self.report_waiting &= waited.is_none();
        for text in [self.stage.notice(row.epoch, row.train_loss), waited].into_iter().flatten() {
            self.context.tell(Event::Notice { job, text: &text });
        }
        self.context.tell(Event::EpochDone { job, epochs: self.plan.epochs, row });
    }
}
