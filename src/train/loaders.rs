//! Builds the training loader of a stage.

use super::error::TrainError;
use crate::data::{BadFiles, CropRule, DataSet, Loader, Mixup, TrainTransform};
use crate::random::Key;
use crate::recipe::{FinetunePlan, Plan};
use crate::shape::StageKind;
use std::path::PathBuf;
use std::sync::Arc;

/// Creates the loader of a stage's training images.
///
/// The loader lists unreadable files in the CSV file `bad_files`. Panics if `plan` has no such stage.
pub fn train_loader(
    plan: &Plan,
    data: &DataSet,
    stage: StageKind,
    bad_files: Option<PathBuf>,
) -> Result<Loader, TrainError> {
    let transform = |augment, rule| TrainTransform::new(&plan.data, augment, rule);
    let missing = "the plan contains the stage of this loader";
    let (transform, mixup) = match stage {
        StageKind::Pretrain => {
            let pretrain = plan.pretrain.as_ref().expect(missing);
            (transform(&pretrain.augment, CropRule::TenTries), None)
        }
        StageKind::Finetune => {
            let finetune = plan.finetune.as_ref().expect(missing);
            finetuning(
                transform(&finetune.augment, CropRule::TenTries),
                finetune,
                data.facts.num_classes,
            )
        }
        StageKind::Linprobe => {
            let linprobe = plan.linprobe.as_ref().expect(missing);
            (transform(&linprobe.augment, CropRule::SingleTry), None)
        }
    };
    let batch_size = plan.training(stage).expect(missing).batch_size;
    let key = key(plan, stage);
    let split = Arc::clone(&data.train);
    let bad_files = BadFiles::new(plan.data.max_bad_fraction, split.len(), bad_files);
    let loader = Loader::train(split, transform, mixup, batch_size, plan.data.workers, key)?;
    Ok(loader.skipping_bad_files(Arc::new(bad_files)))
}

fn finetuning(
    mut transform: TrainTransform,
    plan: &FinetunePlan,
    num_classes: usize,
) -> (TrainTransform, Option<Mixup>) {
    if let Some(policy) = &plan.rand_augment {
        transform = transform.with_rand_augment(policy.clone());
    }
    if let Some(erasing) = &plan.erasing {
        transform = transform.with_erasing(erasing.clone());
    }
    let mixup = plan.mixup.clone().map(|mixup| Mixup {
        plan: mixup,
        smoothing: plan.smoothing,
        num_classes,
    });
    (transform, mixup)
}

/// Returns the random key of a stage. The training loop sets the key's `epoch`.
pub(super) fn key(plan: &Plan, stage: StageKind) -> Key {
    Key { seed: plan.seed, stage: stage as u8, epoch: 0 }
}
