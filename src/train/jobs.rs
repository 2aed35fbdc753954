//! Builds the stage, model, optimizer and loader of a job, and runs the job.

use super::devices::{ChosenDevice, Hosts};
use super::error::TrainError;
use super::stages::{FinetuneStage, Gallery, LinprobeStage, PretrainStage};
use super::step::{
    FitPlan, JobContext, JobDir, JobEnd, OnNanRule, TrainingState, fit, publish, tensor_file,
};
use super::{imported, loaders};
use crate::checkpoint::{self, Grids, Meta};
use crate::data::{DataSet, Loader};
use crate::durable::Content;
use crate::infer::{Evaluation, StopFlag, same_encoder};
use crate::model::{self, Mae, NamedParam, ProbeHead, Vit, drop_path_rates};
use crate::optim::{self, LrSchedule, Optimizer, ParamGroup, Rule};
use crate::recipe::{
    FinetunePlan, Job, LinprobePlan, Plan, PretrainPlan, PretrainStart, Source, TrainingPlan,
};
use crate::results::{EpochSteps, RunError, StartFile, StartLayout, job_path};
use crate::shape::{PRETRAIN_BETAS, StageKind};
use burn::module::Module;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Settings for all jobs of a run. Each device thread has a copy.
#[derive(Clone)]
pub struct RunContext {
    pub plan: Arc<Plan>,
    pub data: Arc<DataSet>,
    pub device: ChosenDevice,
    pub run: PathBuf,
    /// Returns the resolved recipe of a job as TOML text, to store in checkpoints.
    pub recipe_of: Arc<dyn Fn(&Job) -> String + Send + Sync>,
    pub stop: StopFlag,
    /// Number of other jobs that train at the same time, each on its own device.
    pub parallel_jobs: usize,
    /// Length and hash of each checkpoint file that a job starts from.
    pub start_files: Arc<[StartFile]>,
    /// The layouts of the run (`devices`, `batch_size`, `accum_iter`), oldest first.
    ///
    /// A start with the layout of the start before adds no entry. If this list is empty, learning rates follow `plan`.
    pub layouts: Arc<[StartLayout]>,
    /// The hosts that train the run together.
    pub hosts: Hosts,
}

impl RunContext {
    /// Returns the folder of a job, and the metadata of the job's checkpoints.
    pub fn dir(&self, job: &Job) -> JobDir {
        let from = job.from.as_ref().map(Source::to_string).unwrap_or_default();
        JobDir {
            name: job.dir.clone(),
            path: job_path(&self.run, &job.dir),
            meta: Meta {
                stage: job.stage.to_string(),
                epoch: 0,
                from,
                num_classes: self.data.facts.num_classes,
                class_names: self.data.class_names.clone(),
                recipe: (self.recipe_of)(job),
            },
        }
    }

    /// Runs a job until it is finished or the user stops it.
    pub fn run(&self, job: &Job, context: &JobContext) -> Result<JobEnd, TrainError> {
        let dir = self.dir(job);
        let stage_missing = "the plan contains the stage of this job";
        match job.stage {
            StageKind::Pretrain => {
                self.pretrain(self.plan.pretrain.as_ref().expect(stage_missing), &dir, context)
            }
            StageKind::Finetune => {
                let plan = self.plan.finetune.as_ref().expect(stage_missing);
                self.finetune(plan, job, &dir, context)
            }
            StageKind::Linprobe => {
                let plan = self.plan.linprobe.as_ref().expect(stage_missing);
                self.linprobe(plan, job, &dir, context)
            }
        }
    }

    fn pretrain(
        &self,
        plan: &PretrainPlan,
        dir: &JobDir,
        context: &JobContext,
    ) -> Result<JobEnd, TrainError> {
        let encoder = self.plan.encoder_dims();
        let device = self.device.device.clone();
        let mae = self.first_mae(plan, dir)?;
        let stage = PretrainStage {
            encoder,
            masking: plan.masking,
            loss: plan.loss,
            warmup_epochs: plan.training.warmup_epochs,
            device,
            gallery: Gallery::of(&self.data, &self.plan),
        };
        let rule = Rule::adamw(PRETRAIN_BETAS);
        let weight_decay = plan.training.weight_decay;
        let optimizer =
            optimizer(&mae, rule, |name, shape| optim::pretrain_group(name, shape, weight_decay));
        let loader = self.loader(StageKind::Pretrain, dir)?;
        let keep = plan.checkpoint_epochs.clone();
        let mut state = TrainingState::start(mae, optimizer).scaled(self.plan.runtime.precision);
        if let PretrainStart::Resume(path) = &plan.start {
            if !path.exists() && dir.has_state() {
                // The saved state is loaded later. It is already past these epochs.
                let file = self.start_files.iter().find(|file| file.job == dir.name);
                state.progress.epoch += file.and_then(|file| file.epoch).unwrap_or(0);
            } else {
                self.check_unchanged(path, true)?;
                state = imported::resume(state, path, &self.plan)?;
                let seen = state.progress.epoch - 1;
                if keep.contains(&seen) && context.rank_context.rank.is_first() {
                    publish(&stage, &state, dir, (seen, plan.keep_optimizer), context)?;
                }
            }
        }
        let fit_plan = self.fit_plan(StageKind::Pretrain, &plan.training, keep, None, context)?;
        fit(&Arc::new(stage), state, &loader, &fit_plan, dir, context)
    }

    fn finetune(
        &self,
        plan: &FinetunePlan,
        job: &Job,
        dir: &JobDir,
        context: &JobContext,
    ) -> Result<JobEnd, TrainError> {
        let encoder = self.plan.encoder_dims();
        let num_classes = self.data.facts.num_classes;
        // The saved state has all weights. So a job that resumes needs no start checkpoint.
        let file = source_file(&self.run, job).filter(|file| file.exists() || !dir.has_state());
        let vit = self.classifier(file, job, plan.global_pool)?.freeze_below(plan.trained_blocks);
        let depth = encoder.depth;
        let rule = Rule::adamw(plan.betas);
        let (layer_decay, weight_decay) = (plan.layer_decay, plan.training.weight_decay);
        let optimizer = optimizer(&vit, rule, |name, shape| {
            optim::finetune_group(name, shape, depth, layer_decay, weight_decay)
        });
        let loader = self.loader(StageKind::Finetune, dir)?;
        let stage = FinetuneStage {
            encoder,
            num_classes,
            smoothing: plan.smoothing,
            drop_path_rates: drop_path_rates(plan.drop_path, depth),
            device: self.device.device.clone(),
            evaluation: self.evaluation(&plan.training)?,
        };
        let keep = vec![plan.training.epochs];
        let fit_plan =
            self.fit_plan(StageKind::Finetune, &plan.training, keep, plan.clip_grad, context)?;
        let state = TrainingState::start(vit, optimizer)
            .averaged(plan.ema)
            .scaled(self.plan.runtime.precision);
        fit(&Arc::new(stage), state, &loader, &fit_plan, dir, context)
    }

    fn linprobe(
        &self,
        plan: &LinprobePlan,
        job: &Job,
        dir: &JobDir,
        context: &JobContext,
    ) -> Result<JobEnd, TrainError> {
        let encoder = self.plan.encoder_dims();
        let (device, num_classes) = (self.device.device.clone(), self.data.facts.num_classes);
        let head = ProbeHead::zeros(encoder.embed_dim, num_classes, encoder.precision, &device);
        let head = model::init_probe_head(head, self.plan.seed);
        let weight_decay = plan.training.weight_decay;
        let rule = Rule::Lars { momentum: 0.9 };
        let optimizer = optimizer(&head, rule, |_, shape| optim::probe_group(shape, weight_decay));
        let loader = self.loader(StageKind::Linprobe, dir)?;
        let stage = LinprobeStage {
            frozen: self.frozen(job, plan.global_pool)?,
            encoder,
            num_classes,
            device,
            evaluation: self.evaluation(&plan.training)?,
        };
        let keep = vec![plan.training.epochs];
        let fit_plan = self.fit_plan(StageKind::Linprobe, &plan.training, keep, None, context)?;
        let state = TrainingState::start(head, optimizer).scaled(self.plan.runtime.precision);
        fit(&Arc::new(stage), state, &loader, &fit_plan, dir, context)
    }

    /// Fails if a file of the checkpoint at `path` has changed since the start of the run.
    ///
    /// If `resumes` is true, also checks the file of the optimizer state.
    fn check_unchanged(&self, path: &Path, resumes: bool) -> Result<(), TrainError> {
        for file in checkpoint::content_files(path, resumes)? {
            let Some(known) = self.start_files.iter().find(|known| known.path == file) else {
                continue;
            };
            let now = Content::of_file(&file)
                .map_err(|source| RunError::Unreadable { path: file, source })?;
            known.check_unchanged(&self.run, &now)?;
        }
        Ok(())
    }

    /// Returns the classifier before its first update.
    ///
    /// Loads the encoder from the checkpoint `file`; the head is random. If `file` is `None`, all weights are random.
    fn classifier(
        &self,
        file: Option<PathBuf>,
        job: &Job,
        global_pool: bool,
    ) -> Result<Vit, TrainError> {
        let encoder = self.plan.encoder_dims();
        let num_classes = self.data.facts.num_classes;
        let vit = Vit::zeros(&encoder, num_classes, global_pool, &self.device.device);
        let Some(path) = file else {
            return Ok(model::init_vit(vit, self.plan.seed));
        };
        self.check_unchanged(&path, false)?;
        let opened = checkpoint::open(&path, self.plan.prefix(job))?;
        same_encoder(&opened, &self.plan.model)?;
        let vit = model::init_head(vit, self.plan.seed);
        let grids = Grids::of(&opened.facts, &encoder);
        Ok(checkpoint::load_encoder(vit, &opened.file, &path, grids)?)
    }

    /// Returns the frozen encoder of a linear probe, with random weights if the probe starts from `scratch`.
    fn frozen(&self, job: &Job, global_pool: bool) -> Result<Vit, TrainError> {
        if let Some(file) = source_file(&self.run, job) {
            return self.classifier(Some(file), job, global_pool);
        }
        let file = tensor_file(model::named(&self.random_mae()))?;
        let (encoder, num_classes) = (self.plan.encoder_dims(), self.data.facts.num_classes);
        let vit = Vit::zeros(&encoder, num_classes, global_pool, &self.device.device);
        let grids = Grids { from: encoder.grid(), to: encoder.grid() };
        Ok(checkpoint::load_encoder(vit, &file, Path::new("the random encoder"), grids)?)
    }

    fn random_mae(&self) -> Mae {
        model::init_mae(imported::zeros(&self.plan, &self.device.device), self.plan.seed)
    }

    /// Returns the masked autoencoder before its first update.
    ///
    /// The weights are random, or those of the checkpoint `pretrain.from`.
    fn first_mae(&self, plan: &PretrainPlan, dir: &JobDir) -> Result<Mae, TrainError> {
        let random = self.random_mae();
        match &plan.start {
            // The saved state has all weights. So a job that resumes needs no start checkpoint.
            PretrainStart::Weights(path) if path.exists() || !dir.has_state() => {
                self.check_unchanged(path, false)?;
                imported::start_from(random, path, &self.plan)
            }
            _ => Ok(random),
        }
    }

    fn loader(&self, stage: StageKind, dir: &JobDir) -> Result<Loader, TrainError> {
        // Only host 0 writes into the run folder. All other hosts only log unreadable files.
        let bad_files = self.hosts.is_first().then(|| dir.path.join("bad_files.csv"));
        let loader = loaders::train_loader(&self.plan, &self.data, stage, bad_files)?;
        Ok(loader.with_parallel_jobs(self.parallel_jobs))
    }

    fn evaluation(&self, training: &TrainingPlan) -> Result<Evaluation, TrainError> {
        Ok(Evaluation::new(
            &self.plan,
            &self.data,
            training.batch_size,
            &self.device.device,
            &self.stop,
            self.parallel_jobs,
        )?)
    }

    fn fit_plan(
        &self,
        stage: StageKind,
        training: &TrainingPlan,
        keep: Vec<usize>,
        clip_grad: Option<f64>,
        context: &JobContext,
    ) -> Result<FitPlan, TrainError> {
        let images = self.data.facts.train_images;
        let steps = training.steps(stage, images)?;
        let pace = StartLayout::pace(&self.layouts, stage).unwrap_or(training.pace());
        Ok(FitPlan {
            stage,
            epochs: training.epochs,
            images_per_update: training.effective_batch_size,
            pace: EpochSteps {
                accum_iter: pace.accum_iter,
                micro_steps: images / pace.images_per_micro_step,
            },
            micro_batches: training.accum_iter * self.plan.runtime.world_size()
                / context.rank_context.rank.world(),
            steps,
            schedule: LrSchedule {
                lr: training.lr,
                min_lr: training.min_lr,
                warmup_epochs: training.warmup_epochs as f64,
                epochs: training.epochs as f64,
            },
            clip_grad,
            on_nan: OnNanRule {
                skip_limit: training.skip_limit,
                updates_per_epoch: steps.updates_per_epoch,
                rate: training.rate,
            },
            val_skipped: self.data.val_skipped.as_ref().map(|skipped| skipped.len()),
            gradient_checkpointing: self.plan.runtime.gradient_checkpointing,
            keep,
            keep_optimizer: stage == StageKind::Pretrain
                && self.plan.pretrain.as_ref().is_some_and(|plan| plan.keep_optimizer),
            save_every: self.plan.save_every,
            key: loaders::key(&self.plan, stage),
        })
    }
}

/// Returns the path of the checkpoint that a job starts from; `None` for `scratch`.
pub(crate) fn source_file(run: &Path, job: &Job) -> Option<PathBuf> {
    match job.from.as_ref()? {
        Source::Scratch => None,
        Source::Epoch(epoch) => Some(checkpoint::epoch_folder(&run.join("pretrain"), *epoch)),
        Source::File(path) | Source::Start(path) => Some(path.clone()),
    }
}

/// Creates an optimizer for the trained parameters of `module`.
///
/// `group` returns the settings of a parameter, given its name and shape.
pub fn optimizer<M: Module>(
    module: &M,
    rule: Rule,
    group: impl Fn(&str, &[usize]) -> ParamGroup,
) -> Optimizer {
    let trained: Vec<NamedParam> =
        model::named(module).into_iter().filter(|param| param.trained).collect();
    let groups = trained.iter().map(|param| group(&param.name, &param.shape)).collect();
    Optimizer::new(rule, trained.into_iter().map(|param| param.name).collect(), groups)
}
