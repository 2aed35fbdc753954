//! kNN classification: the hosts share the images, and each of them gets the features of all images.

use super::inference::{EVAL_BATCH, validation};
use crate::data::{BadFiles, DataSet, Share, Split};
use crate::infer::{FeatureExtractor, Features, Knn, KnnCounts, KnnMetrics, StopFlag};
use crate::recipe::Plan;
use crate::train::{ChosenDevice, Hosts, TrainError};
use std::sync::Arc;

/// Number of batches in one message between hosts. For ViT-B, this message has 12.6 MB.
const MESSAGE_BATCHES: usize = 64;

/// Classifies the validation images by the nearest training images. Returns `None` if the user stops the command.
///
/// All hosts must call this function for the same checkpoint, and get the same result. It has the same bits for any
/// number of hosts. `bad_files` lets the pass over the training images skip unusable files.
pub fn measure_knn(
    features: &FeatureExtractor,
    plan: &Plan,
    data: &DataSet,
    knn: Knn,
    bad_files: Option<BadFiles>,
    (device, hosts, stop): (&ChosenDevice, &Hosts, &StopFlag),
) -> Result<Option<KnnMetrics>, TrainError> {
    let val = validation(plan, data, "classify by nearest neighbours")?;
    let images = val.len();
    let extraction = Extraction { features, plan, device, hosts, stop };
    let Some(train) = extraction.all(Arc::clone(&data.train), bad_files)? else { return Ok(None) };
    let Some(val) = extraction.all(val, None)? else { return Ok(None) };
    let own = knn.count(train, val, (extraction.width(), share_of(hosts)), &device.device, stop)?;
    let words = |counts: KnnCounts| [counts.top1 as u64, counts.top5 as u64].map(u64::to_le_bytes);
    let messages = hosts.exchange(own.map_or_else(Vec::new, |counts| words(counts).concat()))?;
    let mut sum = KnnCounts::default();
    for message in messages {
        let Some((top1, top5)) = message.split_at_checked(8) else { return Ok(None) };
        sum.top1 += number(top1);
        sum.top5 += number(top5);
    }
    Ok(Some(sum.metrics(images)))
}

/// Returns the share of the images whose features this host computes, on its first device.
fn share_of(hosts: &Hosts) -> Share {
    Share { index: hosts.index(), of: hosts.count(), on_this_host: 1 }
}

/// Computes features on all hosts.
struct Extraction<'a> {
    features: &'a FeatureExtractor,
    plan: &'a Plan,
    device: &'a ChosenDevice,
    hosts: &'a Hosts,
    stop: &'a StopFlag,
}

impl Extraction<'_> {
    /// Returns the number of features of one image.
    fn width(&self) -> usize {
        self.features.shape().iter().product()
    }

    /// Returns the features of all images of `split`, in image order; `None` if the user stops the command.
    fn all(
        &self,
        split: Arc<dyn Split>,
        bad_files: Option<BadFiles>,
    ) -> Result<Option<Features>, TrainError> {
        let images = split.len();
        let mut pass = self.features.pass(self.plan, split, EVAL_BATCH, self.stop);
        if let Some(bad_files) = bad_files {
            pass.loader = pass.loader.skipping_bad_files(Arc::new(bad_files));
        }
        let place = (&self.device.replicas(), share_of(self.hosts));
        let own = self.features.of_share(&pass, place)?;
        if self.hosts.count() == 1 {
            return Ok(own);
        }
        let stopped = self.hosts.exchange(vec![u8::from(own.is_none())])?;
        match own {
            Some(own) if stopped.iter().all(|stopped| stopped == &[0]) => {
                Ok(Some(self.gather(&own, images)?))
            }
            _ => Ok(None),
        }
    }

    /// Sends this host's features to all hosts. Returns the features of all `images` images, in image order.
    fn gather(&self, own: &Features, images: usize) -> Result<Features, TrainError> {
        let (width, hosts) = (self.width(), self.hosts.count());
        let rounds = images.div_ceil(hosts * MESSAGE_BATCHES * EVAL_BATCH);
        let mut all = Features::default();
        for round in 0..rounds {
            let first = round * MESSAGE_BATCHES * EVAL_BATCH;
            let messages = self.hosts.exchange(to_bytes(own, first, width))?;
            let parts: Vec<Features> =
                messages.iter().map(|message| from_bytes(message, width)).collect();
            // Batch `b` of host `h` has the images from `(b * hosts + h) * EVAL_BATCH` on.
            for start in (0..MESSAGE_BATCHES * EVAL_BATCH).step_by(EVAL_BATCH) {
                for part in &parts {
                    let images = part.labels.len();
                    let (start, end) = (start.min(images), (start + EVAL_BATCH).min(images));
                    all.labels.extend(&part.labels[start..end]);
                    all.values.extend(&part.values[start * width..end * width]);
                }
            }
        }
        Ok(all)
    }
}

/// Returns a message with the features of at most [`MESSAGE_BATCHES`] batches, from image `first` on.
///
/// Each image has its label, in 4 bytes, and `width` features, in 4 bytes each.
fn to_bytes(features: &Features, first: usize, width: usize) -> Vec<u8> {
    let images = features.labels.len();
    let (first, end) = (first.min(images), (first + MESSAGE_BATCHES * EVAL_BATCH).min(images));
    let mut bytes = Vec::with_capacity((end - first) * 4 * (1 + width));
    for image in first..end {
        bytes.extend(features.labels[image].to_le_bytes());
        let values = &features.values[image * width..(image + 1) * width];
        for value in values {
            bytes.extend(value.to_le_bytes());
        }
    }
    bytes
}

/// Reads a message of [`to_bytes`].
fn from_bytes(bytes: &[u8], width: usize) -> Features {
    let four = |word: &[u8]| <[u8; 4]>::try_from(word).expect("4 bytes");
    let mut features = Features::default();
    for image in bytes.chunks_exact(4 * (1 + width)) {
        let (label, values) = image.split_at(4);
        features.labels.push(u32::from_le_bytes(four(label)));
        let values = values.chunks_exact(4).map(|value| f32::from_le_bytes(four(value)));
        features.values.extend(values);
    }
    features
}

fn number(bytes: &[u8]) -> usize {
    u64::from_le_bytes(bytes.try_into().expect("8 bytes")) as usize
}
