//! Cases `mixup` (with recorded lambdas and boxes) and `metrics` (top-1, top-5, cross-entropy).

use super::case::{Case, Fields, VerifyError};
use super::report::TensorComparison;
use crate::data::{Batch, CropBox, Images, Mix, Targets, mix};
use crate::infer;

/// Tolerance for rounding errors in pixels and probabilities.
const ROUNDING: f64 = 1e-6;
/// Tolerance for accuracies (in percentage points) and for losses.
const METRICS: f64 = 1e-5;

pub(super) fn mixup(case: &Case, out: &mut TensorComparison) -> Result<(), VerifyError> {
    for (i, item) in case.items("items")?.iter().enumerate() {
        let (classes, smoothing) = (item.count("num_classes")?, item.number("smoothing")?);
        let [n, _, side, width] = case.shape::<4>(&format!("in.{i}"))?;
        let labels = case.labels(&format!("labels.{i}"), classes)?;
        if side != width || labels.len() != n || n == 0 {
            return Err(case.error(format!(
                "`in.{i}` must be a batch of square images with one label in `labels.{i}` per image"
            )));
        }
        let mut batch = Batch {
            images: Images::Values(case.floats(&format!("in.{i}"))?.into()),
            samples: vec![0; n],
            targets: Targets::Hard(labels),
        };
        let given = given(item, side)?;
        mix(&mut batch, side.into(), &vec![given; n], classes, smoothing);
        out.absolute(
            format!("lam.{i}"),
            &[given.share(side.into())],
            &[item.number("lam_used")?],
            ROUNDING,
        );
        let name = format!("out.{i}");
        let Images::Values(values) = &batch.images else {
            unreachable!("mixing keeps `Images::Values`")
        };
        out.absolute(&name, values, &case.floats(&name)?, ROUNDING);
        let Targets::Soft(targets) = &batch.targets else {
            unreachable!("mixing creates soft targets")
        };
        let name = format!("targets.{i}");
        out.absolute(&name, targets, &case.floats(&name)?, ROUNDING);
    }
    Ok(())
}

/// Returns the recorded mixup lambda or CutMix box of an item.
fn given(item: &Fields, side: usize) -> Result<Mix, VerifyError> {
    if !item.flag("cutmix")? {
        return Ok(Mix::Blend(item.number("lam")?));
    }
    match item.counts("box_yyxx")?[..] {
        [top, bottom, left, right]
            if top <= bottom && left <= right && bottom.max(right) <= side =>
        {
            Ok(Mix::Paste(CropBox { top, left, height: bottom - top, width: right - left }))
        }
        _ => {
            Err(item
                .error(format!("`box_yyxx` must be a box inside an image of {side}x{side} pixels")))
        }
    }
}

pub(super) fn metrics(case: &Case, out: &mut TensorComparison) -> Result<(), VerifyError> {
    let [n, classes] = case.shape::<2>("logits")?;
    let labels = case.labels("labels", classes)?;
    if labels.len() != n || n == 0 {
        return Err(case.error("`logits` must have one row for each label"));
    }
    let metrics = infer::score(&case.floats("logits")?, &labels, classes);
    out.absolute("acc1", &[metrics.top1], &[case.number("acc1")?], METRICS);
    out.absolute("acc5", &[metrics.top5], &[case.number("acc5")?], METRICS);
    out.absolute("loss", &[metrics.loss], &[case.number("loss")?], METRICS);
    Ok(())
}
