//! Reads the AdamW state in checkpoints of other programs and assigns it to the official parameter names.
//!
//! PyTorch identifies parameters by number. Parameters without weight decay have the first numbers. All other
//! parameters follow. Both groups have the order of the model. Paddle uses its internal parameter names. Instead of the
//! number of updates, Paddle stores powers of the betas.
//!
//! The modules `optimizer` and `pickled` use each other: `pickled` finds the state in the file, and `optimizer` calls
//! functions of `pickled`.

use super::HostTensor;
use super::fit::is_pos_embed;
use super::pickle::Value;
use super::pickled::{Weight, take, tensor, transpose};
use crate::shape::{PRETRAIN_BETAS, has_no_decay};
use std::collections::BTreeMap;

/// AdamW's moments of all trained parameters of a pre-training.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimizerState {
    /// Number of optimizer updates.
    pub updates: usize,
    /// `[exp_avg, exp_avg_sq]` of each parameter. The key is the official parameter name.
    pub moments: BTreeMap<String, [HostTensor; 2]>,
}

/// The assumed number of updates if Paddle's power of `beta_2` has underflowed to 0.
const MANY: usize = 1_000_000;
const BETA_1: f64 = PRETRAIN_BETAS[0];
const BETA_2: f64 = PRETRAIN_BETAS[1];
const EPSILON: f64 = 1e-8;

pub(super) fn from_dict(
    mut state: Vec<(Value, Value)>,
    weights: &[Weight],
    transposed: bool,
) -> Result<OptimizerState, String> {
    let state = match (take(&mut state, "state"), take(&mut state, "param_groups")) {
        (Some(Value::Dict(states)), Some(Value::List(groups))) => torch(states, &groups, weights),
        _ => paddle(state, weights, transposed),
    }?;
    for (name, [first, second]) in &state.moments {
        let right = |v: &f32, least: f32| v.is_finite() && *v >= least;
        if !first.values.iter().all(|v| right(v, f32::MIN))
            || !second.values.iter().all(|v| right(v, 0.0))
        {
            return Err(format!(
                "the optimizer state of `{name}` has invalid values (NaN, infinity, or a negative `exp_avg_sq`)"
            ));
        }
    }
    Ok(state)
}

/// Returns the trained weights: all weights except position embeddings.
fn trained(weights: &[Weight]) -> impl Iterator<Item = &Weight> {
    weights.iter().filter(|weight| !is_pos_embed(&weight.name))
}

fn torch(
    states: Vec<(Value, Value)>,
    groups: &[Value],
    weights: &[Weight],
) -> Result<OptimizerState, String> {
    let ids = group_ids(groups)?;
    official_rule(groups)?;
    let no_decay = |w: &&Weight| has_no_decay(&w.name, &w.shape);
    let order: Vec<&Weight> = match groups.len() {
        1 => trained(weights).collect(),
        _ => trained(weights)
            .filter(no_decay)
            .chain(trained(weights).filter(|w| !no_decay(w)))
            .collect(),
    };
    if ids.len() != order.len() {
        return Err(format!(
            "the optimizer state has {} parameters, but the pre-training of this model needs {}",
            ids.len(),
            order.len()
        ));
    }
    let mut states: BTreeMap<i64, Value> = states
        .into_iter()
        .filter_map(|(id, state)| if let Value::Int(id) = id { Some((id, state)) } else { None })
        .collect();
    let (mut moments, mut updates) = (BTreeMap::new(), None);
    for (id, weight) in ids.iter().zip(order) {
        let missing =
            || format!("the optimizer state of `{}` is missing or incomplete", weight.name);
        let Some(Value::Dict(mut state)) = states.remove(id) else { return Err(missing()) };
        let step = take(&mut state, "step").and_then(step_count).ok_or_else(missing)?;
        if *updates.get_or_insert(step) != step {
            return Err(
                "the optimizer state has different step counts for different parameters".to_owned()
            );
        }
        let mut moment = |key: &str| {
            let (_, tensor) = take(&mut state, key).and_then(tensor).ok_or_else(missing)?;
            same_shape(tensor, weight)
        };
        moments.insert(weight.name.clone(), [moment("exp_avg")?, moment("exp_avg_sq")?]);
    }
    Ok(OptimizerState { updates: updates.unwrap_or(0), moments })
}

/// Fails if the AdamW settings differ from those of the official pre-training.
fn official_rule(groups: &[Value]) -> Result<(), String> {
    for group in groups {
        let Value::Dict(group) = group else { continue };
        for (key, value) in group {
            let Value::Text(key) = key else { continue };
            let other = match (key.as_str(), value) {
                ("betas", Value::List(betas)) => {
                    !matches!(betas[..], [Value::Float(a), Value::Float(b)] if a == BETA_1 && b == BETA_2)
                }
                ("eps", Value::Float(eps)) => *eps != EPSILON,
                ("amsgrad" | "maximize", Value::Bool(on)) => *on,
                _ => false,
            };
            if other {
                return Err(format!(
                    "the optimizer setting `{key}` differs from pre-training in mae. mae uses betas ({BETA_1}, {BETA_2}) and eps {EPSILON:e}, without amsgrad or maximize"
                ));
            }
        }
    }
    Ok(())
}

/// Returns the parameter numbers of all parameter groups, in order.
fn group_ids(groups: &[Value]) -> Result<Vec<i64>, String> {
    let mut ids = Vec::new();
    for group in groups {
        let Value::Dict(group) = group else {
            return Err("a parameter group of the optimizer is not a dict".to_owned());
        };
        let params = group.iter().find(|(k, _)| matches!(k, Value::Text(text) if text == "params"));
        let Some((_, Value::List(params))) = params else {
            return Err("a parameter group of the optimizer has no list `params`".to_owned());
        };
        for id in params {
            let Value::Int(id) = id else {
                return Err("a parameter index in the optimizer state is not an integer".to_owned());
            };
            ids.push(*id);
        }
    }
    Ok(ids)
}

/// Returns the number of updates. `value` is a number or a tensor with one element.
fn step_count(value: Value) -> Option<usize> {
    match value {
        Value::Int(step) => usize::try_from(step).ok(),
        Value::Float(step) => whole(step),
        Value::Tensor(tensor) => match tensor.values[..] {
            [step] => whole(f64::from(step)),
            _ => None,
        },
        _ => None,
    }
}

fn whole(step: f64) -> Option<usize> {
    ((0.0..1e15).contains(&step) && step.fract() == 0.0).then_some(step as usize)
}

fn same_shape(tensor: HostTensor, weight: &Weight) -> Result<HostTensor, String> {
    if tensor.shape == weight.shape {
        return Ok(tensor);
    }
    Err(format!(
        "the optimizer state of `{}` has the shape {:?}, but the parameter has the shape {:?}",
        weight.name, tensor.shape, weight.shape
    ))
}

fn paddle(
    state: Vec<(Value, Value)>,
    weights: &[Weight],
    transposed: bool,
) -> Result<OptimizerState, String> {
    let mut tensors: BTreeMap<String, HostTensor> = state
        .into_iter()
        .filter_map(|(key, value)| match key {
            Value::Text(key) => Some((key, tensor(value)?.1)),
            _ => None,
        })
        .collect();
    let (mut moments, mut updates) = (BTreeMap::new(), None);
    for weight in trained(weights) {
        let mut take = |suffix: &str| {
            let internal = weight.internal.as_ref()?;
            tensors.remove(&format!("{internal}_{suffix}"))
        };
        let missing = || format!("the optimizer state of `{}` is missing", weight.name);
        let power = take("beta2_pow_acc_0").ok_or_else(missing)?;
        let made = power.values.first().map_or(0, |power| updates_of(f64::from(*power)));
        if *updates.get_or_insert(made) != made {
            return Err(
                "the optimizer state has different step counts for different parameters".to_owned()
            );
        }
        let mut moment = |suffix: &str| {
            let mut tensor = same_shape(take(suffix).ok_or_else(missing)?, weight)?;
            if transposed {
                transpose(&mut tensor);
            }
            Ok::<_, String>(tensor)
        };
        moments.insert(weight.name.clone(), [moment("moment1_0")?, moment("moment2_0")?]);
    }
    Ok(OptimizerState { updates: updates.unwrap_or(0), moments })
}

/// Returns the number of updates `n`. `power` is `beta_2` to the power of `n + 1`, as Paddle stores it.
fn updates_of(power: f64) -> usize {
    if power <= 0.0 {
        return MANY;
    }
    (power.ln() / BETA_2.ln()).round().max(1.0) as usize - 1
}
