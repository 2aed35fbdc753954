//! AdamW on GPUs: twelve parameters in one launch.

use super::gate::Gate;
use super::optimizer::{AdamWState, EPSILON, Optimizer, ParamState};
use crate::ops::{self, AdamWSettings};
use burn::tensor::Tensor;

impl Optimizer {
    /// Updates parameters in groups of twelve. Returns their new values, in order.
    ///
    /// `pairs` are the parameters with their gradients. Up to eleven pairs remain. The memory of a group's gradients is
    /// free before the next group.
    pub(super) fn step_twelves(
        &mut self,
        [beta_1, beta_2]: [f32; 2],
        pairs: &mut impl ExactSizeIterator<Item = (Tensor<1>, Tensor<1>)>,
        lr: f64,
        gate: Option<&Gate>,
    ) -> Vec<Tensor<1>> {
        let mut control = gate.map(Gate::control);
        let mut news = Vec::new();
        while pairs.len() >= 12 {
            let start = news.len();
            let group: [_; 12] = std::array::from_fn(|_| pairs.next().expect("twelve pairs"));
            let params = group.each_ref().map(|(param, _)| param.clone());
            let grads = group.map(|(_, grad)| grad);
            let states: [AdamWState; 12] =
                std::array::from_fn(|i| self.take_moments(start + i, &grads[i]));
            // A skipped update must not count. Without a gate, every update counts.
            let time = states[0].time + usize::from(gate.is_none());
            let control = control.get_or_insert_with(|| {
                let correction = |beta: f32| 1.0 - beta.powi(time as i32);
                let values = [correction(beta_1), correction(beta_2), 0.0];
                Tensor::from_data(values, &grads[0].device())
            });
            let groups: [_; 12] = std::array::from_fn(|i| self.group(start + i));
            let rates = groups.map(|group| lr * group.lr_scale);
            let decay = std::array::from_fn(|i| (1.0 - rates[i] * groups[i].weight_decay) as f32);
            let settings = AdamWSettings {
                beta_1,
                beta_2,
                epsilon: EPSILON,
                lr: rates.map(|lr| lr as f32),
                decay,
            };
            let moments = [0, 1].map(|k| states.each_ref().map(|state| state.moments[k].clone()));
            drop(states);
            let [params, first, second] =
                ops::adamw_of_twelve(params, grads, moments, control.clone(), settings);
            for (i, moments) in first.into_iter().zip(second).enumerate() {
                let state = AdamWState { time, moments: moments.into() };
                self.put(start + i, ParamState::AdamW(Box::new(state)));
            }
            news.extend(params);
        }
        news
    }
}
