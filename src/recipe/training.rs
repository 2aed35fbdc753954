//! Derives the plans of the stages, and writes derived values back to the recipe.

use super::augmentation::{augment, mixup, rand_augment};
use super::context::{Context, given};
use super::layout::{Batches, images_text};
use super::masking::masking;
use super::plan::{DataPlan, ErasingPlan, ModelPlan, RuntimePlan};
use super::sources;
use super::stage_plan::{FinetunePlan, LinprobePlan, OnNan, PretrainPlan, TrainingPlan};
use super::stages::{Finetune, Linprobe, Pretrain};
use super::values::{All, Blocks, Or};
use super::write::toml_text;
use crate::shape::{MaeLoss, StageKind, TrainedBlocks};

/// The settings of data, model and devices, which the stages depend on.
pub(super) struct Setup<'a> {
    pub(super) data: &'a DataPlan,
    pub(super) model: &'a ModelPlan,
    pub(super) runtime: &'a RuntimePlan,
}

/// The keys of a stage that pre-training, fine-tuning and linear probing share.
struct SharedKeys<'a> {
    stage: StageKind,
    epochs: usize,
    warmup_epochs: usize,
    batch_size: usize,
    accum_iter: usize,
    published_batch_size: Option<usize>,
    blr: &'a mut Option<f64>,
    lr: &'a mut Option<f64>,
    min_lr: f64,
    weight_decay: f64,
    skip_limit: Option<usize>,
}

macro_rules! shared {
    ($stage:expr, $table:expr) => {
        SharedKeys {
            stage: $stage,
            epochs: given($table.epochs.as_ref()),
            warmup_epochs: given($table.warmup_epochs.as_ref()),
            batch_size: given($table.batch_size.as_ref()),
            accum_iter: given($table.accum_iter.as_ref()),
            published_batch_size: $table.published_batch_size,
            blr: &mut $table.blr,
            lr: &mut $table.lr,
            min_lr: given($table.min_lr.as_ref()),
            weight_decay: given($table.weight_decay.as_ref()),
            skip_limit: (given($table.on_nan.as_ref()) == OnNan::Skip)
                .then(|| given($table.on_nan_limit.as_ref())),
        }
    };
}

pub(super) fn pretrain(
    table: &mut Pretrain,
    setup: &Setup<'_>,
    cx: &mut Context<'_>,
) -> PretrainPlan {
    let training = training(shared!(StageKind::Pretrain, table), setup, cx);
    let masking = masking(table, setup, cx);
    let checkpoint_epochs = checkpoint_epochs(table.checkpoint_epochs.take(), training.epochs, cx);
    table.checkpoint_epochs = Some(checkpoint_epochs.clone());
    PretrainPlan {
        training,
        masking,
        loss: MaeLoss {
            norm_pix_loss: given(table.norm_pix_loss.as_ref()),
            patches: given(table.loss_on.as_ref()),
        },
        start: sources::start(table, cx),
        keep_optimizer: given(table.keep_optimizer.as_ref()),
        prefix: table.prefix.clone(),
        checkpoint_epochs,
        augment: augment(StageKind::Pretrain, &table.augment, setup.data, cx),
    }
}

pub(super) fn finetune(
    table: &mut Finetune,
    pretrain: Option<&PretrainPlan>,
    setup: &Setup<'_>,
    cx: &mut Context<'_>,
) -> FinetunePlan {
    let training = training(shared!(StageKind::Finetune, table), setup, cx);
    let reprob = given(table.reprob.as_ref());
    FinetunePlan {
        from: sources::from(StageKind::Finetune, &mut table.from, pretrain, cx),
        prefix: table.prefix.clone(),
        betas: given(table.betas.as_ref()),
        ema: match given(table.ema.as_ref()) {
            Or::Word(_) => None,
            Or::Value(decay) => Some(decay),
        },
        layer_decay: given(table.layer_decay.as_ref()),
        trained_blocks: trained_blocks(
            &given(table.trained_blocks.as_ref()),
            setup.model.depth,
            cx,
        ),
        drop_path: given(table.drop_path.as_ref()),
        clip_grad: match given(table.clip_grad.as_ref()) {
            Or::Word(_) => None,
            Or::Value(norm) => Some(norm),
        },
        smoothing: given(table.smoothing.as_ref()),
        mixup: mixup(table, training.batch_size, setup.data.input_size, cx),
        erasing: (reprob > 0.0).then(|| ErasingPlan {
            reprob,
            remode: given(table.remode.as_ref()),
            recount: given(table.recount.as_ref()),
        }),
        rand_augment: rand_augment(&given(table.aa.as_ref()), setup.data, cx),
        global_pool: given(table.global_pool.as_ref()),
        augment: augment(StageKind::Finetune, &table.augment, setup.data, cx),
        training,
    }
}

pub(super) fn linprobe(
    table: &mut Linprobe,
    pretrain: Option<&PretrainPlan>,
    setup: &Setup<'_>,
    cx: &mut Context<'_>,
) -> LinprobePlan {
    LinprobePlan {
        training: training(shared!(StageKind::Linprobe, table), setup, cx),
        from: sources::from(StageKind::Linprobe, &mut table.from, pretrain, cx),
        prefix: table.prefix.clone(),
        global_pool: given(table.global_pool.as_ref()),
        augment: augment(StageKind::Linprobe, &table.augment, setup.data, cx),
    }
}

fn training(shared: SharedKeys<'_>, setup: &Setup<'_>, cx: &mut Context<'_>) -> TrainingPlan {
    let SharedKeys { stage, epochs, warmup_epochs, batch_size, accum_iter, blr, lr, .. } = shared;
    if warmup_epochs > epochs {
        let warmup = format!("{stage}.warmup_epochs");
        let hint = match epochs / 10 {
            0 => format!("use `--set {warmup}=0` to train without warm-up"),
            tenth => format!("use `--set {warmup}={tenth}` to warm up for a tenth of the epochs"),
        };
        let whole = format!("{stage}.epochs");
        cx.conflict((&warmup, warmup_epochs), "is more than", (&whole, epochs), hint);
    }
    keep_one_rate(stage, lr, blr, cx);
    let effective_batch_size = batch_size * accum_iter * setup.runtime.world_size();
    let per_256 = |blr: f64| blr * effective_batch_size as f64 / 256.0;
    let plan = TrainingPlan {
        epochs,
        warmup_epochs,
        batch_size,
        accum_iter,
        effective_batch_size,
        published_batch_size: shared.published_batch_size,
        lr: lr.or(blr.map(per_256)).expect("defaults.toml has `blr`, and only `lr` replaces it"),
        rate: if lr.is_some() { "lr" } else { "blr" },
        min_lr: shared.min_lr,
        weight_decay: shared.weight_decay,
        skip_limit: shared.skip_limit,
    };
    check_rates(stage, &plan, *blr, cx);
    cx.warnings.extend(other_batch(stage, &plan, setup.runtime));
    if let Some(Err(never)) =
        setup.data.promised.train_images.map(|images| plan.steps(stage, images))
    {
        let (key, accum_iter) = (format!("{stage}.batch_size"), format!("{stage}.accum_iter"));
        let others = ["data.train_images", "runtime.devices", "runtime.hosts", &accum_iter];
        let why = format!("is too large: {never}");
        cx.refuse_with(&key, &others, batch_size, &why, "lower `batch_size` or `accum_iter`");
    }
    plan
}

/// Returns a warning if the effective batch size is not `published_batch_size`.
fn other_batch(stage: StageKind, plan: &TrainingPlan, runtime: &RuntimePlan) -> Option<String> {
    let devices = runtime.world_size();
    let (effective, published) = (plan.effective_batch_size, plan.published_batch_size?);
    if effective == published {
        return None;
    }
    let on_devices = plan.batch_size * devices;
    let way_out = if published % on_devices == 0 {
        format!(
            "Use `--set {stage}.accum_iter={}` to restore the published number of images",
            published / on_devices
        )
    } else if published % devices == 0 {
        let on_device = published / devices;
        let fits = |batch_size: &usize| on_device.is_multiple_of(*batch_size);
        // At most the recipe's batch_size, because a larger one may not fit into the device memory.
        let batch_size = (1..=plan.batch_size).rev().find(fits).unwrap_or(1);
        format!(
            "Use `--set {stage}.batch_size={batch_size} --set {stage}.accum_iter={}` to restore the published number of images",
            on_device / batch_size
        )
    } else {
        format!("{devices} devices cannot share {published} images equally")
    };
    let batches = Batches { batch_size: plan.batch_size, accum_iter: plan.accum_iter };
    let images = images_text(effective, batches, runtime.devices, runtime.hosts);
    Some(format!(
        "{stage}: one update uses {images}, but the published result used {published} images. {way_out}"
    ))
}

fn check_rates(stage: StageKind, plan: &TrainingPlan, blr: Option<f64>, cx: &mut Context<'_>) {
    let rate = if blr.is_some() { format!("{stage}.blr") } else { format!("{stage}.lr") };
    let others = ["batch_size", "accum_iter"].map(|name| format!("{stage}.{name}"));
    let others = [rate.as_str(), &others[0], &others[1], "runtime.devices", "runtime.hosts"];
    if !plan.lr.is_finite() {
        let why = "makes the learning rate infinite";
        let found = rate_text(blr.unwrap_or(plan.lr));
        cx.refuse_with(
            &rate,
            &others,
            found,
            why,
            "set a lower value: usual learning rates are below 10",
        );
    }
    if plan.min_lr > plan.lr && plan.lr != 0.0 {
        let key = format!("{stage}.min_lr");
        let why =
            format!("is more than the peak learning rate {} (from `{rate}`)", rate_text(plan.lr));
        let hint = format!("use `--set {key}=0`, or a higher `{rate}`");
        cx.refuse_with(&key, &others, rate_text(plan.min_lr), &why, hint);
    }
}

/// If both `lr` and `blr` are set, removes the value with the lower [priority](Context::rank).
///
/// Adds a problem if both have the same priority, for example in the same file.
fn keep_one_rate(
    stage: StageKind,
    lr: &mut Option<f64>,
    blr: &mut Option<f64>,
    cx: &mut Context<'_>,
) {
    let (Some(given_lr), Some(given_blr)) = (*lr, *blr) else { return };
    let (lr_key, blr_key) = (format!("{stage}.lr"), format!("{stage}.blr"));
    match cx.rank(&lr_key).cmp(&cx.rank(&blr_key)) {
        std::cmp::Ordering::Greater => *blr = None,
        std::cmp::Ordering::Less => *lr = None,
        std::cmp::Ordering::Equal => cx.conflict(
            (&lr_key, rate_text(given_lr)),
            "cannot be combined with",
            (&blr_key, rate_text(given_blr)),
            "remove `lr` or `blr`: `lr` is the learning rate itself, and `blr` is the learning rate for 256 images",
        ),
    }
}

pub(super) fn rate_text(rate: f64) -> String {
    toml_text(&toml::Value::Float(rate))
}

/// Returns the epochs after which a checkpoint is kept, including the last epoch.
///
/// Adds a problem or a warning if `given` has an epoch above `epochs`.
fn checkpoint_epochs(given: Option<Vec<usize>>, epochs: usize, cx: &mut Context<'_>) -> Vec<usize> {
    let mut kept = given.unwrap_or_default();
    kept.sort_unstable();
    kept.dedup();
    let possible: Vec<_> = kept.iter().copied().filter(|epoch| *epoch <= epochs).collect();
    let shortened = cx.rank("pretrain.epochs") > cx.rank("pretrain.checkpoint_epochs");
    if possible.len() < kept.len() && shortened {
        cx.warnings.push(format!(
            "mae ignores the entries of `pretrain.checkpoint_epochs` above `pretrain.epochs = {epochs}`"
        ));
    } else if possible.len() < kept.len() {
        let way_out = if possible.is_empty() { vec![epochs] } else { possible };
        let way_out = format!("{way_out:?}").replace(' ', "");
        let hint = format!("use `--set 'pretrain.checkpoint_epochs={way_out}'`");
        let listed = ("pretrain.checkpoint_epochs", format!("{kept:?}"));
        cx.conflict(listed, "has epochs above", ("pretrain.epochs", epochs), hint);
    }
    kept.retain(|epoch| *epoch <= epochs);
    if kept.last() != Some(&epochs) {
        kept.push(epochs);
    }
    kept
}

/// Returns the encoder blocks to train, counted from the last block.
///
/// Adds a problem if `given` exceeds `depth`, the number of encoder blocks.
fn trained_blocks(given: &Or<All, Blocks>, depth: usize, cx: &mut Context<'_>) -> TrainedBlocks {
    match *given {
        Or::Word(All::All) => TrainedBlocks::Last(depth),
        Or::Value(Blocks::Half(_)) => TrainedBlocks::HalfOfLast,
        Or::Value(Blocks::Count(blocks)) => {
            if blocks > depth {
                let others = ["model.depth", "model.size"];
                let why = format!("is more than the {depth} blocks of the encoder");
                let hint = "set \"all\" to train all blocks";
                cx.refuse_with("finetune.trained_blocks", &others, blocks, &why, hint);
            }
            TrainedBlocks::Last(blocks)
        }
    }
}
