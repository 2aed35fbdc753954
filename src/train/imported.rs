//! Checks the checkpoints that jobs start from, and starts or resumes pre-training from a checkpoint file.

use super::error::TrainError;
use super::step::{Progress, TrainingState};
use crate::checkpoint::{self, Grids, MaePart, Opened, OptimizerState, load_module};
use crate::infer::{same_encoder, same_heads};
use crate::model::{self, Mae, Vit};
use crate::optim::{Optimizer, StateError};
use crate::recipe::{Job, Plan, TrainingPlan};
use crate::shape::{MaeLoss, Masking, StageKind};
use burn::tensor::{Device, Tensor, TensorData};
use std::collections::BTreeMap;
use std::path::Path;

/// Checks whether the checkpoint that `job` starts from fits `plan`.
///
/// Returns warnings, and fails if the checkpoint does not fit. A run calls this function before its first job trains.
pub fn check(job: &Job, plan: &Plan, num_classes: usize) -> Result<Vec<String>, TrainError> {
    let Some(path) = plan.named_file(job) else { return Ok(Vec::new()) };
    let opened = checkpoint::open(path, plan.prefix(job))?;
    let mut notes = opened.notes.clone();
    notes.extend(other_normalization(&opened, plan));
    if job.from.is_none() {
        notes.extend(check_start(&opened, plan)?);
    } else {
        check_encoder(&opened, job, plan, num_classes)?;
    }
    Ok(notes.into_iter().map(|note| format!("{}: {note}", path.display())).collect())
}

/// Fails if a classifier or a probe cannot use the encoder of this checkpoint.
fn check_encoder(
    opened: &Opened,
    job: &Job,
    plan: &Plan,
    num_classes: usize,
) -> Result<(), TrainError> {
    same_encoder(opened, &plan.model)?;
    let encoder = plan.encoder_dims();
    let global_pool = match job.stage {
        StageKind::Linprobe => plan.linprobe.as_ref().is_some_and(|probe| probe.global_pool),
        _ => plan.finetune.as_ref().is_some_and(|finetune| finetune.global_pool),
    };
    let vit = Vit::zeros(&encoder, num_classes, global_pool, &Device::flex());
    let grids = Grids::of(&opened.facts, &encoder);
    checkpoint::load_encoder(vit, &opened.file, &opened.path, grids)?;
    Ok(())
}

/// Fails if pre-training cannot start from the weights of this checkpoint.
///
/// Returns notes about missing weights, which keep their initial values, and about settings that differ.
fn check_start(opened: &Opened, plan: &Plan) -> Result<Vec<String>, TrainError> {
    load_start(zeros(plan, &Device::flex()), opened, plan)?;
    let mut notes = Vec::new();
    for part in checkpoint::missing_parts(&opened.file) {
        notes.push(match part {
            MaePart::Decoder => "the checkpoint has no decoder, so the decoder starts from random weights".to_owned(),
            MaePart::Norm => "the checkpoint is a classifier without `norm`, so the last normalization of the encoder starts from its initial values".to_owned(),
        });
    }
    let stated = opened.facts.settings.norm_pix_loss.filter(|_| opened.facts.decoder.is_some());
    let planned = plan.pretrain.as_ref().map(|pretrain| pretrain.loss.norm_pix_loss);
    if let (Some(stated), Some(planned)) = (stated, planned)
        && stated != planned
    {
        notes.push(format!(
            "the decoder of the checkpoint was trained with `norm_pix_loss = {stated}`, but this run has `norm_pix_loss = {planned}`. So the first losses are high"
        ));
    }
    Ok(notes)
}

/// Loads the weights of a checkpoint into `mae`. Weights that the checkpoint does not have stay unchanged.
fn load_start(mae: Mae, opened: &Opened, plan: &Plan) -> Result<Mae, TrainError> {
    same_encoder(opened, &plan.model)?;
    let stated = opened.facts.settings.decoder_num_heads.filter(|_| opened.facts.decoder.is_some());
    same_heads(opened, "model.decoder_num_heads", stated, plan.model.decoder_num_heads)?;
    let grids = Grids::of(&opened.facts, &plan.encoder_dims());
    Ok(checkpoint::load_start(mae, &opened.file, &opened.path, grids)?)
}

/// Loads the weights of the checkpoint at `path` into `mae`, to start a new pre-training.
pub(super) fn start_from(mae: Mae, path: &Path, plan: &Plan) -> Result<Mae, TrainError> {
    load_start(mae, &checkpoint::open(path, plan.pretrain_prefix())?, plan)
}

/// Returns a warning if the checkpoint was trained with a different image normalization.
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
        "the checkpoint was trained with mean {mean:?} and std {std:?}, but this run normalizes images with mean \
         {:?} and std {:?}. To use the values of the checkpoint, add `--set 'data.mean={mean:?}' --set 'data.std={std:?}'`",
        plan.data.mean, plan.data.std
    ))
}

/// Checks whether pre-training can resume from the checkpoint at `path`.
///
/// Returns the number of epochs that the checkpoint was trained, and warnings. A run calls this function before its
/// first job trains.
pub fn check_resume(path: &Path, plan: &Plan) -> Result<(usize, Vec<String>), TrainError> {
    let opened = checkpoint::open(path, plan.pretrain_prefix())?;
    let from = resumable(&opened, plan)?;
    let zeros = zeros(plan, &Device::flex());
    load_module(zeros, &opened.file, path)?;
    let mut notes: Vec<_> =
        opened.notes.iter().map(|note| format!("{}: {note}", path.display())).collect();
    let fresh = from.optimizer.is_none().then(|| {
        let path = path.display();
        format!(
            "{path} has no `optimizer.safetensors`, so training continues with the weights of this checkpoint and a new optimizer state"
        )
    });
    notes.extend(fresh);
    Ok((from.progress.epoch - 1, notes))
}

/// Creates the masked autoencoder of `plan` with zero weights.
pub(super) fn zeros(plan: &Plan, device: &Device) -> Mae {
    let encoder = plan.encoder_dims();
    Mae::zeros(&encoder, &plan.model.decoder_dims(), device)
}

/// Loads weights, optimizer state and epoch of the checkpoint at `path` into `state`.
pub(super) fn resume(
    state: TrainingState<Mae>,
    path: &Path,
    plan: &Plan,
) -> Result<TrainingState<Mae>, TrainError> {
    let opened = checkpoint::open(path, plan.pretrain_prefix())?;
    let ResumePoint { optimizer: optimizer_state, progress } = resumable(&opened, plan)?;
    let model = load_module(state.model, &opened.file, path)?;
    let TrainingState { mut optimizer, average, loss_scale, .. } = state;
    if let Some(optimizer_state) = optimizer_state {
        let device = model::device(&model);
        load_optimizer(&mut optimizer, &optimizer_state, &device)
            .map_err(|error| cannot_resume(path, &error.to_string(), "use another checkpoint"))?;
    }
    Ok(TrainingState { model, optimizer, average, loss_scale, progress })
}

/// Where pre-training resumes from a checkpoint.
struct ResumePoint {
    optimizer: Option<OptimizerState>,
    progress: Progress,
}

fn cannot_resume(path: &Path, problem: &str, hint: &str) -> TrainError {
    TrainError::Setting {
        problem: format!("cannot resume from {}: {problem}", path.display()),
        hint: hint.to_owned(),
    }
}

/// Loads the moments and the number of updates of a checkpoint into `optimizer`.
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

/// Returns where pre-training resumes from a checkpoint. Fails if the checkpoint does not fit `plan`.
fn resumable(opened: &Opened, plan: &Plan) -> Result<ResumePoint, TrainError> {
    let path = &opened.path;
    let refuse = |problem: &str, hint: &str| Err(cannot_resume(path, problem, hint));
    let Some(pretrain) = &plan.pretrain else {
        return refuse("the recipe has no `[pretrain]`", "add `[pretrain]`");
    };
    let start_afresh =
        "set `finetune.from` or `linprobe.from` to this file, to use only its weights";
    let optimizer = match &opened.optimizer {
        Ok(state) => Some(state.clone()),
        Err(_) if opened.meta.is_some() => opened.own_optimizer()?,
        Err(why) => {
            return refuse(why, start_afresh);
        }
    };
    let Some(seen) = opened.facts.settings.epoch else {
        return refuse("the checkpoint does not store its number of training epochs", start_afresh);
    };
    if opened.facts.decoder.is_none() {
        return refuse(
            "the checkpoint has no decoder, so it is not from a pre-training",
            start_afresh,
        );
    }
    let progress = progress(opened, seen, &pretrain.training)?;
    let epochs = pretrain.training.epochs;
    if seen >= epochs {
        let problem = format!(
            "the checkpoint was trained for {seen} epochs, but `pretrain.epochs` is {epochs}"
        );
        return refuse(
            &problem,
            &format!(
                "set `pretrain.epochs` to the total number of epochs, including the {seen} epochs of the checkpoint"
            ),
        );
    }
    // In the middle of an epoch, the weights are newer than those of the last finished epoch.
    let first = seen + usize::from(progress.update > 0);
    if let Some(epoch) = pretrain.checkpoint_epochs.iter().find(|epoch| **epoch < first) {
        let problem = format!(
            "the checkpoint was trained for {seen} epochs, so `pretrain.checkpoint_epochs` cannot contain {epoch}"
        );
        return refuse(
            &problem,
            &format!("remove the epochs before epoch {first} from `pretrain.checkpoint_epochs`"),
        );
    }
    same_encoder(opened, &plan.model)?;
    let settings = &opened.facts.settings;
    let decoder_heads = plan.model.decoder_num_heads;
    same_heads(opened, "model.decoder_num_heads", settings.decoder_num_heads, decoder_heads)?;
    let stated = |on: bool| on.to_string();
    let Masking { kind, ratio, granularity } = pretrain.masking;
    let MaeLoss { norm_pix_loss, patches } = pretrain.loss;
    let pairs = [
        ("norm_pix_loss", settings.norm_pix_loss.map(stated), stated(norm_pix_loss)),
        ("loss_on", settings.loss_on.map(|on| on.to_string()), patches.to_string()),
        ("mask", settings.mask.map(|kind| kind.to_string()), kind.to_string()),
        ("mask_ratio", settings.mask_ratio.map(|r| r.to_string()), ratio.to_string()),
        (
            "mask_granularity",
            settings.mask_granularity.map(|side| side.to_string()),
            granularity.to_string(),
        ),
    ];
    for (key, stated, planned) in pairs {
        if let Some(stated) = stated.filter(|stated| *stated != planned) {
            let problem = format!(
                "the checkpoint was trained with `{key} = {stated}`, but the recipe has `{key} = {planned}`"
            );
            return refuse(&problem, &format!("add `--set pretrain.{key}={stated}`"));
        }
    }
    Ok(ResumePoint { optimizer, progress })
}

/// Returns where in the schedule a checkpoint stopped. The checkpoint has been trained for `seen` epochs.
///
/// Fails if a checkpoint from the middle of an epoch has a different effective batch size than `training`.
fn progress(opened: &Opened, seen: usize, training: &TrainingPlan) -> Result<Progress, TrainError> {
    let Some(note) = &opened.progress else {
        return Ok(Progress { epoch: seen + 1, ..Progress::start() });
    };
    let progress: Progress = serde_json::from_str(note).map_err(|error| {
        let problem = format!("the stored position in the epoch is invalid: {error}");
        cannot_resume(&opened.path, &problem, "use a checkpoint from the end of an epoch")
    })?;
    let (planned, images) = (training.effective_batch_size, progress.sums.images);
    if images != progress.update * planned {
        let own = images / progress.update.max(1);
        let problem = format!(
            "the saved state is from the middle of epoch {}, with {own} images per update, but this recipe has \
             {planned} images per update",
            progress.epoch
        );
        let hint = "keep `batch_size`, `accum_iter` and `devices`, or use a checkpoint from the end of an epoch";
        return Err(cannot_resume(&opened.path, &problem, hint));
    }
    Ok(progress)
}
