//! The optimizer of a stage.

use super::groups::ParamGroup;
use super::lars;
use crate::ops::{self, AdamWStep};
use burn::tensor::Tensor;
use std::collections::BTreeMap;

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

/// The error of an optimizer state that does not fit the trained parameters.
#[derive(Debug, thiserror::Error)]
#[error("the optimizer state of `{name}` is {problem}")]
pub struct StateError {
    pub name: String,
    pub problem: &'static str,
}

enum ParamState {
    AdamW(Box<AdamWState>),
    Lars(Box<Tensor<1>>),
}

/// The AdamW state of one parameter: the running means of its gradient and of its squared gradient.
struct AdamWState {
    /// Number of updates of this parameter so far.
    time: usize,
    moments: [Tensor<1>; 2],
}

/// Updates the trained parameters of a module. Parameters are identified by their index in the list of names.
pub struct Optimizer {
    rule: Rule,
    names: Vec<String>,
    groups: Vec<ParamGroup>,
    states: Vec<Option<ParamState>>,
}

impl Optimizer {
    /// Returns an optimizer without state. `names` and `groups` list the trained parameters in the same order.
    pub fn new(rule: Rule, names: Vec<String>, groups: Vec<ParamGroup>) -> Self {
        assert_eq!(names.len(), groups.len(), "one group for each trained parameter");
        let states = names.iter().map(|_| None).collect();
        Self { rule, names, groups, states }
    }

    /// Returns the new values of the trained parameter with this `index`, after one update with the learning rate `lr`.
    pub fn step(&mut self, index: usize, param: Tensor<1>, grad: Tensor<1>, lr: f64) -> Tensor<1> {
        let group = self.groups[index];
        let lr = lr * group.lr_scale;
        let state = self.states[index].take();
        let (param, state) = match (self.rule, state) {
            (Rule::AdamW { beta_1, beta_2 }, state) => {
                let state = match state {
                    Some(ParamState::AdamW(state)) => *state,
                    _ => AdamWState { time: 0, moments: [0, 1].map(|_| grad.zeros_like()) },
                };
                let time = state.time + 1;
                let weight_decay = group.weight_decay;
                let step = AdamWStep { beta_1, beta_2, epsilon: 1e-8, weight_decay, lr, time };
                let [param, m, v] = ops::adamw(param, grad, state.moments, step);
                (param, Some(ParamState::AdamW(Box::new(AdamWState { time, moments: [m, v] }))))
            }
            (Rule::Lars { momentum }, state) => {
                let state = match state {
                    Some(ParamState::Lars(velocity)) => Some(*velocity),
                    _ => None,
                };
                let (param, velocity) = lars::step(lr, momentum, group, param, grad, state);
                (param, Some(ParamState::Lars(Box::new(velocity))))
            }
        };
        self.states[index] = state;
        param
    }

    /// Returns the optimizer state and the number of updates so far.
    ///
    /// Each tensor name consists of PyTorch's name (`exp_avg`, `exp_avg_sq` or `momentum_buffer`) and the parameter's name.
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
        (tensors, updates)
    }

    /// Loads tensors and the number of updates from [`Optimizer::state`]. Fails if the state of a trained parameter is
    /// missing.
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
                Err(StateError { name, problem: "unknown: no trained parameter has this name" })
            }
        }
    }
}
