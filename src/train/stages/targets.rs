//! The targets of a classifier.

use crate::data::Shard;
use burn::tensor::{Device, Tensor, TensorData};

/// Returns the class probabilities that a shard's images are trained on, `[N, C]`.
///
/// The targets of mixup are smoothed already. Plain labels are smoothed here.
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
