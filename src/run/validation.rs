//! Reads the validation images before the first job, so that unreadable ones are known before the training starts.

use super::measures::needs_confusion;
use super::preflight::{CheckedJob, CheckedPoint, JobState};
use super::runner::{Runner, Sweep};
use crate::data::DataSet;
use crate::infer;
use crate::recipe::{BadVal, Plan};
use crate::results::{MeasureTables, job_path};
use crate::shape::StageKind;
use crate::train::{Event, TrainError};
use std::sync::Arc;

/// From this number of validation images, a notice says that the run reads all of them.
const MANY_IMAGES: usize = 5_000;

impl Runner<'_> {
    /// Reads all validation images once, if a job needs them. Returns the data to use.
    ///
    /// Fails if an image is unreadable and `data.bad_val` is "stop". With "skip", the returned data leaves out
    /// unreadable images. Returns `None` if the user stops the run.
    pub(super) fn readable_data(
        &self,
        index: usize,
        data: Arc<DataSet>,
        sweep: &mut Sweep<'_>,
    ) -> Result<Option<Arc<DataSet>>, TrainError> {
        let (point, plan) = (&sweep.points[index], &sweep.resolved.points[index].plan);
        let skips = plan.data.bad_val == BadVal::Skip;
        if !evaluates(point, plan, &data) || point.before.is_some() && !skips {
            return Ok(Some(data));
        }
        let is_read = data.val_skipped.is_some() || !skips && sweep.has_read_validation(index);
        let data = if is_read {
            data
        } else {
            let Some(read) = self.read_validation(plan, &data)? else { return Ok(None) };
            let read = Arc::new(read);
            sweep.use_data(index, &read);
            read
        };
        refuse_other_val(&sweep.points[index], &data)?;
        Ok(Some(data))
    }

    fn read_validation(&self, plan: &Plan, data: &DataSet) -> Result<Option<DataSet>, TrainError> {
        if data.facts.val_images >= MANY_IMAGES {
            let text =
                "reading all validation images once, to find unreadable images before training";
            (self.observer)(Event::Notice { job: "data", text });
        }
        let read = infer::read_validation(plan, data, self.stop)?;
        let skipped = read.as_ref().and_then(|data| data.val_skipped.as_ref());
        if let Some(skipped) = skipped.filter(|skipped| !skipped.is_empty()) {
            let are = if skipped.len() == 1 { "is" } else { "are" };
            let text = format!(
                "{} of {} validation images {are} unreadable. All accuracies leave out unreadable images:\n  {}",
                skipped.len(),
                data.facts.val_images,
                skipped.join("\n  ")
            );
            (self.observer)(Event::Warning { job: "data", text: &text });
        }
        Ok(read)
    }
}

impl Sweep<'_> {
    /// Returns whether an earlier run of the sweep has read the same validation images.
    fn has_read_validation(&self, index: usize) -> bool {
        let points = &self.resolved.points;
        points[..index].iter().any(|other| {
            other.plan.data == points[index].plan.data
                && self.failed.iter().all(|failed| failed.name != other.plan.name)
        })
    }

    /// Gives `data` to run `index`, and to later runs whose recipes name the same data.
    fn use_data(&mut self, index: usize, data: &Arc<DataSet>) {
        let resolved = &self.resolved.points;
        for (point, other) in self.points.iter_mut().zip(resolved).skip(index) {
            if other.plan.data == resolved[index].plan.data && point.data.is_some() {
                point.data = Some(Arc::clone(data));
            }
        }
    }
}

/// Returns whether this command measures an accuracy on the validation images.
fn evaluates(point: &CheckedPoint, plan: &Plan, data: &DataSet) -> bool {
    let classifiers = |job: &&CheckedJob| job.job.stage != StageKind::Pretrain;
    let lacks_confusion = |job: &CheckedJob| {
        job.job.stage == StageKind::Finetune
            && needs_confusion(&job_path(&point.path, &job.job.dir), data.facts.num_classes)
    };
    let mut classifiers = point.asked().filter(classifiers);
    if classifiers.any(|job| job.state != JobState::Done || lacks_confusion(job)) {
        return true;
    }
    let (Some(knn), Some(pretrain)) = (&plan.knn, &plan.pretrain) else { return false };
    let measured = MeasureTables::read(&point.path);
    let is_measured =
        |epoch: &usize| measured.as_ref().is_ok_and(|tables| tables.knn(knn, *epoch).is_some());
    !pretrain.checkpoint_epochs.iter().all(is_measured)
}

/// Fails if an earlier start skipped a different number of validation images.
///
/// So all accuracies of a run are from the same images.
fn refuse_other_val(point: &CheckedPoint, data: &DataSet) -> Result<(), TrainError> {
    let before = point.before.as_ref().and_then(|before| before.val_skipped);
    let now = data.val_skipped.as_ref().map(|skipped| skipped.len());
    let (Some(before), Some(now)) = (before, now) else { return Ok(()) };
    if before == now {
        return Ok(());
    }
    Err(TrainError::Setting {
        problem: format!(
            "cannot continue {}: {now} validation images are unreadable now, but {before} were unreadable when this run started",
            point.path.display()
        ),
        hint: "run `mae data check` to list the unreadable images, and restore them. Or choose another name (`--set name=...`)"
            .to_owned(),
    })
}
