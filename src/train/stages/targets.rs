//! The loss of a classifier.

use burn::tensor::{Tensor, activation};

/// Mean cross-entropy of logits `[N, C]` against probabilities `[N, C]`, `[1]`.
pub fn soft_cross_entropy(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    let n = logits.dims()[0] as f64;
    -(activation::log_softmax(logits, 1) * targets).sum() / n
}
