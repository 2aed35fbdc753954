//! Cases `transforms` (resizing, crops, flips), `augment_ops` and `decode`. Differences are in levels from 0 to 255.

use super::case::{Case, Fields, VerifyError};
use super::report::TensorComparison;
use crate::data::{
    Augmentation, CropBox, CropRule, Cut, EvalTransform, Interpolation, Op, Picture, Pixels, Rgb,
    TrainTransform, read_picture,
};
use crate::recipe::{AugmentPlan, CropMode, DataPlan};

pub(super) fn transforms(case: &Case, out: &mut TensorComparison) -> Result<(), VerifyError> {
    let [height, width, channels] = case.shape::<3>("image")?;
    if channels != 3 || height == 0 || width == 0 {
        return Err(case.error("`image` must have the shape [H, W, 3]"));
    }
    let pixels = Pixels::U8(case.levels("image")?);
    let picture = Picture { width, height, channels, pixels };
    let (largest, share) =
        (case.tolerance("tolerance_levels", 4.0)?, case.tolerance("max_differing_fraction", 0.05)?);
    for (i, item) in case.items("items")?.iter().enumerate() {
        let values = match item.text("op")?.as_str() {
            "eval" => evaluated(case, &picture, item, i, out)?,
            "resized_crop" => cropped(case, &picture, item)?,
            other => return Err(item.error(format!("unknown op {other:?}"))),
        };
        let name = format!("out.{i}");
        let got = levels(&values, &case.numbers("mean")?, &case.numbers("std")?);
        out.absolute(&name, &got, &case.levels(&name)?, largest);
        let differing = share_of(&got, &case.levels(&name)?, |a, b| f64::from(a != b));
        out.absolute(format!("{name} (share that differs)"), &[differing], &[0.0], share);
    }
    Ok(())
}

fn evaluated(
    case: &Case,
    picture: &Picture,
    item: &Fields,
    i: usize,
    out: &mut TensorComparison,
) -> Result<Vec<f32>, VerifyError> {
    let transform = EvalTransform::new(&plan(case, item.count("input_size")?)?);
    let (got, expected) = (transform.short_side() as f64, item.number("resize_short_side")?);
    out.absolute(format!("resize_short_side.{i}"), &[got], &[expected], 0.0);
    Ok(transform.apply(picture))
}

fn cropped(case: &Case, picture: &Picture, item: &Fields) -> Result<Vec<f32>, VerifyError> {
    if item.text("interpolation")? != "bicubic" {
        return Err(item.error("`interpolation` must be bicubic, as in training and evaluation"));
    }
    let crop = CropBox {
        top: item.count("top")?,
        left: item.count("left")?,
        height: item.count("height")?,
        width: item.count("width")?,
    };
    let inside =
        crop.top + crop.height <= picture.height && crop.left + crop.width <= picture.width;
    if !inside || crop.height == 0 || crop.width == 0 {
        return Err(item.error(format!("the crop {crop:?} is not inside the image")));
    }
    let augment = AugmentPlan {
        crop: CropMode::Resized,
        crop_scale: [0.5, 1.0],
        hflip: true,
        color_jitter: 0.0,
        aug_repeats: 1,
    };
    let plan = plan(case, item.count("size")?)?;
    let transform = TrainTransform::new(&plan, &augment, CropRule::TenTries);
    Ok(transform.render(picture, Augmentation { cut: Cut::Box(crop), hflip: item.flag("hflip")? }))
}

fn plan(case: &Case, input_size: usize) -> Result<DataPlan, VerifyError> {
    let floats = |key: &str| -> Result<[f32; 3], VerifyError> {
        let values: Vec<f32> = case.numbers(key)?.into_iter().map(|v| v as f32).collect();
        values.try_into().map_err(|_| case.error(format!("`{key}` must have 3 values")))
    };
    if !(1..=4096).contains(&input_size) {
        return Err(
            case.error(format!("the image size must be from 1 to 4096 pixels, not {input_size}"))
        );
    }
    Ok(DataPlan::of_pictures(input_size, floats("mean")?, floats("std")?))
}

/// Compares the results of RandAugment operations with the case. All pixels must be equal.
pub(super) fn augment_ops(case: &Case, out: &mut TensorComparison) -> Result<(), VerifyError> {
    let [height, width, channels] = case.shape::<3>("image")?;
    if channels != 3 || height == 0 || width == 0 {
        return Err(case.error("`image` must have the shape [H, W, 3]"));
    }
    let picture = Rgb { width, height, pixels: case.levels("image")? };
    let fill = case.counts("fill")?;
    let fill: [u8; 3] = fill
        .iter()
        .filter_map(|level| u8::try_from(*level).ok())
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| case.error("`fill` must be three whole numbers from 0 to 255"))?;
    let interpolation = match case.text("interpolation")?.as_str() {
        "bicubic" => Interpolation::Bicubic,
        "bilinear" => Interpolation::Bilinear,
        other => return Err(case.error(format!("unknown `interpolation` {other:?}"))),
    };
    for (i, item) in case.items("items")?.iter().enumerate() {
        let name = item.text("op")?;
        let op = Op::of_name(&name).ok_or_else(|| item.error(format!("unknown op {name:?}")))?;
        let (magnitude, negate) = (item.number("magnitude")?, item.flag("negate")?);
        let args = op.level_args(magnitude, negate);
        let expected = item.numbers("level_args")?;
        out.absolute(format!("{name}.{i} (arguments)"), &args, &expected, 1e-9);
        let got = op.apply(&picture, magnitude, negate, fill, interpolation);
        let tensor = format!("out.{i}");
        let expected = case.levels(&tensor)?;
        out.absolute(format!("{name}.{i} ({tensor})"), &got.pixels, &expected, 0.0);
    }
    Ok(())
}

/// Converts normalized values `[3, H, W]` to 8-bit pixels `[H, W, 3]`.
fn levels(values: &[f32], mean: &[f64], std: &[f64]) -> Vec<u8> {
    let plane = values.len() / 3;
    let level = |i: usize, c: usize| f64::from(values[c * plane + i]) * std[c] + mean[c];
    (0..plane).flat_map(|i| [0, 1, 2].map(|c| (level(i, c) * 255.0).round() as u8)).collect()
}

pub(super) fn decode(case: &Case, out: &mut TensorComparison) -> Result<(), VerifyError> {
    let (largest, mean) =
        (case.tolerance("tolerance_levels", 4.0)?, case.tolerance("mean_tolerance_levels", 1.0)?);
    for file in case.texts("files")? {
        let name = format!("out.{file}");
        let picture = read_picture(&case.folder.join(&file))
            .map_err(|error| case.error(format!("{file}: {error}")))?;
        let Pixels::U8(got) = &picture.pixels else {
            unreachable!("image files are decoded to 8-bit pixels")
        };
        if !case.has_shape(&name, &[picture.height, picture.width, picture.channels]) {
            return Err(case.error(format!(
                "`{name}` is missing, or does not have the size of the image file"
            )));
        }
        let expected = case.levels(&name)?;
        out.absolute(&name, got, &expected, largest);
        let share = share_of(got, &expected, |a, b| f64::from(a.abs_diff(b)));
        out.absolute(format!("{name} (mean)"), &[share], &[0.0], mean);
    }
    for file in case.texts("bad_files")? {
        let path = case.folder.join(&file);
        if !path.is_file() {
            return Err(case.error(format!("{file} does not exist")));
        }
        let read = f64::from(u8::from(read_picture(&path).is_ok()));
        out.absolute(format!("{file} (1 if mae can read the file)"), &[read], &[0.0], 0.0);
    }
    Ok(())
}

/// Returns the mean of `distance` over all pairs of values; infinite if the lengths differ.
fn share_of(got: &[u8], expected: &[u8], distance: impl Fn(u8, u8) -> f64) -> f64 {
    if got.len() != expected.len() {
        return f64::INFINITY;
    }
    got.iter().zip(expected).map(|(a, b)| distance(*a, *b)).sum::<f64>() / got.len() as f64
}
