//! Derives a stage's settings for augmentation, mixup and CutMix.

use super::context::{Context, given};
use super::plan::{AugmentPlan, DataPlan, MixupMode, MixupPlan};
use super::rand_augment::RandAugmentPlan;
use super::stages::{Augment, Finetune};
use super::training::rate_text;
use super::values::Or;
use crate::shape::{ImageSize, StageKind};

pub(super) fn augment(
    stage: StageKind,
    table: &Augment,
    data: &DataPlan,
    cx: &mut Context<'_>,
) -> AugmentPlan {
    let crop_scale = given(table.crop_scale.as_ref());
    let [low, high] = crop_scale;
    if low <= 0.0 || low > high {
        let key = format!("{stage}.augment.crop_scale");
        let why = "is not a valid range: expected [low, high] with 0 < low <= high <= 1";
        cx.refuse(
            &key,
            format!("{crop_scale:?}"),
            why,
            "set the range [0.2, 1.0], or set [1.0, 1.0] to keep the whole image",
        );
    }
    AugmentPlan {
        crop: given(table.crop.as_ref()),
        crop_scale,
        hflip: given(table.hflip.as_ref()),
        color_jitter: color_jitter(stage, given(table.color_jitter.as_ref()), data, cx),
        aug_repeats: given(table.aug_repeats.as_ref()),
    }
}

fn color_jitter(stage: StageKind, jitter: f64, data: &DataPlan, cx: &mut Context<'_>) -> f64 {
    if let (true, Some((other, why))) = (jitter > 0.0, no_colours(data)) {
        let key = format!("{stage}.augment.color_jitter");
        let hint = format!("use `--set {key}=0.0` to train without colour jitter");
        cx.refuse_with(&key, &[other], rate_text(jitter), why, hint);
    }
    jitter
}

/// If the images have no 8-bit colours, returns (recipe key, reason).
fn no_colours(data: &DataPlan) -> Option<(&'static str, &'static str)> {
    if ![1, 3].contains(&data.in_chans) {
        return Some(("data.in_chans", "needs images with 1 or 3 channels"));
    }
    let why = "needs 8-bit colours, but `data.range` keeps the original pixel values of the files";
    data.range.map(|_| ("data.range", why))
}

pub(super) fn rand_augment(
    aa: &str,
    data: &DataPlan,
    cx: &mut Context<'_>,
) -> Option<RandAugmentPlan> {
    if aa.is_empty() {
        return None;
    }
    let found = || toml::Value::String(aa.to_owned());
    if let Some((other, why)) = no_colours(data) {
        let hint = "use `--set finetune.aa=\"\"` to train without RandAugment";
        cx.refuse_with("finetune.aa", &[other], found(), why, hint);
    }
    match RandAugmentPlan::parse(aa) {
        Ok(plan) => Some(plan),
        Err(problem) => {
            let why = format!("is not a valid RandAugment policy: {problem}");
            cx.refuse(
                "finetune.aa",
                found(),
                &why,
                "set the official policy \"rand-m9-mstd0.5-inc1\", or set \"\" to disable RandAugment",
            );
            None
        }
    }
}

pub(super) fn mixup(
    table: &Finetune,
    batch_size: usize,
    input_size: ImageSize,
    cx: &mut Context<'_>,
) -> Option<MixupPlan> {
    let plan = MixupPlan {
        mixup: given(table.mixup.as_ref()),
        cutmix: given(table.cutmix.as_ref()),
        cutmix_minmax: match given(table.cutmix_minmax.as_ref()) {
            Or::Word(_) => None,
            Or::Value(minmax) => Some(minmax),
        },
        mixup_prob: given(table.mixup_prob.as_ref()),
        mixup_switch_prob: given(table.mixup_switch_prob.as_ref()),
        mixup_mode: given(table.mixup_mode.as_ref()),
    };
    if let Some([low, high]) = plan.cutmix_minmax {
        let shorter = input_size.height.min(input_size.width);
        let side = |share: f64| (shorter as f64 * share) as usize;
        if side(low) >= side(high) {
            let why = format!(
                "allows no CutMix box: the side of a box would be at least {} and less than {} pixels",
                side(low),
                side(high)
            );
            let found = format!("{:?}", [low, high]);
            let hint = "set [low, high] with low < high, such as [0.2, 0.8], or set \"none\"";
            cx.refuse_with("finetune.cutmix_minmax", &["data.input_size"], found, &why, hint);
        }
    }
    let on = plan.mixup > 0.0 || plan.cutmix > 0.0 || plan.cutmix_minmax.is_some();
    if on && plan.mixup_mode != MixupMode::Elem && batch_size % 2 == 1 {
        let mode = if plan.mixup_mode == MixupMode::Pair { "\"pair\"" } else { "\"batch\"" };
        let relation = "must be even to form pairs of images for";
        let hint = format!("use `--set finetune.batch_size={}`", batch_size + 1);
        let by = ("finetune.mixup_mode", mode);
        cx.conflict(("finetune.batch_size", batch_size), relation, by, hint);
    }
    on.then_some(plan)
}
