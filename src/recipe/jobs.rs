//! The jobs of a plan in running order, and the number of steps in a job.

use std::path::Path;

use super::layout::Pace;
use super::name::{fingerprint, safe};
use super::plan::{Plan, Schedule};
use super::stage_plan::{Source, TrainingPlan};
use crate::shape::StageKind;

/// One training job of a run: pre-training, fine-tuning or linear probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The stage that the job belongs to.
    pub stage: StageKind,
    /// Starting weights of a fine-tuning or linear probe; `None` for pre-training.
    pub from: Option<Source>,
    /// The job's folder inside the run folder, such as `finetune/from-0800`.
    pub dir: String,
}

impl Job {
    /// Returns whether the job can run at the same time as other jobs.
    ///
    /// False only for pre-training.
    pub fn is_independent(&self) -> bool {
        self.stage != StageKind::Pretrain
    }

    /// Returns whether the job starts from a pre-training checkpoint of the same run.
    pub fn is_after_pretraining(&self) -> bool {
        matches!(self.from, Some(Source::Epoch(_)))
    }
}

/// Numbers of micro-steps and optimizer updates of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// Micro-steps per epoch. An incomplete last batch is dropped.
    pub micro_steps: usize,
    /// Optimizer updates per epoch. An incomplete last update is dropped.
    pub updates_per_epoch: usize,
    /// Optimizer updates of the whole job.
    pub total: usize,
}

/// The error that one optimizer update needs more images than an epoch has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "one update of {stage} needs {effective_batch_size} images (`batch_size` {batch_size} x \
     `accum_iter` {accum_iter} x devices), but an epoch has only {train_images} images"
)]
pub struct NeverUpdates {
    /// The stage that would have no optimizer updates.
    pub stage: StageKind,
    /// Images per optimizer update: `batch_size * accum_iter * world_size`.
    pub effective_batch_size: usize,
    /// The stage's `batch_size`: images per device in one micro-step.
    pub batch_size: usize,
    /// The stage's `accum_iter`: micro-steps per optimizer update.
    pub accum_iter: usize,
    /// Training images per epoch.
    pub train_images: usize,
}

impl Plan {
    /// Returns the jobs in running order: pre-training, fine-tunings, linear probes.
    pub fn jobs(&self) -> Vec<Job> {
        let pretrain =
            Job { stage: StageKind::Pretrain, from: None, dir: StageKind::Pretrain.to_string() };
        let finetunes = self.finetune.as_ref().map(|plan| jobs(StageKind::Finetune, &plan.from));
        let probes = self.linprobe.as_ref().map(|plan| jobs(StageKind::Linprobe, &plan.from));
        let pretrain = self.pretrain.is_some().then_some(pretrain);
        pretrain
            .into_iter()
            .chain(finetunes.into_iter().flatten())
            .chain(probes.into_iter().flatten())
            .collect()
    }

    /// Returns whether each device of each host trains its own job. If false, all devices train each job together.
    ///
    /// If false, all devices train each job together. `jobs` is the number of remaining independent jobs.
    pub fn is_job_parallel(&self, jobs: usize) -> bool {
        let devices = self.runtime.world_size();
        devices > 1
            && match self.runtime.schedule {
                Schedule::Auto => jobs >= devices,
                Schedule::DataParallel => false,
                Schedule::JobParallel => true,
            }
    }

    /// Returns the path of the job's starting checkpoint, if the recipe states a path.
    pub fn named_file<'a>(&'a self, job: &'a Job) -> Option<&'a Path> {
        match &job.from {
            None => self.pretrain.as_ref()?.start.file(),
            Some(Source::File(path) | Source::Start(path)) => Some(path),
            Some(Source::Scratch | Source::Epoch(_)) => None,
        }
    }

    /// Returns the prefix of the tensor names in the job's starting checkpoint, such as `teacher.backbone`.
    ///
    /// Returns `None` if the recipe sets no `prefix`, or no checkpoint path for this job.
    pub fn prefix(&self, job: &Job) -> Option<&str> {
        match (&job.from, job.stage) {
            (None | Some(Source::Start(_)), _) => self.pretrain_prefix(),
            (Some(Source::Scratch | Source::Epoch(_)), _) => None,
            (_, StageKind::Linprobe) => self.linprobe.as_ref()?.prefix.as_deref(),
            _ => self.finetune.as_ref()?.prefix.as_deref(),
        }
    }

    /// Returns `pretrain.prefix`: the prefix of the tensor names in the starting checkpoint, such as `model`.
    pub fn pretrain_prefix(&self) -> Option<&str> {
        self.pretrain.as_ref()?.prefix.as_deref()
    }

    /// Returns the training settings of a stage; `None` if the recipe does not have this stage.
    pub fn training(&self, stage: StageKind) -> Option<&TrainingPlan> {
        match stage {
            StageKind::Pretrain => self.pretrain.as_ref().map(|plan| &plan.training),
            StageKind::Finetune => self.finetune.as_ref().map(|plan| &plan.training),
            StageKind::Linprobe => self.linprobe.as_ref().map(|plan| &plan.training),
        }
    }
}

impl TrainingPlan {
    /// Returns how often the learning rate changes within an epoch of a new job.
    ///
    /// A resumed job keeps the pace of its first start instead.
    pub fn pace(&self) -> Pace {
        let images_per_micro_step = self.effective_batch_size / self.accum_iter;
        Pace { images_per_micro_step, accum_iter: self.accum_iter }
    }

    /// Returns the numbers of micro-steps and updates of a job with `train_images` images per epoch.
    ///
    /// Fails if one optimizer update needs more images than an epoch has.
    pub fn steps(&self, stage: StageKind, train_images: usize) -> Result<Steps, NeverUpdates> {
        let micro_steps = train_images / self.pace().images_per_micro_step;
        let updates_per_epoch = micro_steps / self.accum_iter;
        if updates_per_epoch == 0 {
            return Err(NeverUpdates {
                stage,
                effective_batch_size: self.effective_batch_size,
                batch_size: self.batch_size,
                accum_iter: self.accum_iter,
                train_images,
            });
        }
        Ok(Steps { micro_steps, updates_per_epoch, total: updates_per_epoch * self.epochs })
    }
}

fn jobs(stage: StageKind, from: &[Source]) -> Vec<Job> {
    let mut taken = Vec::new();
    from.iter()
        .map(|source| {
            let mut name = source_name(source);
            if taken.contains(&name.to_lowercase()) {
                name = format!("{name}-{}", fingerprint(&format!("{source:?}")));
            }
            taken.push(name.to_lowercase());
            Job { stage, from: Some(source.clone()), dir: format!("{stage}/from-{name}") }
        })
        .collect()
}

/// Returns a folder name for the starting weights, such as `scratch`, `0800` or `vit.pth`.
///
/// Adds a hash to a file named like an epoch or `scratch`.
fn source_name(source: &Source) -> String {
    let path = match source {
        Source::Scratch => return "scratch".to_owned(),
        Source::Start(_) => return "start".to_owned(),
        Source::Epoch(epoch) => return format!("{epoch:04}"),
        Source::File(path) => path,
    };
    let text = path.to_string_lossy();
    let name = path.file_name().map_or(text.clone(), |name| Path::new(name).to_string_lossy());
    let name = safe(&name);
    let reserved =
        name.eq_ignore_ascii_case("scratch") || name.bytes().all(|byte| byte.is_ascii_digit());
    if reserved { format!("{name}-{}", fingerprint(&text)) } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn training(batch_size: usize, accum_iter: usize, devices: usize) -> TrainingPlan {
        TrainingPlan {
            published_batch_size: None,
            epochs: 10,
            warmup_epochs: 0,
            batch_size,
            accum_iter,
            effective_batch_size: batch_size * accum_iter * devices,
            lr: 1e-3,
            rate: "blr",
            min_lr: 0.0,
            weight_decay: 0.0,
            skip_limit: None,
        }
    }

    #[test]
    fn remainders_are_dropped() {
        let steps = training(64, 2, 2).steps(StageKind::Pretrain, 1000).unwrap();
        assert_eq!(steps, Steps { micro_steps: 7, updates_per_epoch: 3, total: 30 });
    }

    #[test]
    fn an_epoch_without_an_update_is_refused() {
        let error = training(64, 4, 1).steps(StageKind::Finetune, 200).unwrap_err();
        insta::assert_snapshot!(error, @"one update of finetune needs 256 images (`batch_size` 64 x `accum_iter` 4 x devices), but an epoch has only 200 images");
    }

    #[test]
    fn every_source_has_a_folder_of_its_own() {
        let files =
            ["a/vit.pth", "b/vit.pth", "a/VIT.pth", "scratch", "0800", "a b.pth", "a_b.pth"];
        let from: Vec<_> = [Source::Scratch, Source::Epoch(800)]
            .into_iter()
            .chain(files.iter().map(|file| Source::File(file.into())))
            .collect();
        let dirs: Vec<_> =
            jobs(StageKind::Finetune, &from).into_iter().map(|job| job.dir).collect();
        assert_eq!(
            dirs[..3],
            ["finetune/from-scratch", "finetune/from-0800", "finetune/from-vit.pth"]
        );
        let mut distinct: Vec<_> = dirs.iter().map(|dir| dir.to_lowercase()).collect();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), from.len(), "{dirs:?}");
    }
}
