//! Measurements of checkpoints that need no training: `[knn]` and `[robustness]` of a recipe.

use super::inference::{EvalImages, evaluate, measure_knn};
use super::preflight::epochs;
use super::schedule::is_done;
use super::test_sets::{measure_set, open_set};
use crate::checkpoint;
use crate::data::BadFiles;
use crate::infer::{FeatureExtractor, Knn, Pooling};
use crate::recipe::{Job, KnnPool};
use crate::results::{Confusion, KnnRow, MeasureTables, RobustnessRow, job_path, recipe_word};
use crate::shape::StageKind;
use crate::train::{Event, Observer, RunContext, TrainError};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Above this number of classes, a run writes no confusion matrix.
const CONFUSION_CLASSES: usize = 100;

/// Returns whether the fine-tuning in `folder` still needs a confusion matrix.
pub(super) fn needs_confusion(folder: &Path, classes: usize) -> bool {
    classes <= CONFUSION_CLASSES && !Confusion::is_in(folder)
}

/// Measures checkpoints for `knn.csv`, `robustness.csv` and `confusion.csv`.
pub(super) struct Measures {
    work: RunContext,
    observer: Observer,
    /// Locked while measuring, because jobs may run in parallel.
    measuring: Mutex<()>,
}

impl Measures {
    pub(super) fn new(work: &RunContext, observer: &Observer) -> Self {
        let measuring = Mutex::default();
        Self { work: work.clone(), observer: Arc::clone(observer), measuring }
    }

    /// Measures each pre-training checkpoint that `knn.csv` does not contain.
    ///
    /// Returns early, without an error, if the user stops the run.
    pub(super) fn knn(&self) -> Result<(), TrainError> {
        let RunContext { plan, data, run, stop, .. } = &self.work;
        let (Some(knn), Some(pretrain)) = (&plan.knn, &plan.pretrain) else { return Ok(()) };
        let _in_turn = self.measuring.lock().unwrap_or_else(PoisonError::into_inner);
        let mut measured = MeasureTables::read(run)?;
        let job = job_path(run, "pretrain");
        let device = self.work.device.of(0);
        let pooling = match knn.pool {
            KnnPool::Cls => Pooling::Cls,
            KnnPool::Mean => Pooling::Mean,
        };
        for &epoch in &pretrain.checkpoint_epochs {
            let folder = checkpoint::epoch_folder(&job, epoch);
            if !checkpoint::is_whole(&folder) || measured.knn(knn, epoch).is_some() {
                continue;
            }
            let opened = checkpoint::open(&folder, None)?;
            let features =
                FeatureExtractor::load(&opened, plan, &device.device, None, Some(pooling))?;
            let settings = Knn { k: knn.k, temperature: knn.temperature };
            let bad_files = BadFiles::new(
                plan.data.max_bad_fraction,
                data.train.len(),
                Some(job.join("bad_files.csv")),
            );
            let metrics =
                measure_knn(&features, plan, data, settings, Some(bad_files), (&device, stop))?;
            let Some(metrics) = metrics else { return Ok(()) };
            let row = KnnRow {
                pretrain_epoch: epoch,
                k: knn.k,
                temperature: knn.temperature,
                pool: recipe_word(knn.pool),
                knn_top1: format!("{:.2}", metrics.top1),
                knn_top5: format!("{:.2}", metrics.top5),
                images: metrics.images,
            };
            let text = format!(
                "kNN after epoch {epoch}: top-1 {} %, top-5 {} %",
                row.knn_top1, row.knn_top5
            );
            measured.add_knn(run, row)?;
            (self.observer)(Event::Notice { job: "knn", text: &text });
        }
        Ok(())
    }

    /// Measures finished fine-tunings for `robustness.csv` and `confusion.csv`.
    ///
    /// Keeps existing results. Returns early, without an error, if the user stops the run.
    pub(super) fn finetunings(&self) -> Result<(), TrainError> {
        self.robustness()?;
        self.confusions()
    }

    /// Writes `confusion.csv` for each finished fine-tuning with at most 100 classes.
    fn confusions(&self) -> Result<(), TrainError> {
        let RunContext { plan, data, run, stop, device, .. } = &self.work;
        let classes = data.facts.num_classes;
        for job in self.finished_finetunings() {
            let folder = job_path(run, &job.dir);
            if !needs_confusion(&folder, classes) {
                continue;
            }
            let epoch = epochs(plan, StageKind::Finetune);
            let opened = checkpoint::open(&checkpoint::epoch_folder(&folder, epoch), None)?;
            let images = EvalImages::validation(plan, data)?;
            let tallies = evaluate(Arc::new(opened), plan, vec![images], device, stop)?;
            let Some(tallies) = tallies else { return Ok(()) };
            let names = (0..classes).map(|label| match data.class_names.get(label) {
                Some(name) => name.clone(),
                None => label.to_string(),
            });
            let counts = tallies[0].confusion(classes);
            Confusion { names: names.collect(), counts }.write(&folder)?;
        }
        Ok(())
    }

    fn finished_finetunings(&self) -> impl Iterator<Item = Job> {
        let jobs = self.work.plan.jobs().into_iter();
        jobs.filter(|job| job.stage == StageKind::Finetune && is_done(&self.work, job))
    }

    fn robustness(&self) -> Result<(), TrainError> {
        let RunContext { plan, data, run, stop, device, .. } = &self.work;
        if plan.robustness.is_empty() {
            return Ok(());
        }
        let mut measured = MeasureTables::read(run)?;
        let classes = plan.robustness_classes;
        for job in self.finished_finetunings() {
            let epoch = epochs(plan, StageKind::Finetune);
            let folder = checkpoint::epoch_folder(&job_path(run, &job.dir), epoch);
            let mut left = plan.robustness.clone();
            left.retain(|set| measured.robustness(set, classes, &job.dir).is_none());
            if left.is_empty() {
                continue;
            }
            let opened = Arc::new(checkpoint::open(&folder, None)?);
            for set in &left {
                let images = open_set(set, plan, &data.class_names, classes)?;
                let result = measure_set(Arc::clone(&opened), plan, &images, device, stop)?;
                let Some(result) = result else { return Ok(()) };
                let row = RobustnessRow {
                    finetune_run: job.dir.clone(),
                    set: set.name.clone(),
                    path: set.path.display().to_string(),
                    classes: recipe_word(classes),
                    top1: format!("{:.2}", result.metrics.top1),
                    top5: format!("{:.2}", result.metrics.top5),
                    mce: result.mce().map(|mce| format!("{mce:.2}")).unwrap_or_default(),
                    set_classes: result.classes,
                    images: result.metrics.images,
                };
                let text = format!("top-1 {} % on {}", row.top1, set.name);
                measured.add_robustness(run, row)?;
                (self.observer)(Event::Notice { job: &job.dir, text: &text });
            }
        }
        Ok(())
    }
}
