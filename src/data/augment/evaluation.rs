//! Prepares a picture for evaluation without random augmentation, as in the official code.

use std::borrow::Cow;
use std::ops::Range;

use crate::data::batch::Images;
use crate::data::decode::error::ImageError;
use crate::data::decode::opened_image::OpenedImage;
use crate::data::decode::picture::{CropBox, Picture, Pixels};
use crate::data::decode::resize::bicubic;
use crate::data::times::{LoadPart, LoadTimes};
use crate::recipe::{DataPlan, Format};
use crate::shape::ImageSize;

use super::frame::Frame;

// Side of the crop divided by the short side of the resized picture. For CIFAR and for inputs above 224 pixels, the
// ratio is 1.
const CROP_PCT: f64 = 224.0 / 256.0;

/// Resizes, centre-crops and normalizes pictures for evaluation.
#[derive(Debug, Clone)]
pub struct EvalTransform {
    pub(in crate::data) frame: Frame,
    /// Minimum size of the resized picture before the crop.
    cover: ImageSize,
}

impl EvalTransform {
    pub fn new(plan: &DataPlan) -> Self {
        Self { frame: Frame::new(plan), cover: cover(plan) }
    }

    /// Returns a transform that resizes the short side to `input_size`.
    ///
    /// Use this for ImageNet-C, whose images are already cropped.
    pub fn uncropped(plan: &DataPlan) -> Self {
        Self { frame: Frame::new(plan), cover: plan.input_size }
    }

    /// Returns the length of the short side in pixels, after resizing and before the crop.
    pub fn short_side(&self) -> usize {
        self.cover.height.min(self.cover.width)
    }

    /// Returns the resized, cropped and normalized picture as `[C, H, W]`.
    pub fn apply(&self, picture: &Picture) -> Vec<f32> {
        self.frame.normalize(&centre(picture, self.cover, self.frame.input_size), false)
    }

    /// Decodes, resizes and crops `opened`, and appends the result to `images`.
    pub(in crate::data) fn push(
        &self,
        images: &mut Images,
        opened: OpenedImage<'_>,
        times: &LoadTimes,
    ) -> Result<(), ImageError> {
        let picture = times.time(LoadPart::Decode, || opened.whole())?;
        let size = self.frame.input_size;
        let cropped = times.time(LoadPart::Resize, || centre(&picture, self.cover, size));
        times.time(LoadPart::Augment, || self.frame.push(images, &cropped, false));
        Ok(())
    }
}

/// Returns the length of the short side in pixels, after resizing and before the centre crop.
///
/// For CIFAR, this is `input_size`, so the crop keeps the whole image.
pub fn short_side(plan: &DataPlan) -> usize {
    let cover = cover(plan);
    cover.height.min(cover.width)
}

/// Returns the minimum size of a resized picture before the centre crop.
///
/// The size is `input_size` / 0.875. For CIFAR and for inputs with a side above 224 pixels, the size is
/// `input_size`.
pub(super) fn cover(plan: &DataPlan) -> ImageSize {
    let is_whole = matches!(plan.format, Format::Cifar10 | Format::Cifar100);
    let crop_pct = if plan.input_size.longer() > 224 || is_whole { 1.0 } else { CROP_PCT };
    let side = |side: usize| (side as f64 / crop_pct) as usize;
    ImageSize { height: side(plan.input_size.height), width: side(plan.input_size.width) }
}

/// Resizes the picture to the smallest size that covers `cover`, then crops the centre to `input_size`.
///
/// Returns a picture of floats unchanged if the picture already has the size `input_size`.
pub(super) fn centre(
    picture: &Picture,
    cover: ImageSize,
    input_size: ImageSize,
) -> Cow<'_, Picture> {
    if let (Pixels::F32(_), true) =
        (&picture.pixels, picture.width == input_size.width && picture.height == input_size.height)
    {
        return Cow::Borrowed(picture);
    }
    let (width, height) = resized(picture.width, picture.height, cover);
    let whole = bicubic(picture, picture.whole(), width, height);
    // Rounds 0.5 to even, like Python's `round` in torchvision.
    let offset = |side: usize, crop: usize| ((side - crop) as f64 / 2.0).round_ties_even() as usize;
    let crop = CropBox {
        top: offset(height, input_size.height),
        left: offset(width, input_size.width),
        height: input_size.height,
        width: input_size.width,
    };
    Cow::Owned(cut(&whole, crop))
}

/// Returns the smallest (width, height) that covers `cover` and keeps the aspect ratio.
///
/// For a square `cover`, the short side becomes the side of the square.
pub(in crate::data) fn resized(width: usize, height: usize, cover: ImageSize) -> (usize, usize) {
    if width * cover.height <= height * cover.width {
        (cover.width, cover.width * height / width)
    } else {
        (cover.height * width / height, cover.height)
    }
}

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
