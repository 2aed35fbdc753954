//! The exponential moving average (EMA) of a model's weights.

use crate::model;
use crate::optim::Gate;
use burn::module::Module;
use burn::tensor::Tensor;

/// Exponential moving average (EMA) of the trained weights. Clones share the memory of the tensors.
#[derive(Clone)]
pub(crate) struct Average<M> {
    pub model: M,
    decay: f64,
}

impl<M: Module> Average<M> {
    /// Starts the average with the weights of `model`.
    ///
    /// `decay` is the weight of the old average in each step, as in timm.
    pub(super) fn new(model: &M, decay: f64) -> Self {
        Self { model: model.clone(), decay }
    }

    /// Adds the weights of `model` to the average. Does nothing if `gate` has skipped the update.
    ///
    /// Computes `average + (1 - decay) * (weight - average)`. With `decay * average + (1 - decay) * weight`, the
    /// average would drift: in float32, the two factors do not add up to 1.
    pub(super) fn add(&mut self, model: &M, gate: Option<&Gate>) {
        let weights = model::named(model).into_iter().filter(|param| param.trained);
        let mut weights = weights.map(|param| param.values);
        let share = 1.0 - self.decay;
        self.model = model::update(self.model.clone(), |_, old: Tensor<1>| {
            let weight = weights.next().expect("the same network");
            let new = old.clone() + (weight - old.clone()).mul_scalar(share);
            match gate {
                Some(gate) => gate.choose(new, old),
                None => new,
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::Average;
    use crate::model::{self, ProbeHead};
    use crate::optim::{Optimizer, Rule, probe_group};
    use crate::shape::Precision;
    use crate::train::step::TrainingState;
    use burn::tensor::{Device, Tensor};

    const DECAY: f64 = 0.99;

    fn weights(head: &ProbeHead) -> Vec<f32> {
        let trained = model::named(head).into_iter().filter(|param| param.trained);
        trained.flat_map(|p| p.values.into_data().try_to_vec::<f32>().unwrap()).collect()
    }

    /// Returns the first state of a linear probe with EMA.
    fn start() -> TrainingState<ProbeHead> {
        let head = ProbeHead::zeros(3, 2, Precision::Fp32, &Device::flex());
        let head = model::init_probe_head(head, 1);
        let trained = model::named(&head).into_iter().filter(|param| param.trained);
        let (names, groups): (Vec<_>, Vec<_>) =
            trained.map(|param| (param.name, probe_group(&param.shape, 0.05))).unzip();
        let rule = Rule::AdamW { beta_1: 0.9, beta_2: 0.95 };
        TrainingState::start(head, Optimizer::new(rule, names, groups)).averaged(Some(DECAY))
    }

    fn grads(update: usize) -> Vec<(usize, Tensor<1>)> {
        let grad = |len: usize| {
            let values: Vec<f32> = (0..len).map(|i| ((update * 31 + i * 7) as f32).sin()).collect();
            Tensor::<1>::from_floats(values.as_slice(), &Device::flex())
        };
        vec![(0, grad(6)), (1, grad(2))]
    }

    #[test]
    fn averages_of_50_updates_equal_a_computation_in_float64() {
        let mut state = start();
        let mut expected: Vec<f64> = weights(&state.model).into_iter().map(f64::from).collect();
        for update in 0..50 {
            state.update(grads(update), 0.1, None);
            for (average, weight) in expected.iter_mut().zip(weights(&state.model)) {
                *average = DECAY * *average + (1.0 - DECAY) * f64::from(weight);
            }
        }
        assert_ne!(weights(state.result()), weights(&state.model));
        for (found, expected) in weights(state.result()).into_iter().zip(expected) {
            assert!((f64::from(found) - expected).abs() < 1e-6, "{found}, expected {expected}");
        }
    }

    #[test]
    fn a_skipped_update_does_not_change_the_average() {
        let (mut plain, mut skipping) = (start(), start());
        for update in 0..6 {
            let is_bad = update % 2 == 1;
            let loss = Tensor::from_floats([if is_bad { f32::NAN } else { 0.5 }], &Device::flex());
            let before = skipping.model.clone();
            skipping.update_if_finite(&before, &loss, grads(update), 0.1, None);
            if !is_bad {
                plain.update(grads(update), 0.1, None);
            }
        }
        assert_eq!(weights(skipping.result()), weights(plain.result()));
    }

    #[test]
    fn an_average_of_equal_weights_does_not_drift() {
        let head = start().model;
        let mut average = Average::new(&head, 0.9999);
        for _ in 0..100 {
            average.add(&head, None);
        }
        assert_eq!(weights(&average.model), weights(&head));
    }
}
