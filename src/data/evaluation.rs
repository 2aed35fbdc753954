//! How an image is made ready for evaluation: the official way, without chance.

use std::borrow::Cow;
use std::ops::Range;

use crate::recipe::{DataPlan, Format};

use super::batch::Images;
use super::decode::OpenedImage;
use super::frame::Frame;
use super::picture::{CropBox, Picture, Pixels};
use super::resize::bicubic;
use super::times::{LoadPart, LoadTimes};

/// The official share of a resized picture that evaluation keeps, up to 224 pixels; past that all of it.
const CROP_PCT: f64 = 224.0 / 256.0;

/// Resizes, takes the centre, normalizes.
#[derive(Debug, Clone)]
pub struct EvalTransform {
    pub(super) frame: Frame,
    /// What the short side is resized to before the centre is taken.
    short_side: usize,
}

impl EvalTransform {
    pub fn new(plan: &DataPlan) -> Self {
        Self { frame: Frame::new(plan), short_side: short_side(plan) }
    }

    /// What the short side is resized to before the centre is taken, in pixels.
    pub fn short_side(&self) -> usize {
        self.short_side
    }

    /// Gives `[C, H, W]`.
    pub fn apply(&self, picture: &Picture) -> Vec<f32> {
        self.frame.normalize(&centre(picture, self.short_side, self.frame.input_size), false)
    }

    /// Puts an opened picture behind `images`.
    pub(super) fn push(
        &self,
        images: &mut Images,
        opened: OpenedImage<'_>,
        times: &LoadTimes,
    ) -> Result<(), String> {
        let picture = times.time(LoadPart::Decode, || opened.whole())?;
        let side = self.frame.input_size;
        let square = times.time(LoadPart::Resize, || centre(&picture, self.short_side, side));
        times.time(LoadPart::Augment, || self.frame.push(images, &square, false));
        Ok(())
    }
}

/// What evaluation resizes the short side to. CIFAR's images are nothing but their centre.
pub fn short_side(plan: &DataPlan) -> usize {
    let is_centre = matches!(plan.format, Format::Cifar10 | Format::Cifar100);
    let crop_pct = if plan.input_size > 224 || is_centre { 1.0 } else { CROP_PCT };
    (plan.input_size as f64 / crop_pct) as usize
}

/// Resizes the short side to `short_side` and cuts the central square out. A float picture is at its size already.
pub(super) fn centre(picture: &Picture, short_side: usize, input_size: usize) -> Cow<'_, Picture> {
    if let (Pixels::F32(_), true) =
        (&picture.pixels, picture.width == input_size && picture.height == input_size)
    {
        return Cow::Borrowed(picture);
    }
    let (width, height) = resized(picture.width, picture.height, short_side);
    let whole = bicubic(picture, picture.whole(), width, height);
    // Halves are rounded to even, as by Python's `round` in torchvision.
    let offset = |side: usize| ((side - input_size) as f64 / 2.0).round_ties_even() as usize;
    let crop =
        CropBox { top: offset(height), left: offset(width), height: input_size, width: input_size };
    Cow::Owned(cut(&whole, crop))
}

/// The size at which the shorter side is `short_side`; the longer one is rounded down.
pub(super) fn resized(width: usize, height: usize, short_side: usize) -> (usize, usize) {
    if width <= height {
        (short_side, short_side * height / width)
    } else {
        (short_side * width / height, short_side)
    }
}

/// Gives the part of a picture inside `crop`.
pub(super) fn cut(picture: &Picture, crop: CropBox) -> Picture {
    let row = picture.width * picture.channels;
    let columns = crop.left * picture.channels..(crop.left + crop.width) * picture.channels;
    let rows = crop.top..crop.top + crop.height;
    let pixels = match &picture.pixels {
        Pixels::U8(v) => Pixels::U8(cut_rows(v, row, rows, columns)),
        Pixels::F32(v) => Pixels::F32(cut_rows(v, row, rows, columns)),
    };
    Picture { width: crop.width, height: crop.height, channels: picture.channels, pixels }
}

fn cut_rows<T: Copy>(
    values: &[T],
    row: usize,
    rows: Range<usize>,
    columns: Range<usize>,
) -> Vec<T> {
    values
        .chunks_exact(row)
        .skip(rows.start)
        .take(rows.len())
        .flat_map(|row| &row[columns.clone()])
        .copied()
        .collect()
}
