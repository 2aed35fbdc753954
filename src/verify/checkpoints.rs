//! Cases `checkpoint_mae`, `checkpoint_vit`, `resume_step` and `pretrain_from`: checkpoint files of other programs.

use super::case::{Case, VerifyError};
use super::networks::{self, vector};
use super::report::TensorComparison;
use super::tolerances::Tolerances;
use super::{forward, updates};
use crate::checkpoint::{self, CheckpointError, Grids, Head, Opened};
use crate::model::{self, Mae, Vit};
use crate::optim::Optimizer;
use crate::shape::{EncoderDims, Precision};
use crate::train;
use burn::module::Module;
use burn::tensor::Device;

pub(super) fn mae(
    case: &Case,
    device: &Device,
    tolerances: &Tolerances,
    out: &mut TensorComparison,
) -> Result<(), VerifyError> {
    let decoder = networks::decoder(case)?;
    for file in case.texts("files")? {
        let opened = open(case, &file)?;
        let tolerance = weights(case, &file, &opened, tolerances, out)?;
        let encoder = dims(case, &opened, tolerances.precision)?;
        let mae = Mae::zeros(&encoder, &decoder, device);
        let mae = checkpoint::load_module(mae, &opened.file, &opened.path);
        let mae = mae.map_err(|error| refused(case, &file, &error))?;
        let (imgs, masks) = forward::inputs(case, &encoder, device)?;
        if case.has("ids_restore") {
            forward::exact_ids(case, &masks, out)?;
        }
        out.absolute(format!("{file}: mask"), &masks.mask, &case.floats("mask")?, 0.0);
        let latent = mae.forward_encoder(imgs.clone(), &masks);
        let tokens = vector(mae.forward_decoder(latent, &masks));
        let output = mae.forward(imgs, &masks, forward::loss(case)?);
        let (loss, pred) = (vector(output.loss), vector(output.pred));
        out.relative(format!("{file}: loss"), &loss, &case.floats("loss")?, tolerance);
        let expected = case.floats("pred")?;
        if is_raw_buffer(&expected, &pred, &tokens, encoder.patch_values()) {
            let name = format!("{file}: pred (stored as raw memory, without strides)");
            let from = encoder.patch_values();
            out.relative(name, &tokens[from..from + expected.len()], &expected, tolerance);
        } else {
            out.relative(format!("{file}: pred"), &pred, &expected, tolerance);
        }
    }
    if case.get("encoder_only").is_some() {
        let file = case.text("encoder_only")?;
        let opened = open(case, &file)?;
        weights(case, &file, &opened, tolerances, out)?;
        let encoder = dims(case, &opened, tolerances.precision)?;
        let grids = Grids::of(&opened.facts, &encoder);
        let vit = Vit::zeros(&encoder, 1, false, device);
        let vit = checkpoint::load_encoder(vit, &opened.file, &opened.path, grids);
        vit.map_err(|error| refused(case, &file, &error))?;
    }
    Ok(())
}

/// Loads another program's optimizer state, makes one update, and compares the parameters.
pub(super) fn resume_step(
    case: &Case,
    device: &Device,
    tolerances: &Tolerances,
    out: &mut TensorComparison,
) -> Result<(), VerifyError> {
    let lr = case.number("lr")?;
    for file in case.texts("files")? {
        let opened = open(case, &file)?;
        let state =
            opened.optimizer.as_ref().map_err(|why| case.error(format!("{file}: {why}")))?;
        let seen = opened.facts.settings.epoch.map_or(f64::NAN, |epoch| epoch as f64);
        out.absolute(format!("{file}: epoch"), &[seen], &[case.number("epoch")?], 0.0);
        let updates = case.number("updates")?;
        out.absolute(format!("{file}: updates"), &[state.updates as f64], &[updates], 0.0);
        let encoder = dims(case, &opened, tolerances.precision)?;
        let mae = Mae::zeros(&encoder, &networks::decoder(case)?, device);
        let mae = checkpoint::load_module(mae, &opened.file, &opened.path);
        let mae = mae.map_err(|error| refused(case, &file, &error))?;
        let mut optimizer = updates::pretrain_optimizer(case, &mae)?;
        train::load_optimizer(&mut optimizer, state, device)
            .map_err(|error| case.error(format!("{file}: {error}")))?;
        let (mae, _) = one_update(case, mae, &encoder, &mut optimizer)?;
        // In the file, the moments of key biases are already rounding noise. So the tolerance of key biases is `lr`.
        updates::same_parameters(case, &mae, "after.", lr, tolerances, out)?;
    }
    Ok(())
}

/// Starts pre-training from another program's weights, and compares the first update.
pub(super) fn pretrain_from(
    case: &Case,
    device: &Device,
    tolerances: &Tolerances,
    out: &mut TensorComparison,
) -> Result<(), VerifyError> {
    let lr = case.number("lr")?;
    let encoder = networks::encoder(case, tolerances.precision)?;
    for file in case.texts("files")? {
        let opened = open(case, &file)?;
        let mae = Mae::zeros(&encoder, &networks::decoder(case)?, device);
        let mae = checkpoint::load_start(
            mae,
            &opened.file,
            &opened.path,
            Grids::of(&opened.facts, &encoder),
        );
        let mae = mae.map_err(|error| refused(case, &file, &error))?;
        let mut optimizer = updates::pretrain_optimizer(case, &mae)?;
        let (mae, loss) = one_update(case, mae, &encoder, &mut optimizer)?;
        out.relative(format!("{file}: loss"), &loss, &case.floats("loss")?, tolerances.loss);
        updates::same_parameters(case, &mae, "after.", lr, tolerances, out)?;
    }
    Ok(())
}

/// Makes one update with the images, noise and learning rate of the case. Also returns the loss.
fn one_update(
    case: &Case,
    mae: Mae,
    encoder: &EncoderDims,
    optimizer: &mut Optimizer,
) -> Result<(Mae, Vec<f32>), VerifyError> {
    let (imgs, masks) = forward::inputs(case, encoder, &model::device(&mae))?;
    let replica = mae.clone().train();
    let loss = replica.forward(imgs, &masks, forward::loss(case)?).loss;
    let value = vector(loss.clone().inner());
    let grads = model::grads(&replica, &mut loss.backward());
    Ok((updates::step(mae, optimizer, grads, case.number("lr")?), value))
}

pub(super) fn vit(
    case: &Case,
    device: &Device,
    tolerances: &Tolerances,
    out: &mut TensorComparison,
) -> Result<(), VerifyError> {
    let (classes, global_pool) = (case.count("num_classes")?, case.flag("global_pool")?);
    for file in case.texts("files")? {
        let opened = open(case, &file)?;
        let tolerance = weights(case, &file, &opened, tolerances, out)?;
        if opened.facts.head != (Head::Linear { classes, global_pool }) {
            return Err(case.error(format!(
                "the head of {file} is {:?}, expected a linear head with {classes} classes and `global_pool = {global_pool}`",
                opened.facts.head
            )));
        }
        let encoder = dims(case, &opened, tolerances.precision)?;
        let vit = Vit::zeros(&encoder, classes, global_pool, device);
        let vit = checkpoint::load_module(vit, &opened.file, &opened.path);
        let vit = vit.map_err(|error| refused(case, &file, &error))?;
        let logits = vector(vit.forward(networks::images(case, &encoder, 0, device)?));
        out.relative(format!("{file}: logits"), &logits, &case.floats("logits")?, tolerance);
    }
    Ok(())
}

/// Returns whether `expected` is one of the predictions that Paddle recorded at a wrong offset.
///
/// Such a prediction has the values of `tokens` after the first token. So it also has the class tokens of later images.
fn is_raw_buffer(expected: &[f32], pred: &[f32], tokens: &[f32], patch_values: usize) -> bool {
    let distance = |got: &[f32]| -> f64 {
        got.iter().zip(expected).map(|(a, b)| f64::from(a - b).abs()).fold(0.0, f64::max)
    };
    let raw = tokens.get(patch_values..).unwrap_or_default();
    raw.len() >= expected.len() && distance(raw) < 0.1 * distance(pred)
}

fn open(case: &Case, file: &str) -> Result<Opened, VerifyError> {
    checkpoint::open(&case.folder.join(file), None).map_err(|error| refused(case, file, &error))
}

fn refused(case: &Case, file: &str, error: &CheckpointError) -> VerifyError {
    case.error(format!("{file}: {error}"))
}

/// Returns the encoder dimensions of the case, with the LayerNorm epsilon of the checkpoint.
///
/// Fails if the checkpoint has different dimensions or a different number of heads.
fn dims(case: &Case, opened: &Opened, precision: Precision) -> Result<EncoderDims, VerifyError> {
    let settings = &opened.facts.settings;
    let dims = networks::encoder(case, precision)?;
    let facts = &opened.facts;
    let same = (facts.embed_dim, facts.depth, facts.patch_size, facts.in_chans, facts.mlp_dim)
        == (dims.embed_dim, dims.depth, dims.patch_size, dims.in_chans, dims.mlp_dim);
    if !same || facts.input_size != Some(dims.input_size) {
        let keys = facts.keys().into_iter().map(|(key, value)| format!("{key} = {value}"));
        let keys = keys.collect::<Vec<_>>().join(", ");
        return Err(case
            .error(format!("`model` does not match {}, which has {keys}", opened.path.display())));
    }
    match settings.num_heads {
        Some(heads) if heads != dims.num_heads => Err(case.error(format!(
            "`model` does not match {}, which has `num_heads = {heads}`",
            opened.path.display()
        ))),
        _ => Ok(EncoderDims { norm_eps: settings.norm_eps.unwrap_or(dims.norm_eps), ..dims }),
    }
}

/// Compares the tensors of a checkpoint with the case, bit by bit.
///
/// Returns the tolerance for the outputs of the model.
fn weights(
    case: &Case,
    file: &str,
    opened: &Opened,
    tolerances: &Tolerances,
    out: &mut TensorComparison,
) -> Result<f64, VerifyError> {
    let tensors = &opened.file.tensors;
    let mut expected = Vec::new();
    if case.has("weights.cls_token") || case.get("encoder_only").is_some() {
        for name in tensors.keys() {
            expected.push((name, case_weight(case, name)?));
        }
    }
    let round = |v: &f32| burn::tensor::f16::from_f32(*v).to_f32();
    let is = |rounded: bool| {
        expected.iter().all(|(name, values)| {
            let same =
                |a: &f32, b: &f32| a.to_bits() == if rounded { round(b) } else { *b }.to_bits();
            let got = &tensors[*name].values;
            got.len() == values.len() && got.iter().zip(values).all(|(a, b)| same(a, b))
        })
    };
    let half = case.get("half_tolerance").is_some() && !is(false) && is(true);
    for (name, values) in &expected {
        let values: Vec<f32> =
            if half { values.iter().map(round).collect() } else { values.clone() };
        out.absolute(format!("{file}: {name}"), &tensors[*name].values, &values, 0.0);
    }
    if half { case.tolerance("half_tolerance", 0.1) } else { Ok(tolerances.forward) }
}

/// Returns a weight of the case. A linear weight is `[out, in]`.
fn case_weight(case: &Case, name: &str) -> Result<Vec<f32>, VerifyError> {
    let full = format!("weights.{name}");
    let values = case.floats(&full)?;
    let transposed =
        case.shape::<2>("weights.blocks.0.attn.qkv.weight").is_ok_and(|[a, b]| b == 3 * a);
    match case.shape::<2>(&full) {
        Ok([rows, columns]) if transposed => {
            let at = |c: usize, r: usize| values[r * columns + c];
            Ok((0..columns)
                .flat_map(|c| (0..rows).map(move |r| (c, r)))
                .map(|(c, r)| at(c, r))
                .collect())
        }
        _ => Ok(values),
    }
}
