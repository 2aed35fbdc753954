//! The targets of a classifier.

use crate::data::Shard;
use burn::tensor::{Device, Tensor, TensorData};

/// Returns the target probabilities of a shard's images, `[N, C]`.
///
/// `smoothing` applies only to images without mixup. Mixup targets are already smoothed.
pub(super) fn targets(
    shard: &Shard<'_>,
    num_classes: usize,
    smoothing: f64,
    device: &Device,
) -> Tensor<2> {
    let n = shard.samples.len();
    let targets = shard.targets.soft(num_classes, smoothing);
    Tensor::from_data(TensorData::new(targets, [n, num_classes]), device)
}
