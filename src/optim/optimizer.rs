//! The optimizer of a stage.

use super::groups::ParamGroup;
use super::lars;
use burn::optim::{AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, Optimizer as _};
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

#[derive(Clone)]
enum ParamState {
    AdamW(Box<AdamWState<1>>),
    Lars(Box<Tensor<1>>),
}

/// Updates the trained parameters of a module, by their index. Clones share the memory of their states.
#[derive(Clone)]
pub struct Optimizer {
    rule: Rule,
    names: Vec<String>,
    groups: Vec<ParamGroup>,
    states: Vec<Option<ParamState>>,
}

impl Optimizer {
    /// Returns an optimizer without state. `names` and `groups` are in the order of the trained parameters.
    pub fn new(rule: Rule, names: Vec<String>, groups: Vec<ParamGroup>) -> Self {
        assert_eq!(names.len(), groups.len(), "one group for each trained parameter");
        let states = names.iter().map(|_| None).collect();
        Self { rule, names, groups, states }
    }

    /// Returns the new values of trained parameter `index` after one update with the learning rate `lr`.
    pub fn step(&mut self, index: usize, param: Tensor<1>, grad: Tensor<1>, lr: f64) -> Tensor<1> {
        let group = self.groups[index];
        let lr = lr * group.lr_scale;
        let state = self.states[index].take();
        let (param, state) = match (self.rule, state) {
            (Rule::AdamW { beta_1, beta_2 }, state) => {
                let state = match state {
                    Some(ParamState::AdamW(state)) => Some(*state),
                    _ => None,
                };
                let rule = adamw(beta_1, beta_2, group.weight_decay);
                let (param, state) = rule.step(lr, param, grad, state);
                (param, state.map(|state| ParamState::AdamW(Box::new(state))))
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

    /// Returns the state and the number of updates so far.
    ///
    /// The tensors have PyTorch's names: `exp_avg`, `exp_avg_sq` or `momentum_buffer`, then the parameter's name.
    pub fn state(&self) -> (Vec<(String, Tensor<1>)>, usize) {
        let mut tensors = Vec::new();
        let mut updates = 0;
        for (name, state) in self.names.iter().zip(&self.states) {
            match state {
                None => {}
                Some(ParamState::AdamW(state)) => {
                    updates = state.momentum.time;
                    tensors.push((format!("exp_avg.{name}"), state.momentum.moment_1.clone()));
                    tensors.push((format!("exp_avg_sq.{name}"), state.momentum.moment_2.clone()));
                }
                Some(ParamState::Lars(velocity)) => {
                    updates = updates.max(1);
                    tensors.push((format!("momentum_buffer.{name}"), (**velocity).clone()));
                }
            }
        }
        (tensors, updates)
    }

    /// Loads a state from [`Optimizer::state`]. Fails if the state of a trained parameter is missing.
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
                    let (first, second) = (take("exp_avg")?, take("exp_avg_sq")?);
                    let moments = AdaptiveMomentumState::new(updates, first, second);
                    ParamState::AdamW(Box::new(AdamWState::new(moments)))
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

fn adamw(beta_1: f32, beta_2: f32, weight_decay: f64) -> AdamW {
    AdamWConfig::new()
        .with_beta_1(beta_1)
        .with_beta_2(beta_2)
        .with_epsilon(1e-8)
        .with_weight_decay(weight_decay as f32)
        .build()
}
