//! The optimizer of a stage.

use super::gate::{Gate, SkipCount};
use super::groups::ParamGroup;
use super::lars;
use crate::ops::{self, AdamWStep};
use burn::tensor::{Bool, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The optimization algorithm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// AdamW with an epsilon of 1e-8.
    AdamW {
        beta_1: f32,
        beta_2: f32,
    },
    Lars {
        momentum: f64,
    },
}

impl Rule {
    /// Returns AdamW with the betas `[beta_1, beta_2]`.
    pub fn adamw(betas: [f64; 2]) -> Self {
        Self::AdamW { beta_1: betas[0] as f32, beta_2: betas[1] as f32 }
    }
}

/// An optimizer state does not match the trained parameters.
#[derive(Debug, thiserror::Error)]
#[error("the optimizer state of `{name}` is {problem}")]
pub struct StateError {
    pub name: String,
    pub problem: &'static str,
}

#[derive(Clone)]
pub(super) enum ParamState {
    AdamW(Box<AdamWState>),
    Lars(Box<Tensor<1>>),
}

/// Running means of a parameter's gradient and squared gradient.
#[derive(Clone)]
pub(super) struct AdamWState {
    /// Number of updates of this parameter.
    pub time: usize,
    pub moments: [Tensor<1>; 2],
}

/// Updates the trained parameters of a module.
///
/// A parameter's index is its position in `names`. Clones share the memory of the optimizer state.
#[derive(Clone)]
pub struct Optimizer {
    rule: Rule,
    names: Arc<[String]>,
    groups: Arc<[ParamGroup]>,
    states: Vec<Option<ParamState>>,
    /// Updates skipped since the host last read the losses.
    skips: Option<SkipCount>,
}

/// Epsilon of AdamW.
pub(super) const EPSILON: f32 = 1e-8;

impl Optimizer {
    /// Creates an optimizer without state.
    ///
    /// `names` and `groups` list the trained parameters in the same order.
    pub fn new(rule: Rule, names: Vec<String>, groups: Vec<ParamGroup>) -> Self {
        assert_eq!(names.len(), groups.len(), "one group for each trained parameter");
        let states = names.iter().map(|_| None).collect();
        Self { rule, names: names.into(), groups: groups.into(), states, skips: None }
    }

    /// Returns the new values of all trained parameters after one update.
    ///
    /// With `gate`, the update may be skipped; then the values are the old ones.
    pub fn step_all(
        &mut self,
        params: Vec<Tensor<1>>,
        grads: Vec<Tensor<1>>,
        lr: f64,
        gate: Option<&Gate>,
    ) -> Vec<Tensor<1>> {
        let mut news = Vec::with_capacity(params.len());
        #[cfg(feature = "gpu")]
        let on_gpu = params.first().is_some_and(ops::is_gpu);
        let pairs = params.into_iter().zip(grads);
        #[cfg(feature = "gpu")]
        let mut pairs = pairs;
        #[cfg(feature = "gpu")]
        if let (Rule::AdamW { beta_1, beta_2 }, true) = (self.rule, on_gpu) {
            news = self.step_twelves([beta_1, beta_2], &mut pairs, lr, gate);
        }
        for (param, grad) in pairs {
            let index = news.len();
            news.push(match gate {
                Some(gate) => self.step_gated(index, param, grad, lr, gate),
                None => self.step(index, param, grad, lr),
            });
        }
        news
    }

    /// Returns the new values of parameter `index` after one update.
    pub fn step(&mut self, index: usize, param: Tensor<1>, grad: Tensor<1>, lr: f64) -> Tensor<1> {
        let group = self.groups[index];
        let lr = lr * group.lr_scale;
        let (param, state) = match self.rule {
            Rule::AdamW { beta_1, beta_2 } => {
                let AdamWState { time, moments } = self.take_moments(index, &grad);
                let (time, weight_decay) = (time + 1, group.weight_decay);
                let step = AdamWStep { beta_1, beta_2, epsilon: EPSILON, weight_decay, lr, time };
                let [param, m, v] = ops::adamw(param, grad, moments, step);
                (param, ParamState::AdamW(Box::new(AdamWState { time, moments: [m, v] })))
            }
            Rule::Lars { momentum } => {
                let old = self.take_velocity(index);
                let (param, velocity) = lars::step(lr, momentum, group, param, grad, old);
                (param, ParamState::Lars(Box::new(velocity)))
            }
        };
        self.states[index] = Some(state);
        param
    }

    /// Takes the AdamW state of a parameter out of the optimizer. Before the first update, the moments are zeros.
    pub(super) fn take_moments(&mut self, index: usize, grad: &Tensor<1>) -> AdamWState {
        match self.states[index].take() {
            Some(ParamState::AdamW(state)) => *state,
            _ => AdamWState { time: 0, moments: [0, 1].map(|_| grad.zeros_like()) },
        }
    }

    #[cfg(feature = "gpu")]
    pub(super) fn group(&self, index: usize) -> ParamGroup {
        self.groups[index]
    }

    #[cfg(feature = "gpu")]
    pub(super) fn put(&mut self, index: usize, state: ParamState) {
        self.states[index] = Some(state);
    }

    /// Takes the LARS momentum of a parameter out of the optimizer; `None` before the first update.
    fn take_velocity(&mut self, index: usize) -> Option<Tensor<1>> {
        match self.states[index].take() {
            Some(ParamState::Lars(velocity)) => Some(*velocity),
            _ => None,
        }
    }

    /// Starts an update that is skipped if `finite` (`[1]`) is false.
    ///
    /// After a few updates, the caller must call [`Optimizer::settle`] with the number of skipped updates.
    pub fn gate(&mut self, finite: Tensor<1, Bool>) -> Gate {
        let betas = match self.rule {
            Rule::AdamW { beta_1, beta_2 } => [beta_1, beta_2],
            Rule::Lars { .. } => [0.0; 2],
        };
        let updates = self.settled_updates();
        SkipCount::gate(&mut self.skips, finite, updates, betas)
    }

    /// Does the same as [`Optimizer::step`]. If `gate` skips the update, returns `param` unchanged.
    pub fn step_gated(
        &mut self,
        index: usize,
        param: Tensor<1>,
        grad: Tensor<1>,
        lr: f64,
        gate: &Gate,
    ) -> Tensor<1> {
        let group = self.groups[index];
        let lr = lr * group.lr_scale;
        let (new, state) = match self.rule {
            Rule::AdamW { beta_1, beta_2 } => {
                let AdamWState { time, moments } = self.take_moments(index, &grad);
                let (delta, moments) = gate.adamw([beta_1, beta_2], &grad, moments);
                let decayed = param.clone().mul_scalar(1.0 - lr * group.weight_decay);
                let state = ParamState::AdamW(Box::new(AdamWState { time, moments }));
                (decayed - delta.mul_scalar(lr), state)
            }
            Rule::Lars { momentum } => {
                let old = self.take_velocity(index);
                let (new, velocity) =
                    lars::step(lr, momentum, group, param.clone(), grad, old.clone());
                let old = old.unwrap_or_else(|| param.zeros_like());
                (new, ParamState::Lars(Box::new(gate.choose(velocity, old))))
            }
        };
        self.states[index] = Some(state);
        gate.choose(new, param)
    }

    /// Records that `skipped` updates were skipped since the last call.
    pub fn settle(&mut self, skipped: usize) {
        let Some(SkipCount { attempts, .. }) = self.skips.take() else { return };
        for state in self.states.iter_mut().flatten() {
            if let ParamState::AdamW(state) = state {
                state.time += attempts - skipped;
            }
        }
    }

    fn settled_updates(&self) -> usize {
        let first = self.states.iter().flatten().next();
        first.map_or(0, |state| match state {
            ParamState::AdamW(state) => state.time,
            ParamState::Lars(_) => 1,
        })
    }

    /// Returns the optimizer state as named tensors, and the number of updates.
    ///
    /// A tensor's name is, for example, `exp_avg.blocks.0.norm1.weight`. The prefixes are `exp_avg`, `exp_avg_sq` and
    /// `momentum_buffer`, as in PyTorch.
    pub fn state(&self) -> (Vec<(String, Tensor<1>)>, usize) {
        let mut tensors = Vec::new();
        let mut updates = 0;
        for (name, state) in self.names.iter().zip(&self.states) {
            match state {
                None => {}
                Some(ParamState::AdamW(state)) => {
                    let [m, v] = state.moments.clone();
                    updates = state.time;
                    tensors.push((format!("exp_avg.{name}"), m));
                    tensors.push((format!("exp_avg_sq.{name}"), v));
                }
                Some(ParamState::Lars(velocity)) => {
                    updates = updates.max(1);
                    tensors.push((format!("momentum_buffer.{name}"), (**velocity).clone()));
                }
            }
        }
        (tensors, updates + self.skips.as_ref().map_or(0, SkipCount::made))
    }

    /// Restores the result of [`Optimizer::state`].
    ///
    /// Fails if a trained parameter has no state.
    pub fn load(
        &mut self,
        mut tensors: BTreeMap<String, Tensor<1>>,
        updates: usize,
    ) -> Result<(), StateError> {
        if updates == 0 {
            return Ok(());
        }
        for (name, slot) in self.names.iter().zip(&mut self.states) {
            let mut take = |kind: &str| {
                tensors
                    .remove(&format!("{kind}.{name}"))
                    .ok_or_else(|| StateError { name: name.clone(), problem: "missing" })
            };
            *slot = Some(match self.rule {
                Rule::AdamW { .. } => {
                    let moments = [take("exp_avg")?, take("exp_avg_sq")?];
                    ParamState::AdamW(Box::new(AdamWState { time: updates, moments }))
                }
                Rule::Lars { .. } => ParamState::Lars(Box::new(take("momentum_buffer")?)),
            });
        }
        match tensors.into_keys().next() {
            None => Ok(()),
            Some(name) => {
                Err(StateError { name, problem: "unexpected: no trained parameter has this name" })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Optimizer, ParamGroup, Rule};
    use burn::tensor::{Device, Tensor};

    const RULES: [Rule; 2] =
        [Rule::AdamW { beta_1: 0.9, beta_2: 0.95 }, Rule::Lars { momentum: 0.9 }];

    fn optimizer(rule: Rule) -> Optimizer {
        let group = ParamGroup { lr_scale: 0.5, weight_decay: 0.05, matrix: true };
        Optimizer::new(rule, vec!["w".to_owned()], vec![group])
    }

    fn tensor(values: [f32; 3]) -> Tensor<1> {
        Tensor::from_data(values, &Device::flex())
    }

    fn grad(update: usize) -> Tensor<1> {
        tensor([0.3, -0.7, 1e-3]) * (update as f32).sin()
    }

    /// Returns the bits of the parameter and its optimizer state, and the number of updates.
    fn bits(param: &Tensor<1>, optimizer: &Optimizer) -> (Vec<u32>, usize) {
        let (state, updates) = optimizer.state();
        let tensors = state.into_iter().map(|(_, tensor)| tensor).chain([param.clone()]);
        let values = tensors.flat_map(|tensor| tensor.into_data().try_to_vec::<f32>().unwrap());
        (values.map(f32::to_bits).collect(), updates)
    }

    #[test]
    fn a_skipped_update_changes_nothing_and_the_others_have_the_bits_of_a_plain_update() {
        for rule in RULES {
            let (mut plain, mut gated) = (optimizer(rule), optimizer(rule));
            let mut expected = tensor([1.0, -2.0, 0.5]);
            let mut found = expected.clone();
            let mut skipped = 0;
            for update in 1..=40 {
                // The first update is one of the skipped updates.
                let is_skipped = update % 7 == 1 || update == 9;
                skipped += usize::from(is_skipped);
                let (grad, lr) = (grad(update), 1e-2 * update as f64);
                if !is_skipped {
                    expected = plain.step(0, expected, grad.clone(), lr);
                }
                let grad = if is_skipped { grad * f32::NAN } else { grad };
                let gate = gated.gate(grad.clone().sum().is_finite());
                found = gated.step_gated(0, found, grad, lr, &gate);
                if update % 11 == 0 {
                    gated.settle(std::mem::take(&mut skipped));
                }
                if update > 1 {
                    assert_eq!(bits(&found, &gated).0, bits(&expected, &plain).0, "{update}");
                }
            }
            if let Rule::AdamW { .. } = rule {
                assert_eq!(bits(&found, &gated).1, bits(&expected, &plain).1);
                gated.settle(skipped);
                assert_eq!(bits(&found, &gated).1, bits(&expected, &plain).1);
            }
        }
    }
}
