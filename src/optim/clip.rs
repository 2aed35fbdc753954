//! The global gradient norm, and clipping by this norm.

use crate::ops;
use burn::tensor::Tensor;

/// Returns the 2-norm of all gradients together, `[1]`, on the device.
///
/// Panics if `grads` is empty.
pub fn global_norm(grads: &[Tensor<1>]) -> Tensor<1> {
    #[cfg(feature = "gpu")]
    if ops::is_gpu(&grads[0]) {
        return ops::sum_of_all_squares(grads, &grads[0].device()).sqrt();
    }
    let squares: Vec<Tensor<1>> = grads.iter().map(|g| ops::sum_of_squares(g.clone())).collect();
    Tensor::cat(squares, 0).sum().sqrt()
}

/// Scales the gradients so that their 2-norm is at most `max_norm` (PyTorch's `clip_grad_norm_`).
///
/// `norm` is the [`global_norm`] of the gradients.
pub fn clip_by_global_norm(
    grads: Vec<Tensor<1>>,
    norm: &Tensor<1>,
    max_norm: f64,
) -> Vec<Tensor<1>> {
    let scale = ((norm.clone() + 1e-6).recip() * max_norm).clamp_max(1.0);
    grads.into_iter().map(|g| g * scale.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::{clip_by_global_norm, global_norm};
    use burn::tensor::{Device, Tensor};

    #[test]
    fn the_norm_is_over_all_tensors_together() {
        let device = Device::flex();
        let grads = vec![Tensor::from_data([3.0], &device), Tensor::from_data([0.0, 4.0], &device)];
        let norm = global_norm(&grads);
        assert!((norm.clone().into_scalar::<f32>() - 5.0).abs() < 1e-6);
        let clipped = clip_by_global_norm(grads.clone(), &norm, 1.0);
        assert!((global_norm(&clipped).into_scalar::<f32>() - 1.0).abs() < 1e-6);
        let same = clip_by_global_norm(grads, &norm, 9.0);
        assert!((global_norm(&same).into_scalar::<f32>() - 5.0).abs() < 1e-6);
    }
}
