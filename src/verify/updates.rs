//! Cases `pretrain_steps` and `finetune_steps`: learning rates, losses, gradients, parameter groups, updated
//! parameters.

use super::case::{Case, VerifyError};
use super::forward;
use super::networks::{self, scalar, vector};
use super::report::TensorComparison;
use super::tolerances::Tolerances;
use crate::model::{self, Mae, Vit};
use crate::optim::{self, LrSchedule, Optimizer, Rule};
use crate::shape::{self, Precision};
use crate::train;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use std::collections::BTreeMap;
use std::ops::Range;

#[derive(Default)]
struct UpdateSteps {
    lrs: Vec<f64>,
    losses: Vec<f64>,
    norms: Vec<f64>,
}

pub(super) fn pretrain(
    case: &Case,
    device: &Device,
    tolerances: &Tolerances,
    out: &mut TensorComparison,
) -> Result<(), VerifyError> {
    let encoder = networks::encoder(case, tolerances.precision)?;
    let zeros = Mae::zeros(&encoder, &networks::decoder(case)?, device);
    let mut mae = networks::weighted(case, zeros, networks::weights, tolerances, out)?;
    let decay = case.number("weight_decay")?;
    let mut optimizer = pretrain_optimizer(case, &mae)?;
    same_groups(case, "weight_decay_of", &mae, out, |name, shape| {
        optim::pretrain_group(name, shape, decay).weight_decay
    })?;
    let (accum_iter, per_epoch) = (case.count("accum_iter")?, case.count("micro_steps_per_epoch")?);
    if accum_iter == 0 || per_epoch == 0 {
        return Err(case.error("`accum_iter` and `micro_steps_per_epoch` must be at least 1"));
    }
    let (noise, [_, n, patches]) = (case.floats("noise")?, case.shape::<3>("noise")?);
    let snapshots = case.counts("snapshots")?;
    let expected = case.numbers("loss_per_micro_step")?;
    let (mut steps, mut updates, mut lr, mut lr_sum) = (UpdateSteps::default(), 0, 0.0, 0.0);
    let mut sum: Option<Vec<Tensor<1>>> = None;
    for i in 0..expected.len() {
        let in_epoch = i % per_epoch;
        if in_epoch == 0 {
            sum = None; // drop the incomplete group of the last epoch
        }
        if in_epoch.is_multiple_of(accum_iter) {
            lr = schedule(case)?.at((i / per_epoch) as f64 + in_epoch as f64 / per_epoch as f64);
        }
        steps.lrs.push(lr);
        let noise = noise.get(i * n * patches..(i + 1) * n * patches);
        let noise = noise
            .ok_or_else(|| case.error("`noise` has fewer steps than `loss_per_micro_step`"))?;
        let imgs = networks::images(case, &encoder, i, device)?;
        let masks = forward::masks(case, noise, imgs.dims()[0], encoder.num_patches())?;
        let replica = mae.clone().train();
        let loss = replica.forward(imgs, &masks, forward::loss(case)?).loss;
        steps.losses.push(scalar(loss.clone().inner()));
        let mut grads = (loss * (1.0 / accum_iter as f64)).backward();
        let grads = model::grads(&replica, &mut grads);
        let total = match sum.take() {
            None => grads,
            Some(old) => old.into_iter().zip(grads).map(|(a, b)| a + b).collect(),
        };
        if !(in_epoch + 1).is_multiple_of(accum_iter) {
            sum = Some(total);
            continue;
        }
        mae = step(mae, &mut optimizer, total, lr);
        updates += 1;
        lr_sum += lr;
        if snapshots.contains(&updates) {
            same_parameters(case, &mae, &format!("after_{updates}."), lr_sum, tolerances, out)?;
        }
    }
    lr_law(case, tolerances, out)?;
    out.relative("loss_per_micro_step", &steps.losses, &expected, tolerances.loss);
    let expected = case.numbers("lr_per_micro_step")?;
    out.relative("lr_per_micro_step", &steps.lrs, &expected, tolerances.schedule);
    out.absolute("updates", &[updates as f64], &[case.number("updates")?], 0.0);
    Ok(())
}

pub(super) fn finetune(
    case: &Case,
    device: &Device,
    tolerances: &Tolerances,
    out: &mut TensorComparison,
) -> Result<(), VerifyError> {
    let (encoder, classes) =
        (networks::encoder(case, tolerances.precision)?, case.count("num_classes")?);
    let zeros = Vit::zeros(&encoder, classes, case.flag("global_pool")?, device);
    let mut vit = networks::weighted(case, zeros, networks::weights, tolerances, out)?;
    let (layer_decay, decay) = (case.number("layer_decay")?, case.number("weight_decay")?);
    let group = |name: &str, shape: &[usize]| {
        optim::finetune_group(name, shape, encoder.depth, layer_decay, decay)
    };
    let mut optimizer = train::optimizer(&vit, adamw(case)?, group);
    same_groups(case, "weight_decay_of", &vit, out, |n, shape| group(n, shape).weight_decay)?;
    same_groups(case, "lr_scale_of", &vit, out, |n, shape| group(n, shape).lr_scale)?;
    same_groups(case, "layer_id_of", &vit, out, |n, _| optim::layer_id(n, encoder.depth) as f64)?;
    let (n, per_epoch) = (case.shape::<3>("logits")?[1], case.count("micro_steps_per_epoch")?);
    let (snapshots, expected) = (case.counts("snapshots")?, case.numbers("loss_per_step")?);
    let clip_grad = case.get("clip_grad").map(|_| case.number("clip_grad")).transpose()?;
    let (mut steps, mut logits, mut lr_sum) = (UpdateSteps::default(), Vec::new(), 0.0);
    for i in 0..expected.len() {
        let targets = targets(case, i, n, classes, device)?;
        let replica = vit.clone().train();
        let output = replica.forward(networks::images(case, &encoder, i, device)?);
        if output.dims() != [n, classes] {
            return Err(case.error("`logits`, `imgs` and `num_classes` must have matching sizes"));
        }
        logits.extend(vector(output.clone().inner()));
        let loss = model::soft_cross_entropy(output, targets);
        steps.losses.push(scalar(loss.clone().inner()));
        let mut grads = loss.backward();
        let mut grads = model::grads(&replica, &mut grads);
        if i == 0 {
            for (name, grad) in model::trainable_names(&vit).iter().zip(&grads) {
                let (name, got) = (format!("grads.{name}"), vector(grad.clone()));
                out.relative(&name, &got, &case.floats(&name)?, tolerances.gradient);
            }
        }
        let norm = optim::global_norm(&grads);
        steps.norms.push(scalar(norm.clone()));
        if let Some(max_norm) = clip_grad {
            grads = optim::clip_by_global_norm(grads, &norm, max_norm);
        }
        let lr = schedule(case)?.at(i as f64 / per_epoch as f64);
        steps.lrs.push(lr);
        vit = step(vit, &mut optimizer, grads, lr);
        lr_sum += lr;
        if snapshots.contains(&(i + 1)) {
            same_parameters(case, &vit, &format!("after_{}.", i + 1), lr_sum, tolerances, out)?;
        }
    }
    out.relative("logits", &logits, &case.floats("logits")?, tolerances.forward);
    out.relative("loss_per_step", &steps.losses, &expected, tolerances.loss);
    let norms = case.numbers("grad_norm_per_step")?;
    out.relative("grad_norm_per_step", &steps.norms, &norms, tolerances.gradient);
    let lrs = case.numbers("lr_per_step")?;
    out.relative("lr_per_step", &steps.lrs, &lrs, tolerances.schedule);
    Ok(())
}

/// Returns the target probabilities of step `i`, `[N, C]`.
fn targets(
    case: &Case,
    i: usize,
    n: usize,
    classes: usize,
    device: &Device,
) -> Result<Tensor<2>, VerifyError> {
    let short = || case.error("`labels` or `soft_targets` have fewer steps than `loss_per_step`");
    let kind = case.text("targets")?;
    // Read both tensors, although only one of them is used: an unused tensor is an error.
    let (labels, soft) = (case.labels("labels", classes)?, case.floats("soft_targets")?);
    let values = if kind == "soft" {
        soft.get(i * n * classes..(i + 1) * n * classes).ok_or_else(short)?.to_vec()
    } else {
        let smoothing = match kind.as_str() {
            "smooth" => case.number("smoothing")?,
            "plain" | "hard" => 0.0,
            other => return Err(case.error(format!("unknown `targets` {other:?}"))),
        };
        let labels = labels.get(i * n..(i + 1) * n).ok_or_else(short)?;
        shape::soft_targets(labels, classes, smoothing)
    };
    Ok(Tensor::from_data(TensorData::new(values, [n, classes]), device))
}

/// Returns an optimizer for pre-training, with the weight decay of the case.
pub(super) fn pretrain_optimizer(case: &Case, mae: &Mae) -> Result<Optimizer, VerifyError> {
    let decay = case.number("weight_decay")?;
    Ok(train::optimizer(mae, adamw(case)?, |name, shape| optim::pretrain_group(name, shape, decay)))
}

fn adamw(case: &Case) -> Result<Rule, VerifyError> {
    if case.get("eps").is_some() && (case.number("eps")? - 1e-8).abs() > 1e-15 {
        return Err(case.error("`eps` must be 1e-8, as in the official code"));
    }
    match case.numbers("betas")?[..] {
        [beta_1, beta_2] => Ok(Rule::AdamW { beta_1: beta_1 as f32, beta_2: beta_2 as f32 }),
        _ => Err(case.error("`betas` must be two numbers")),
    }
}

/// Compares the peak learning rate with the official formula for `blr`.
fn lr_law(
    case: &Case,
    tolerances: &Tolerances,
    out: &mut TensorComparison,
) -> Result<(), VerifyError> {
    if case.get("blr").is_none() {
        return Ok(());
    }
    let mut lr = case.number("blr")? / 256.0;
    for key in ["batch_size", "accum_iter", "world_size"] {
        if case.get(key).is_some() {
            lr *= case.number(key)?;
        }
    }
    out.relative("lr (from blr)", &[lr], &[case.number("lr")?], tolerances.schedule);
    Ok(())
}

pub(super) fn schedule(case: &Case) -> Result<LrSchedule, VerifyError> {
    Ok(LrSchedule {
        lr: case.number("lr")?,
        min_lr: case.number("min_lr")?,
        warmup_epochs: case.number("warmup_epochs")?,
        epochs: case.number("epochs")?,
    })
}

pub(super) fn step<M: Module>(
    module: M,
    optimizer: &mut Optimizer,
    grads: Vec<Tensor<1>>,
    lr: f64,
) -> M {
    let mut grads: Vec<Option<Tensor<1>>> = grads.into_iter().map(Some).collect();
    model::update(module, |i, param| {
        let grad = grads[i].take().expect("one gradient for each trained parameter");
        optimizer.step(i, param, grad, lr)
    })
}

/// Compares one optimizer setting of each trained parameter with the JSON object `table` of the case.
///
/// `value` returns this program's setting for a name and a shape. If one side lacks a parameter, the comparison fails.
fn same_groups<M: Module>(
    case: &Case,
    table: &str,
    module: &M,
    out: &mut TensorComparison,
    value: impl Fn(&str, &[usize]) -> f64,
) -> Result<(), VerifyError> {
    let mut expected: BTreeMap<String, f64> = case.by_name(table)?;
    let (mut got, mut there) = (Vec::new(), Vec::new());
    for param in model::named(module).into_iter().filter(|param| param.trained) {
        got.push(value(&param.name, &param.shape));
        there.push(expected.remove(&param.name).unwrap_or(f64::NAN));
    }
    there.extend(expected.values()); // parameters that we do not train make the lengths differ
    out.absolute(table, &got, &there, 1e-9);
    Ok(())
}

/// Compares the parameters of a module with the tensors of the case that start with `prefix`.
///
/// `lr_sum` is the sum of the learning rates of all updates so far.
pub(super) fn same_parameters<M: Module>(
    case: &Case,
    module: &M,
    prefix: &str,
    lr_sum: f64,
    tolerances: &Tolerances,
    out: &mut TensorComparison,
) -> Result<(), VerifyError> {
    for param in model::named(module) {
        let (name, got) = (format!("{prefix}{}", param.name), vector(param.values));
        let expected = case.floats(&name)?;
        let got_len = got.len();
        for (part, range) in parts(&name, got.len()) {
            // Softmax ignores key biases, so rounding noise moves a key bias by up to the learning rate. See
            // `Tolerances`.
            let free = if part == " (key)" { lr_sum } else { 0.0 };
            let (got, there) = (got.get(range.clone()), expected.get(range));
            let (got, there) = match (got, there) {
                (Some(a), Some(b)) if got_len == expected.len() => (a, b),
                _ => (&[][..], &expected[..]), // different lengths never pass
            };
            match tolerances.precision {
                Precision::Fp32 => {
                    let tolerance = tolerances.parameter + free;
                    out.absolute(format!("{name}{part}"), got, there, tolerance);
                }
                Precision::Bf16 | Precision::Fp16 => {
                    // One value may move in the wrong direction.
                    let one = 2.0 * lr_sum / there.len() as f64;
                    let tolerance = free + (tolerances.parameter * lr_sum).max(one);
                    let name = format!("{name}{part} (mean distance)");
                    out.absolute(name, &[mean_distance(got, there)], &[0.0], tolerance);
                }
            }
        }
    }
    Ok(())
}

/// Splits `qkv.bias` into query, key and value. Each part has a name suffix and an index range.
fn parts(name: &str, len: usize) -> Vec<(&'static str, Range<usize>)> {
    let third = len / 3;
    if !name.ends_with("qkv.bias") {
        return vec![("", 0..len)];
    }
    vec![(" (query)", 0..third), (" (key)", third..2 * third), (" (value)", 2 * third..len)]
}

/// Returns the mean absolute difference; NaN if the lengths differ.
fn mean_distance(got: &[f32], expected: &[f32]) -> f64 {
    if got.len() != expected.len() {
        return f64::NAN;
    }
    let distances = got.iter().zip(expected).map(|(a, b)| f64::from((a - b).abs()));
    distances.sum::<f64>() / got.len() as f64
}
