//! Starting from, and going on with, other people's checkpoints.

use super::error::TrainError;
use crate::checkpoint::{self, Opened, OptimizerState, load_module};
use crate::infer::{same_encoder, same_heads, setting};
use crate::model::{Mae, Vit};
use crate::optim::{Optimizer, StateError};
use crate::recipe::{Job, Plan, Source};
use crate::shape::StageKind;
use crate::train::step::{Progress, TrainingState};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use std::collections::BTreeMap;
use std::path::Path;

/// Fails, before anything is trained, where the file that a job starts from does not fit. Gives what a person should know of it.
pub fn check(job: &Job, plan: &Plan, num_classes: usize) -> Result<Vec<String>, TrainError> {
    let Some(Source::File(path)) = &job.from else { return Ok(Vec::new()) };
    let opened = checkpoint::open(path)?;
    same_encoder(&opened, &plan.model)?;
    let encoder = plan.encoder_dims();
    let global_pool = match job.stage {
        StageKind::Linprobe => plan.linprobe.as_ref().is_some_and(|probe| probe.global_pool),
        _ => plan.finetune.as_ref().is_some_and(|finetune| finetune.global_pool),
    };
    let vit = Vit::zeros(&encoder, num_classes, global_pool, &Device::flex());
    checkpoint::load_encoder(vit, &opened.file, path)?;
    let notes = opened.note.clone().into_iter().chain(other_normalization(&opened, plan));
    Ok(notes.map(|note| format!("{}: {note}", path.display())).collect())
}

/// What to say where a file's images were normalized in another way than the run's will be.
fn other_normalization(opened: &Opened, plan: &Plan) -> Option<String> {
    let settings = &opened.facts.settings;
    let (mean, std) = (settings.mean.as_ref()?, settings.std.as_ref()?);
    let same = |stated: &[f64], planned: &[f32]| {
        let close = |(a, b): (&f64, &f32)| (a - f64::from(*b)).abs() < 1e-6;
        stated.len() == planned.len() && stated.iter().zip(planned).all(close)
    };
    if same(mean, &plan.data.mean) && same(std, &plan.data.std) {
        return None;
    }
    Some(format!(
        "its images were normalized by mean {mean:?} and std {std:?}, this run's are by {:?} and {:?}; with \
         `--set 'data.mean={mean:?}' --set 'data.std={std:?}'` they are as its own",
        plan.data.mean, plan.data.std
    ))
}

/// Fails, before anything is trained, where a pre-training cannot go on from the file at `path`. Gives how many epochs it has seen.
pub fn check_resume(path: &Path, plan: &Plan) -> Result<usize, TrainError> {
    let opened = checkpoint::open(path)?;
    let (_, seen) = going_on(&opened, plan)?;
    let zeros = zeros(plan, &Device::flex());
    load_module(zeros, &opened.file, path)?;
    Ok(seen)
}

pub(super) fn zeros(plan: &Plan, device: &Device) -> Mae {
    let encoder = plan.encoder_dims();
    Mae::zeros(&encoder, &plan.model.decoder_dims(), device)
}

/// Puts the weights, the optimizer's state and the epoch of the file at `path` into a fresh state.
pub(super) fn resume(
    state: TrainingState<Mae>,
    path: &Path,
    plan: &Plan,
) -> Result<TrainingState<Mae>, TrainError> {
    let opened = checkpoint::open(path)?;
    let (optimizer_state, seen) = going_on(&opened, plan)?;
    let model = load_module(state.model, &opened.file, path)?;
    let mut optimizer = state.optimizer;
    let device = model.devices().into_iter().next().unwrap_or_default();
    load_optimizer(&mut optimizer, optimizer_state, &device)
        .map_err(|error| setting(path, &error.to_string(), "take another checkpoint"))?;
    Ok(TrainingState {
        model,
        optimizer,
        progress: Progress { epoch: seen + 1, ..Progress::start() },
    })
}

/// Gives an optimizer the moments and the number of updates that a checkpoint holds.
pub fn load_optimizer(
    optimizer: &mut Optimizer,
    state: &OptimizerState,
    device: &Device,
) -> Result<(), StateError> {
    let mut moments = BTreeMap::new();
    for (name, [first, second]) in &state.moments {
        for (kind, moment) in [("exp_avg", first), ("exp_avg_sq", second)] {
            let data = TensorData::new(moment.values.clone(), [moment.values.len()]);
            moments.insert(format!("{kind}.{name}"), Tensor::from_data(data, device));
        }
    }
    optimizer.load(moments, state.updates)
}

/// Gives the optimizer's state and the epochs that a file has seen, if a pre-training of `plan` can go on from there.
fn going_on<'a>(
    opened: &'a Opened,
    plan: &Plan,
) -> Result<(&'a OptimizerState, usize), TrainError> {
    let path = &opened.path;
    let refuse = |problem: &str, hint: &str| Err(setting(path, problem, hint).into());
    let Some(pretrain) = &plan.pretrain else {
        return refuse("there is no [pretrain] to go on with", "add [pretrain]");
    };
    let start_afresh = "to start from its weights alone, use it in finetune.from or linprobe.from";
    let state = match &opened.optimizer {
        Ok(state) => state,
        Err(why) => {
            return refuse(&format!("a pre-training cannot go on from it: {why}"), start_afresh);
        }
    };
    let Some(seen) = opened.facts.settings.epoch else {
        return refuse("it does not say how many epochs it has seen", start_afresh);
    };
    let epochs = pretrain.training.epochs;
    if seen >= epochs {
        let problem = format!("it has seen {seen} epochs, pretrain.epochs is {epochs}");
        return refuse(
            &problem,
            "--set pretrain.epochs to more: the schedule is the whole training's",
        );
    }
    if let Some(epoch) = pretrain.checkpoint_epochs.iter().find(|epoch| **epoch < seen) {
        let problem =
            format!("it has seen {seen} epochs, so pretrain.checkpoint_epochs cannot have {epoch}");
        return refuse(&problem, "take the earlier epochs out of the list");
    }
    same_encoder(opened, &plan.model)?;
    let settings = &opened.facts.settings;
    let decoder_heads = plan.model.decoder_num_heads;
    same_heads(opened, "model.decoder_num_heads", settings.decoder_num_heads, decoder_heads)?;
    let stated = |on: bool| on.to_string();
    let pairs = [
        ("norm_pix_loss", settings.norm_pix_loss.map(stated), stated(pretrain.norm_pix_loss)),
        ("mask_ratio", settings.mask_ratio.map(|r| r.to_string()), pretrain.mask_ratio.to_string()),
    ];
    for (key, stated, planned) in pairs {
        if let Some(stated) = stated.filter(|stated| *stated != planned) {
            let problem = format!("it was trained with {key} = {stated}, the recipe has {planned}");
            return refuse(&problem, &format!("--set pretrain.{key}={stated}"));
        }
    }
    Ok((state, seen))
}
