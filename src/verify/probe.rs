//! Case `linprobe_steps`: steps of linear probing (`BatchNorm`, head, LARS), then an evaluation.

use super::case::{Case, VerifyError};
use super::networks::{self, scalar, vector};
use super::report::TensorComparison;
use super::tolerances::Tolerances;
use super::updates::{schedule, step};
use crate::model::{self, ProbeHead, Vit, official_probe_name};
use crate::optim::{self, Rule};
use crate::shape::{self, Precision};
use crate::train;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

pub(super) fn run(
    case: &Case,
    device: &Device,
    tolerances: &Tolerances,
    out: &mut TensorComparison,
) -> Result<(), VerifyError> {
    let (encoder, classes) =
        (networks::encoder(case, tolerances.precision)?, case.count("num_classes")?);
    let zeros = Vit::zeros(&encoder, classes, case.flag("global_pool")?, device);
    let own_head = |name: &str| name.starts_with("head."); // replaced by the head of the probe
    let name_of = |name: &str| networks::weights(name).filter(|_| !own_head(name));
    let vit = networks::weighted(case, zeros, name_of, tolerances, out)?;
    let zeros = ProbeHead::zeros(encoder.embed_dim, classes, encoder.precision, device);
    let name_of = |name: &str| networks::weights(official_probe_name(name));
    let mut head = networks::weighted(case, zeros, name_of, tolerances, out)?;
    let decay = case.number("weight_decay")?;
    let rule = Rule::Lars { momentum: case.number("momentum")? };
    let mut optimizer = train::optimizer(&head, rule, |_, shape| optim::probe_group(shape, decay));
    same_constants(case, out)?;
    let (labels, n) = (case.labels("labels", classes)?, case.shape::<3>("logits")?[1]);
    let per_epoch = case.count("micro_steps_per_epoch")? as f64;
    let expected = case.numbers("loss_per_step")?;
    let (mut losses, mut lrs, mut logits) = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..expected.len() {
        let features = vit.forward_features(networks::images(case, &encoder, i, device)?);
        let labels = labels
            .get(i * n..(i + 1) * n)
            .filter(|labels| labels.len() == features.dims()[0])
            .ok_or_else(|| {
                case.error("`labels`, `logits` and `imgs` have different numbers of entries")
            })?;
        let targets = shape::soft_targets(labels, classes, 0.0);
        let targets = Tensor::from_data(TensorData::new(targets, [n, classes]), device);
        let replica = head.clone().train();
        let output = replica.forward_train(features.clone());
        logits.extend(vector(output.clone().inner()));
        let loss = model::soft_cross_entropy(output, targets);
        losses.push(scalar(loss.clone().inner()));
        let mut grads = loss.backward();
        let grads = model::grads(&replica, &mut grads);
        head = head.observe(ProbeHead::statistics(features));
        let lr = schedule(case)?.at(i as f64 / per_epoch);
        lrs.push(lr);
        head = step(head, &mut optimizer, grads, lr);
    }
    out.relative("logits", &logits, &case.floats("logits")?, tolerances.forward);
    out.relative("loss_per_step", &losses, &expected, tolerances.loss);
    out.relative("lr_per_step", &lrs, &case.numbers("lr_per_step")?, tolerances.schedule);
    same_parameters(case, &head, expected.len(), tolerances, out)?;
    // Evaluates the images of the first step with the final weights.
    let evaluated =
        head.forward(vit.forward_features(networks::images(case, &encoder, 0, device)?));
    out.relative(
        "eval_logits",
        &vector(evaluated),
        &case.floats("eval_logits")?,
        tolerances.forward,
    );
    Ok(())
}

fn same_constants(case: &Case, out: &mut TensorComparison) -> Result<(), VerifyError> {
    let ours = [
        ("bn_eps", model::BN_EPS),
        ("bn_momentum", model::BN_MOMENTUM),
        ("trust_coefficient", optim::TRUST_COEFFICIENT),
    ];
    for (key, value) in ours {
        if case.get(key).is_some() {
            out.absolute(key, &[value], &[case.number(key)?], 0.0);
        }
    }
    Ok(())
}

/// Compares parameters and running statistics after `steps` updates with the case.
fn same_parameters(
    case: &Case,
    head: &ProbeHead,
    steps: usize,
    tolerances: &Tolerances,
    out: &mut TensorComparison,
) -> Result<(), VerifyError> {
    for param in model::named(head) {
        let name = format!("after_{steps}.{}", official_probe_name(&param.name));
        let (got, expected) = (vector(param.values), case.floats(&name)?);
        match tolerances.precision {
            Precision::Fp32 => out.absolute(&name, &got, &expected, tolerances.parameter),
            // LARS scales the gradient, so the error of an update is proportional to the size of the update.
            Precision::Bf16 | Precision::Fp16 => {
                out.relative(&name, &got, &expected, tolerances.forward);
            }
        }
    }
    Ok(())
}
