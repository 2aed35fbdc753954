//! Case `distributions`: compares random crops and erasing boxes with recorded quantiles.

use super::case::{Case, Fields, VerifyError};
use super::report::TensorComparison;
use crate::data::{CropBox, CropRule, erasing_boxes, random_resized_crop};
use crate::random::{Key, Purpose};
use crate::recipe::{EraseMode, ErasingPlan};
use crate::shape::StageKind;

const KEY: Key = Key { seed: 0, stage: StageKind::Pretrain as u8, epoch: 1 };

pub(super) fn distributions(case: &Case, out: &mut TensorComparison) -> Result<(), VerifyError> {
    let draws = case.count("draws")?;
    if draws < 100 {
        return Err(case.error("`draws` must be at least 100"));
    }
    for (i, item) in case.items("random_resized_crop")?.iter().enumerate() {
        crops(item, draws, &format!("random_resized_crop.{i}"), out)?;
    }
    erasings(&case.inner("random_erasing")?, draws, out)
}

fn crops(
    item: &Fields,
    draws: usize,
    name: &str,
    out: &mut TensorComparison,
) -> Result<(), VerifyError> {
    let [width, height] = pair(item, "image")?;
    let [low, high]: [f64; 2] = item
        .numbers("scale")?
        .try_into()
        .map_err(|_| item.error("`scale` must have two values"))?;
    let boxes: Vec<CropBox> = (0..draws as u64)
        .map(|sample| {
            let rng = &mut KEY.rng(sample, Purpose::Augment);
            random_resized_crop(CropRule::TenTries, [low, high], 1.0, (width, height), rng)
        })
        .collect();
    let (w, h) = (width as f64, height as f64);
    let mut check = |key: &str, value: &dyn Fn(&CropBox) -> f64| {
        let drawn: Vec<f64> = boxes.iter().map(value).collect();
        quantiles(&item.inner(key)?, &drawn, &format!("{name}.{key}"), out)
    };
    check("area", &|b| (b.width * b.height) as f64 / (w * h))?;
    check("aspect", &|b| b.width as f64 / b.height as f64)?;
    check("centre_x", &|b| (b.left as f64 + b.width as f64 / 2.0) / w)?;
    check("centre_y", &|b| (b.top as f64 + b.height as f64 / 2.0) / h)
}

fn erasings(item: &Fields, draws: usize, out: &mut TensorComparison) -> Result<(), VerifyError> {
    let ([width, side], prob) = (pair(item, "image")?, item.number("prob")?);
    if width != side || !(prob > 0.0 && prob <= 1.0) {
        return Err(item.error("`image` must be square, and `prob` must be above 0 and at most 1"));
    }
    let plan = ErasingPlan { reprob: prob, remode: EraseMode::Pixel, recount: 1 };
    // A random box appears with probability `prob`. So this loop makes about `draws` boxes.
    let images = (draws as f64 / prob) as usize;
    let boxes: Vec<CropBox> = (0..images as u64)
        .flat_map(|sample| erasing_boxes(side.into(), &plan, &mut KEY.rng(sample, Purpose::Erase)))
        .collect();
    let hits = boxes.len() as f64 / images as f64;
    let tolerance = 5.0 * (2.0 * prob * (1.0 - prob) / draws as f64).sqrt();
    let expected = item.number("hit_fraction")?;
    out.absolute("random_erasing.hit_fraction", &[hits], &[expected], tolerance);
    let area: Vec<f64> =
        boxes.iter().map(|b| (b.width * b.height) as f64 / (side * side) as f64).collect();
    quantiles(&item.inner("area")?, &area, "random_erasing.area", out)?;
    let aspect: Vec<f64> = boxes.iter().map(|b| b.height as f64 / b.width as f64).collect();
    let name = "random_erasing.aspect_h_over_w";
    quantiles(&item.inner("aspect_h_over_w")?, &aspect, name, out)
}

/// Compares the distribution of `drawn` with recorded quantiles.
///
/// The tolerance is 5 standard errors of the difference between two samples.
fn quantiles(
    item: &Fields,
    drawn: &[f64],
    name: &str,
    out: &mut TensorComparison,
) -> Result<(), VerifyError> {
    let n = drawn.len() as f64;
    for (p, quantile) in item.by_name("quantiles")? {
        let share: f64 = p
            .parse()
            .map_err(|_| item.error(format!("the key {p:?} in `quantiles` must be a number")))?;
        let tolerance = 5.0 * (2.0 * share * (1.0 - share) / n).sqrt();
        // Sides are whole pixels, so many values may be equal to a quantile. The recorded quantile is rounded to 5
        // decimals. Equal values must not count as below it.
        let below = drawn.iter().filter(|d| **d < quantile - 1e-5).count() as f64 / n;
        let up_to = drawn.iter().filter(|d| **d <= quantile + 1e-5).count() as f64 / n;
        let nearest = share.clamp(below, up_to);
        out.absolute(format!("{name} (share below {p})"), &[nearest], &[share], tolerance);
    }
    Ok(())
}

fn pair(item: &Fields, key: &str) -> Result<[usize; 2], VerifyError> {
    match item.counts(key)?[..] {
        [a, b] if a > 0 && b > 0 && a.max(b) <= 65_500 => Ok([a, b]),
        _ => {
            Err(item
                .error(format!("`{key}` must be an image size: two whole numbers from 1 to 65500")))
        }
    }
}
