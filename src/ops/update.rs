//! The update steps of optimizers.

use super::cpu;
use super::dtype::is_cpu_fp32;
use burn::optim::{AdamWConfig, AdamWState, AdaptiveMomentumState, Optimizer};
use burn::tensor::Tensor;

/// Settings of an AdamW step, with decoupled weight decay.
#[derive(Debug, Clone, Copy)]
pub struct AdamWStep {
    pub beta_1: f32,
    pub beta_2: f32,
    pub epsilon: f32,
    pub weight_decay: f64,
    pub lr: f64,
    /// Number of this step, counted from 1.
    pub time: usize,
}

/// Returns the new values of a parameter, and its new moments, after an AdamW step.
pub fn adamw(
    param: Tensor<1>,
    grad: Tensor<1>,
    [m, v]: [Tensor<1>; 2],
    step: AdamWStep,
) -> [Tensor<1>; 3] {
    if is_cpu_fp32(&param) {
        return cpu::adamw(param, grad, [m, v], step);
    }
    composed(param, grad, [m, v], step)
}

/// Computes an AdamW step with Burn's optimizer.
fn composed(
    param: Tensor<1>,
    grad: Tensor<1>,
    [m, v]: [Tensor<1>; 2],
    step: AdamWStep,
) -> [Tensor<1>; 3] {
    let rule = AdamWConfig::new()
        .with_beta_1(step.beta_1)
        .with_beta_2(step.beta_2)
        .with_epsilon(step.epsilon)
        .with_weight_decay(step.weight_decay as f32)
        .build();
    let state = AdamWState::new(AdaptiveMomentumState::new(step.time - 1, m, v));
    let (param, state) = rule.step(step.lr, param, grad, Some(state));
    let AdamWState { momentum } = state.expect("AdamW has a state");
    [param, momentum.moment_1, momentum.moment_2]
}

/// Returns the sum of squares of `x`, `[1]`.
pub fn sum_of_squares(x: Tensor<1>) -> Tensor<1> {
    if is_cpu_fp32(&x) { cpu::sum_of_squares(x) } else { x.square().sum() }
}

#[cfg(test)]
mod tests {
    use super::{AdamWStep, adamw, composed, sum_of_squares};
    use burn::tensor::{Device, Tensor};

    fn tensor(count: usize, factor: usize) -> Tensor<1> {
        let values: Vec<f32> = (0..count).map(|i| (i * factor % 101) as f32 / 40.0).collect();
        Tensor::from_data(&values[..], &Device::flex())
    }

    #[test]
    fn adamw_matches_burns() {
        let (mut own, mut burns) = ([3, 5, 7].map(|f| tensor(100_000, f)), None);
        for time in 1..4 {
            let step = AdamWStep {
                beta_1: 0.9,
                beta_2: 0.95,
                epsilon: 1e-8,
                weight_decay: 0.05,
                lr: 1e-2,
                time,
            };
            let grad = tensor(100_000, 11 * time) - 1.0;
            let [param, m, v] = burns.unwrap_or_else(|| own.clone());
            burns = Some(composed(param, grad.clone(), [m, v], step));
            let [param, m, v] = own;
            own = adamw(param, grad, [m, v], step);
        }
        for (own, burns) in own.into_iter().zip(burns.unwrap()) {
            let off: f32 = (own - burns).abs().max().into_scalar();
            assert!(off < 1e-6, "{off}");
        }
    }

    #[test]
    fn squares_are_summed_over_blocks() {
        let x = tensor(200_000, 7);
        let (own, burns): (f32, f32) =
            (sum_of_squares(x.clone()).into_scalar(), x.square().sum().into_scalar());
        assert!((own / burns - 1.0).abs() < 1e-5, "{own}, {burns}");
    }
}
