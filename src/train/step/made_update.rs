//! One update of the model, with loss scaling in fp16.

use super::loss_scale::{LossScale, ScaleChange};
use super::rows::MadeUpdate;
use super::state::TrainingState;
use crate::infer::host;
use crate::model::PartialGrads;
use crate::optim;
use crate::train::error::TrainError;
use burn::module::Module;
use burn::tensor::Tensor;

impl<M: Module> TrainingState<M> {
    /// Updates the model. Returns loss and gradient norm, and the change of the fp16 loss scale.
    ///
    /// If `skips_nan` is true, an update with a NaN or infinite loss or gradient is skipped. In fp16, an update whose
    /// scaled gradient overflows is always skipped, and `before` (the model before the backward pass) is restored.
    pub(super) fn make_update(
        &mut self,
        (before, skips_nan): (Option<&M>, bool),
        (loss, grads): (Tensor<1>, PartialGrads),
        lr: f64,
        clip_grad: Option<f64>,
    ) -> Result<(MadeUpdate, ScaleChange), TrainError> {
        let (mut loss, mut grads, mut change) = (loss, grads, ScaleChange::Kept);
        if let Some(scale) = &mut self.loss_scale {
            (loss, grads) = scale.unscaled(loss, grads);
            let norm =
                optim::global_norm(&grads.iter().map(|(_, grad)| grad.clone()).collect::<Vec<_>>());
            let overflow = overflows(*scale, &loss, &norm)?;
            change = scale.after_update(overflow);
            if overflow {
                if let Some(before) = before {
                    self.model = before.clone();
                }
                return Ok((MadeUpdate { loss, norm, overflow }, change));
            }
        }
        let norm = match before.filter(|_| skips_nan) {
            Some(before) => self.update_if_finite(before, &loss, grads, lr, clip_grad),
            None => self.update(grads, lr, clip_grad),
        };
        Ok((MadeUpdate { loss, norm, overflow: false }, change))
    }
}

/// Returns whether the gradient overflowed, and a smaller loss scale may help. Waits for the device.
///
/// A NaN or infinite loss does not count as an overflow. `on_nan` decides what happens then.
fn overflows(scale: LossScale, loss: &Tensor<1>, norm: &Tensor<1>) -> Result<bool, TrainError> {
    let read = host(&Tensor::cat(vec![loss.clone(), norm.clone()], 0), &[2])?.values;
    Ok(read[0].is_finite() && !read[1].is_finite() && scale.can_shrink())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{self, ProbeHead};
    use crate::optim::{Optimizer, Rule, probe_group};
    use crate::shape::Precision;
    use burn::tensor::Device;

    fn start() -> TrainingState<ProbeHead> {
        let head = ProbeHead::zeros(3, 2, Precision::Fp32, &Device::flex());
        let head = model::init_probe_head(head, 1);
        let trained = model::named(&head).into_iter().filter(|param| param.trained);
        let (names, groups): (Vec<_>, Vec<_>) =
            trained.map(|param| (param.name, probe_group(&param.shape, 0.0))).unzip();
        let rule = Rule::AdamW { beta_1: 0.9, beta_2: 0.95 };
        TrainingState::start(head, Optimizer::new(rule, names, groups)).scaled(Precision::Fp16)
    }

    fn values(state: &TrainingState<ProbeHead>) -> Vec<Vec<f32>> {
        let params = model::named(&state.model).into_iter();
        params.map(|param| param.values.into_data().try_to_vec().unwrap()).collect()
    }

    /// Makes an update with this scaled loss and this scaled gradient.
    fn update(state: &mut TrainingState<ProbeHead>, loss: f32, grad: f32) -> (bool, ScaleChange) {
        let device = Device::flex();
        let grads = vec![
            (0, Tensor::from_data([grad; 6], &device)),
            (1, Tensor::from_data([grad; 2], &device)),
        ];
        let before = state.model.clone();
        let loss = Tensor::from_data([loss], &device);
        let (made, change) =
            state.make_update((Some(&before), false), (loss, grads), 0.1, None).unwrap();
        (made.overflow, change)
    }

    #[test]
    fn an_overflow_skips_the_update_and_halves_the_scale() {
        let mut state = start();
        let before = values(&state);
        for bad in [f32::INFINITY, f32::NAN] {
            assert_eq!(update(&mut state, 65_536.0, bad), (true, ScaleChange::Halved));
        }
        assert_eq!(values(&state), before);
        assert_eq!(state.optimizer.state().1, 0, "the optimizer has made no update");
        let expected = LossScale { factor: 16_384.0, good_updates: 0 };
        assert_eq!(state.loss_scale, Some(expected));
        assert_eq!(update(&mut state, 16_384.0, 1e4), (false, ScaleChange::Kept));
        assert_ne!(values(&state), before);
        assert_eq!(state.loss_scale.unwrap().good_updates, 1);
    }

    #[test]
    fn an_infinite_loss_or_gradient_is_no_overflow_forever() {
        let mut state = start();
        assert!(!update(&mut state, f32::INFINITY, f32::INFINITY).0, "the loss itself");
        let mut state = start();
        for _ in 0..16 {
            assert!(update(&mut state, 1.0, f32::NAN).0);
        }
        assert!(!update(&mut state, 1.0, f32::NAN).0, "no scale helps");
    }
}
