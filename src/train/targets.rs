//! What a classifier is asked for, and the loss against it.

use crate::data::TargetsSlice;
use burn::tensor::{Tensor, activation};

/// Gives target probabilities, `[N, C]`: mixed ones as they are, labels smoothed (`smoothing` spread over all classes).
pub fn soft_targets(targets: TargetsSlice<'_>, classes: usize, smoothing: f64) -> Vec<f32> {
    match targets {
        TargetsSlice::Soft(rows) => rows.to_vec(),
        TargetsSlice::Hard(labels) => {
            let off = smoothing / classes as f64;
            let mut rows = vec![off as f32; labels.len() * classes];
            for (row, &label) in rows.chunks_exact_mut(classes).zip(labels) {
                row[label as usize] = (1.0 - smoothing + off) as f32;
            }
            rows
        }
    }
}

/// Mean cross-entropy of logits `[N, C]` against probabilities `[N, C]`, `[1]`.
pub fn soft_cross_entropy(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    let n = logits.dims()[0] as f64;
    -(activation::log_softmax(logits, 1) * targets).sum() / n
}
