//! Measurements of checkpoints that need no training: `[knn]` of a recipe.

use super::inference::{load_features, measure_knn};
use crate::checkpoint;
use crate::data::BadFiles;
use crate::infer::{Knn, Pooling};
use crate::recipe::KnnPool;
use crate::results::{KnnRow, Measured, job_path, pool_word};
use crate::train::{Event, Observer, RunContext, TrainError};
use std::sync::{Arc, Mutex, PoisonError};

/// Measures the checkpoints of a run, and writes `knn.csv`.
pub(super) struct Measures {
    work: RunContext,
    observer: Observer,
    /// Locked while a checkpoint is measured, so that parallel jobs do not measure the same one.
    measuring: Mutex<()>,
}

impl Measures {
    pub(super) fn new(work: &RunContext, observer: &Observer) -> Self {
        let measuring = Mutex::default();
        Self { work: work.clone(), observer: Arc::clone(observer), measuring }
    }

    /// Measures every kept checkpoint of the pre-training that `knn.csv` does not have yet.
    ///
    /// Returns early, without an error, if the user stops the run.
    pub(super) fn knn(&self) -> Result<(), TrainError> {
        let RunContext { plan, data, run, stop, .. } = &self.work;
        let (Some(knn), Some(pretrain)) = (&plan.knn, &plan.pretrain) else { return Ok(()) };
        let _in_turn = self.measuring.lock().unwrap_or_else(PoisonError::into_inner);
        let mut measured = Measured::read(run)?;
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
            let features = load_features(&opened, plan, &device, (None, Some(pooling)))?;
            let settings = Knn { k: knn.k, temperature: knn.temperature };
            let bad_files = BadFiles::new(
                plan.data.max_bad_fraction,
                data.train.len(),
                job.join("bad_files.csv"),
            );
            let metrics =
                measure_knn(&features, plan, data, settings, Some(bad_files), (&device, stop))?;
            let Some(metrics) = metrics else { return Ok(()) };
            let row = KnnRow {
                pretrain_epoch: epoch,
                k: knn.k,
                temperature: knn.temperature,
                pool: pool_word(knn),
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
}
