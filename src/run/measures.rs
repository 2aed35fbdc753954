//! Measurements of checkpoints that need no training: `[knn]` and `[robustness]` of a recipe, and confusion matrices.
//!
//! Host 0 decides what to measure, and writes the results. All hosts share the images of each measurement.

use super::hosts::{self, Command};
use super::inference::{EvalImages, evaluate};
use super::neighbours::measure_knn;
use super::preflight::epochs;
use super::schedule::is_done;
use super::test_sets::{TestResult, measure_set, open_set};
use crate::checkpoint::{self, Opened};
use crate::data::BadFiles;
use crate::infer::{FeatureExtractor, Knn, KnnMetrics, Pooling, Tally};
use crate::recipe::{Job, KnnPool};
use crate::results::{Confusion, KnnRow, MeasureTables, RobustnessRow, job_path, recipe_word};
use crate::shape::StageKind;
use crate::train::{Event, Observer, RunContext, TrainError};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// Above this number of classes, a run writes no confusion matrix.
const CONFUSION_CLASSES: usize = 100;

/// Returns whether the fine-tuning in `folder` still needs a confusion matrix.
pub(super) fn needs_confusion(folder: &Path, classes: usize) -> bool {
    classes <= CONFUSION_CLASSES && !Confusion::is_in(folder)
}

/// A measurement, which all hosts make together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Measurement {
    /// kNN with the pre-training checkpoint of an epoch.
    Knn { epoch: usize },
    /// A fine-tuning on the validation split.
    Validation { job: String },
    /// A fine-tuning on a test set. `set` is the index of the set in the recipe.
    TestSet { job: String, set: usize },
}

/// Measures the checkpoints of a run, and writes `knn.csv` and `robustness.csv`.
pub(super) struct Measures {
    work: RunContext,
    /// Index of the sweep point.
    point: usize,
    observer: Observer,
}

impl Measures {
    pub(super) fn new(point: usize, work: &RunContext, observer: &Observer) -> Self {
        Self { work: work.clone(), point, observer: Arc::clone(observer) }
    }

    /// Measures each pre-training checkpoint that `knn.csv` does not contain.
    ///
    /// Returns early, without an error, if the user stops the run.
    pub(super) fn knn(&self) -> Result<(), TrainError> {
        if measures_knn(&self.work) {
            self.missing_knn()?;
            // The other hosts may wait for this in the middle of the pre-training.
            hosts::tell(&self.work.hosts, &Command::Measured)?;
        }
        Ok(())
    }

    fn missing_knn(&self) -> Result<(), TrainError> {
        let RunContext { plan, run, .. } = &self.work;
        let (Some(knn), Some(pretrain)) = (&plan.knn, &plan.pretrain) else { return Ok(()) };
        let mut measured = MeasureTables::read(run)?;
        let job = job_path(run, "pretrain");
        for &epoch in &pretrain.checkpoint_epochs {
            let folder = checkpoint::epoch_folder(&job, epoch);
            if !checkpoint::is_whole(&folder) || measured.knn(knn, epoch).is_some() {
                continue;
            }
            self.tell(&Measurement::Knn { epoch })?;
            let Some(metrics) = knn_metrics(&self.work, epoch)? else { return Ok(()) };
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
        let RunContext { data, run, .. } = &self.work;
        let classes = data.facts.num_classes;
        for job in self.finished_finetunings() {
            let folder = job_path(run, &job.dir);
            if !needs_confusion(&folder, classes) {
                continue;
            }
            self.tell(&Measurement::Validation { job: job.dir.clone() })?;
            let Some(tally) = validation_tally(&self.work, &job.dir)? else { return Ok(()) };
            let names = (0..classes).map(|label| match data.class_names.get(label) {
                Some(name) => name.clone(),
                None => label.to_string(),
            });
            let counts = tally.confusion(classes);
            Confusion { names: names.collect(), counts }.write(&folder)?;
        }
        Ok(())
    }

    fn finished_finetunings(&self) -> impl Iterator<Item = Job> {
        let jobs = self.work.plan.jobs().into_iter();
        jobs.filter(|job| job.stage == StageKind::Finetune && is_done(&self.work, job))
    }

    fn robustness(&self) -> Result<(), TrainError> {
        let RunContext { plan, run, .. } = &self.work;
        if plan.robustness.is_empty() {
            return Ok(());
        }
        let mut measured = MeasureTables::read(run)?;
        let classes = plan.robustness_classes;
        for job in self.finished_finetunings() {
            for (index, set) in plan.robustness.iter().enumerate() {
                if measured.robustness(set, classes, &job.dir).is_some() {
                    continue;
                }
                self.tell(&Measurement::TestSet { job: job.dir.clone(), set: index })?;
                let result = test_set_result(&self.work, &job.dir, index)?;
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

    /// Tells the other hosts to make a measurement.
    fn tell(&self, measurement: &Measurement) -> Result<(), TrainError> {
        let measurement = measurement.clone();
        hosts::tell(&self.work.hosts, &Command::Measure { point: self.point, measurement })
    }
}

/// Returns whether the run classifies by nearest neighbours.
pub(super) fn measures_knn(work: &RunContext) -> bool {
    work.plan.knn.is_some() && work.plan.pretrain.is_some()
}

/// Makes a measurement of host 0 on another host. The results are those of host 0, which alone writes them.
pub(super) fn measure_with_host_0(
    work: &RunContext,
    measurement: &Measurement,
) -> Result<(), TrainError> {
    match measurement {
        Measurement::Knn { epoch } => knn_metrics(work, *epoch).map(drop),
        Measurement::Validation { job } => validation_tally(work, job).map(drop),
        Measurement::TestSet { job, set } => test_set_result(work, job, *set).map(drop),
    }
}

/// Classifies by nearest neighbours, with the features of the pre-training checkpoint of `epoch`.
fn knn_metrics(work: &RunContext, epoch: usize) -> Result<Option<KnnMetrics>, TrainError> {
    let RunContext { plan, data, run, stop, hosts, .. } = work;
    let knn = plan.knn.as_ref().expect("the recipe has [knn]");
    let measure = || {
        let job = job_path(run, "pretrain");
        let device = work.device.of(0);
        let pooling = match knn.pool {
            KnnPool::Cls => Pooling::Cls,
            KnnPool::Mean => Pooling::Mean,
        };
        let opened = open(work, &checkpoint::epoch_folder(&job, epoch))?;
        let features = FeatureExtractor::load(&opened, plan, &device.device, None, Some(pooling))?;
        let settings = Knn { k: knn.k, temperature: knn.temperature };
        let table = hosts.is_first().then(|| job.join("bad_files.csv"));
        let bad_files = BadFiles::new(plan.data.max_bad_fraction, data.train.len(), table);
        measure_knn(&features, plan, data, settings, Some(bad_files), (&device, hosts, stop))
    };
    hosts.end_job(measure())
}

/// Counts the predictions of a fine-tuning on the validation split.
fn validation_tally(work: &RunContext, job: &str) -> Result<Option<Tally>, TrainError> {
    let RunContext { plan, data, stop, hosts, device, .. } = work;
    let opened = open_finetuning(work, job);
    let images = opened.and_then(|opened| Ok((opened, EvalImages::validation(plan, data)?)));
    let (opened, images) = images.or_else(|error| hosts.end_job(Err(error)))?;
    let tallies = evaluate(opened, plan, vec![images], (device, hosts), stop)?;
    Ok(tallies.map(|mut tallies| tallies.remove(0)))
}

/// Measures a fine-tuning on test set number `set` of the recipe.
fn test_set_result(
    work: &RunContext,
    job: &str,
    set: usize,
) -> Result<Option<TestResult>, TrainError> {
    let RunContext { plan, data, stop, hosts, device, .. } = work;
    let opened = open_finetuning(work, job).and_then(|opened| {
        let classes = plan.robustness_classes;
        Ok((opened, open_set(&plan.robustness[set], plan, &data.class_names, classes)?))
    });
    let (opened, images) = opened.or_else(|error| hosts.end_job(Err(error)))?;
    measure_set(opened, plan, &images, (device, hosts), stop)
}

/// Opens the last checkpoint of a finished fine-tuning.
fn open_finetuning(work: &RunContext, job: &str) -> Result<Arc<Opened>, TrainError> {
    let epoch = epochs(&work.plan, StageKind::Finetune);
    let folder = checkpoint::epoch_folder(&job_path(&work.run, job), epoch);
    Ok(Arc::new(open(work, &folder)?))
}

/// Opens a checkpoint that host 0 has written.
fn open(work: &RunContext, folder: &Path) -> Result<Opened, TrainError> {
    hosts::wait_until(&work.run, || checkpoint::is_whole(folder))?;
    Ok(checkpoint::open(folder, None)?)
}
