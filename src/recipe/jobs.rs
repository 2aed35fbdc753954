//! The jobs of a plan in running order, and how many steps an epoch of images gives.

use std::path::Path;

use super::plan::{Plan, Schedule, Source, TrainingPlan};
use super::sweep::{fingerprint, safe};
use crate::shape::StageKind;

/// One training of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// What is trained.
    pub stage: StageKind,
    /// What it starts from; a pre-training starts from nothing.
    pub from: Option<Source>,
    /// Its folder in the run's, with `/` between parts: `finetune/from-0800`.
    pub dir: String,
}

impl Job {
    /// Whether it can run beside others: a pre-training, from which they start, cannot.
    pub fn is_independent(&self) -> bool {
        self.stage != StageKind::Pretrain
    }

    /// Whether it starts from an epoch of the run's own pre-training.
    pub fn is_after_pretraining(&self) -> bool {
        matches!(self.from, Some(Source::Epoch(_)))
    }
}

/// How often a training computes and updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// Micro-steps of an epoch; an incomplete last batch is dropped.
    pub micro_steps: usize,
    /// Updates of an epoch; a remainder of micro-steps is dropped.
    pub updates_per_epoch: usize,
    /// Updates of the whole training.
    pub total: usize,
}

/// An epoch has too few images for one update.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{stage} would never update: an update takes {effective_batch_size} images \
     (batch_size {batch_size}, accum_iter {accum_iter}, all devices), an epoch has {train_images}"
)]
pub struct NeverUpdates {
    /// The stage whose table has the keys.
    pub stage: StageKind,
    /// `batch_size * accum_iter * world_size`.
    pub effective_batch_size: usize,
    /// `batch_size` of the stage.
    pub batch_size: usize,
    /// `accum_iter` of the stage.
    pub accum_iter: usize,
    /// Images of an epoch.
    pub train_images: usize,
}

impl Plan {
    /// Gives the jobs in running order: pre-training, fine-tunings and probes in the order of their
    /// `from`.
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

    /// Whether each device trains a job of its own, where `jobs` independent ones are to be done, rather than all together one
    /// after the other.
    pub fn is_job_parallel(&self, jobs: usize) -> bool {
        let devices = self.runtime.devices;
        devices > 1
            && match self.runtime.schedule {
                Schedule::Auto => jobs >= devices,
                Schedule::DataParallel => false,
                Schedule::JobParallel => true,
            }
    }

    /// The settings of a stage that all stages share; nothing where the recipe does not have the
    /// stage.
    pub fn training(&self, stage: StageKind) -> Option<&TrainingPlan> {
        match stage {
            StageKind::Pretrain => self.pretrain.as_ref().map(|plan| &plan.training),
            StageKind::Finetune => self.finetune.as_ref().map(|plan| &plan.training),
            StageKind::Linprobe => self.linprobe.as_ref().map(|plan| &plan.training),
        }
    }
}

impl TrainingPlan {
    /// Gives the steps of a training on `train_images` images.
    ///
    /// A micro-step takes `batch_size` images on every device. Fails if an epoch is too short for
    /// one update.
    pub fn steps(&self, stage: StageKind, train_images: usize) -> Result<Steps, NeverUpdates> {
        let images_per_micro_step = self.effective_batch_size / self.accum_iter;
        let micro_steps = train_images / images_per_micro_step;
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

/// A source in a folder's name. A file that is named like a word or an epoch gets a fingerprint.
fn source_name(source: &Source) -> String {
    let path = match source {
        Source::Scratch => return "scratch".to_owned(),
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
            min_lr: 0.0,
            weight_decay: 0.0,
        }
    }

    #[test]
    fn remainders_are_dropped() {
        let steps = training(64, 2, 2).steps(StageKind::Pretrain, 1000).unwrap();
        assert_eq!(steps, Steps { micro_steps: 7, updates_per_epoch: 3, total: 30 });
    }

    #[test]
    fn an_epoch_without_an_update_is_explained() {
        let error = training(64, 4, 1).steps(StageKind::Finetune, 200).unwrap_err();
        insta::assert_snapshot!(error, @"finetune would never update: an update takes 256 images (batch_size 64, accum_iter 4, all devices), an epoch has 200");
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
