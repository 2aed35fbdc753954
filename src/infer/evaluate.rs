//! Evaluation: top-1, top-5 and loss of a classifier on the whole validation split.

use super::error::{DeviceError, InferError};
use super::host::host;
use super::images::images;
use super::replicas::Replicas;
use super::stop::StopFlag;
use crate::data::{DataSet, EvalTransform, Loader, Share, Split, TargetsSlice};
use crate::recipe::Plan;
use crate::shape::EncoderDims;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use std::sync::Arc;

/// Measures a classifier on the validation split, on one device.
pub struct Evaluation {
    pub loader: Loader,
    pub encoder: EncoderDims,
    pub device: Device,
    pub stop: StopFlag,
}

/// Reads every validation image once, to find unreadable images before the training.
///
/// With `data.bad_val = "stop"`, an unreadable image is an error. With `"skip"`, the returned data set leaves it out.
/// Returns `None` if the user stops the run.
pub fn read_validation(
    plan: &Plan,
    data: &DataSet,
    stop: &StopFlag,
) -> Result<Option<DataSet>, InferError> {
    let Some(val) = data.val.clone() else { return Ok(Some(data.clone())) };
    let found = if val.is_cheap() {
        Some(Vec::new())
    } else {
        let loader = Loader::eval(val, EvalTransform::new(&plan.data), 64, plan.data.workers);
        loader.unreadable(|| stop.requested())?
    };
    let Some(unreadable) = found else { return Ok(None) };
    Ok(Some(data.with_readable_val(plan.data.bad_val, &unreadable)?))
}

/// The result of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Evaluated {
    /// The stage has no accuracy (pre-training).
    Nothing,
    Metrics(Metrics),
    /// The user stopped the evaluation.
    Stopped,
}

/// Metrics of a classifier on the validation split. `top1` and `top5` are in %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metrics {
    /// Mean cross-entropy.
    pub loss: f64,
    pub top1: f64,
    pub top5: f64,
    pub images: usize,
}

/// Sums over images: loss, correct predictions and number of images.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) loss: f64,
    pub(super) top1: usize,
    pub(super) top5: usize,
    pub(super) images: usize,
}

impl Evaluation {
    /// Prepares an evaluation with batches of `batch_size` images.
    ///
    /// Fails if `data` has no validation split.
    pub fn new(
        plan: &Plan,
        data: &DataSet,
        batch_size: usize,
        device: &Device,
        stop: &StopFlag,
        parallel_jobs: usize,
    ) -> Result<Self, InferError> {
        let split = data.val.clone().ok_or_else(|| InferError::Setting {
            problem: format!(
                "cannot evaluate a classifier: {} has no validation split",
                plan.data.path.display()
            ),
            hint: "add a `val/` folder with the same class folders as `train/`".to_owned(),
        })?;
        let images = (split, EvalTransform::new(&plan.data));
        let evaluation = Self::of_images(plan, images, batch_size, device, stop);
        let loader = evaluation.loader.with_parallel_jobs(parallel_jobs);
        Ok(Self { loader, ..evaluation })
    }

    /// Prepares an evaluation of all images of a split.
    pub fn of_images(
        plan: &Plan,
        (split, transform): (Arc<dyn Split>, EvalTransform),
        batch_size: usize,
        device: &Device,
        stop: &StopFlag,
    ) -> Self {
        Self {
            loader: Loader::eval(split, transform, batch_size, plan.data.workers),
            encoder: plan.encoder_dims(),
            device: device.clone(),
            stop: stop.clone(),
        }
    }

    /// Sums the loss and counts the correct predictions for the part `share` of the validation images.
    ///
    /// `forward` returns logits `[N, C]`. If the user stops the run, returns early.
    pub fn count<M, F>(
        &self,
        model: &M,
        replicas: &Replicas,
        share: Share,
        forward: F,
    ) -> Result<ShareCounts, InferError>
    where
        M: Module + Sync + 'static,
        F: Fn(&M, Tensor<4>) -> Tensor<2> + Clone + Send + Sync + 'static,
    {
        let mut sums = ShareCounts::default();
        let score = move |model: &M, imgs, labels: &[u32]| {
            let logits = forward(model, imgs);
            let classes = logits.dims()[1];
            let logits = host(&logits.flatten(0, 1), &[])?.values;
            Ok(count(&logits, labels, classes))
        };
        let add = |part: Counts| {
            sums.counts.add(&part);
            Ok::<_, InferError>(())
        };
        sums.stopped = !self.each_shard(model, replicas, share, score, add)?;
        Ok(sums)
    }

    /// Runs `work` on shards of the part `share` of the images. Calls `take` with each result, in image order.
    ///
    /// `work` receives the model, images `[N, C, H, W]` and labels. Returns false if the user stops the run.
    pub fn each_shard<M, T, E>(
        &self,
        model: &M,
        replicas: &Replicas,
        share: Share,
        work: impl Fn(&M, Tensor<4>, &[u32]) -> Result<T, DeviceError> + Clone + Send + Sync + 'static,
        mut take: impl FnMut(T) -> Result<(), E>,
    ) -> Result<bool, E>
    where
        M: Module + Sync + 'static,
        T: Send + 'static,
        E: From<InferError>,
    {
        for batch in self.loader.clone().share(share).epoch(1, 0) {
            if self.stop.requested() {
                return Ok(false);
            }
            let batch = Arc::new(batch.map_err(InferError::from)?);
            let inputs: Vec<_> = replicas
                .shards(batch.len())
                .map(|range| (model.clone(), Arc::clone(&batch), range))
                .collect();
            let (encoder, device) = (self.encoder.clone(), self.device.clone());
            let work = work.clone();
            let parts = replicas.map(inputs, move |(model, batch, range)| {
                let shard = batch.shard(range);
                let TargetsSlice::Hard(labels) = shard.targets else {
                    unreachable!("mixup never changes validation labels")
                };
                work(&model, images(&shard, &encoder, &device), labels)
            });
            for part in parts.map_err(InferError::from)? {
                take(part.map_err(InferError::from)?)?;
            }
        }
        Ok(true)
    }
}

/// Sums over the validation images of one rank.
#[derive(Debug, Clone, Copy, Default)]
pub struct ShareCounts {
    counts: Counts,
    stopped: bool,
}

impl ShareCounts {
    /// Encodes the sums, to send them to other ranks. [`Self::from_words`] decodes them.
    pub fn to_words(&self) -> [u64; 5] {
        let Counts { loss, top1, top5, images } = self.counts;
        [loss.to_bits(), top1 as u64, top5 as u64, images as u64, u64::from(self.stopped)]
    }

    pub fn from_words([loss, top1, top5, images, stopped]: [u64; 5]) -> Self {
        let [top1, top5, images] = [top1, top5, images].map(|count| count as usize);
        let counts = Counts { loss: f64::from_bits(loss), top1, top5, images };
        Self { counts, stopped: stopped == 1 }
    }
}

impl Evaluated {
    /// Adds up the sums of all ranks, and returns the metrics.
    ///
    /// Returns [`Self::Stopped`] if any rank was stopped.
    pub fn from_shares(shares: Vec<ShareCounts>) -> Self {
        let (mut all, mut stopped) = (Counts::default(), false);
        for share in shares {
            all.add(&share.counts);
            stopped |= share.stopped;
        }
        if stopped { Self::Stopped } else { Self::Metrics(all.metrics()) }
    }
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.loss += other.loss;
        self.top1 += other.top1;
        self.top5 += other.top5;
        self.images += other.images;
    }

    pub(super) fn metrics(&self) -> Metrics {
        let percent = |count: usize| 100.0 * count as f64 / self.images as f64;
        Metrics {
            loss: self.loss / self.images as f64,
            top1: percent(self.top1),
            top5: percent(self.top5),
            images: self.images,
        }
    }
}

/// Computes loss and accuracy of logits `[N, C]`, where `C` is `classes`.
///
/// Each label must be less than `classes`.
pub fn score(logits: &[f32], labels: &[u32], classes: usize) -> Metrics {
    count(logits, labels, classes).metrics()
}

fn count(logits: &[f32], labels: &[u32], classes: usize) -> Counts {
    let mut counts = Counts { images: labels.len(), ..Counts::default() };
    for (row, &label) in logits.chunks_exact(classes).zip(labels) {
        let (rank, loss) = rank_and_loss(row.iter().copied(), row[label as usize]);
        counts.top1 += usize::from(rank < 1);
        counts.top5 += usize::from(rank < 5);
        counts.loss += loss;
    }
    counts
}

/// Returns two values for an image: how many classes have a larger logit than the correct class, and the cross-entropy.
///
/// `own` is the logit of the correct class.
pub(super) fn rank_and_loss(logits: impl Iterator<Item = f32> + Clone, own: f32) -> (usize, f64) {
    let rank = logits.clone().filter(|other| *other > own).count();
    let max = logits.clone().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.map(|logit| f64::from(logit - max).exp()).sum();
    (rank, sum.ln() - f64::from(own - max))
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn counts_and_loss_match_the_logits() {
        let logits = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 9.0];
        let counts = count(&logits, &[0, 5], 6);
        assert_eq!((counts.top1, counts.top5, counts.images), (1, 1, 2));
        let first: f64 = (0..6).map(|i| f64::from(i).exp()).sum::<f64>().ln();
        let second = (5.0 + 9f64.exp()).ln() - 9.0;
        assert!((counts.loss - first - second).abs() < 1e-9);
    }
}
