//! Prepares a picture for training: crop, flip, colours, normalization, erasing.

use std::borrow::Cow;

use crate::data::batch::Images;
use crate::data::decode::error::ImageError;
use crate::data::decode::opened_image::OpenedImage;
use crate::data::decode::picture::{CropBox, Picture};
use crate::data::decode::resize::{bicubic, fast_bicubic};
use crate::data::draw::{below, unit};
use crate::data::times::{LoadPart, LoadTimes};
use crate::random::{Key, Purpose};
use crate::recipe::{AugmentPlan, CropMode, DataPlan, Decode, ErasingPlan, RandAugmentPlan};
use crate::shape::ImageSize;

use super::color_jitter::color_jitter;
use super::crop::{CropRule, random_resized_crop};
use super::erasing;
use super::evaluation::{centre, cover, cut, resized};
use super::frame::Frame;
use super::rand_augment::policy::RandAugment;
use super::rand_augment::rgb::Rgb;

/// Prepares pictures for training, with random augmentation.
#[derive(Debug, Clone)]
pub struct TrainTransform {
    pub(in crate::data) frame: Frame,
    decode: Decode,
    crop: Crop,
    /// Minimum size of the resized picture for [`Cut::At`], the same as in evaluation.
    eval_cover: ImageSize,
    hflip: bool,
    /// Number of times that an epoch uses each image (repeated augmentation).
    pub(in crate::data) aug_repeats: usize,
    /// Strength of the colour jitter; 0 disables colour jitter.
    color_jitter: f64,
    rand_augment: Option<RandAugment>,
    erasing: Option<ErasingPlan>,
}

#[derive(Debug, Clone, Copy)]
enum Crop {
    Centre,
    Resized(CropRule, [f64; 2]),
    Fixed,
}

/// The random crop and flip of one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Augmentation {
    pub cut: Cut,
    pub hflip: bool,
}

/// The part of a picture that becomes the model input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cut {
    /// The centre, after the short side is resized to `input_size`.
    Centre,
    /// A box, which is then resized to `input_size`.
    Box(CropBox),
    /// A part of the size `input_size`, with the top left corner at `[row, column]` in pixels.
    ///
    /// The picture is first resized as in evaluation.
    At([usize; 2]),
}

impl TrainTransform {
    /// Creates a transform with crop, flip, colour jitter and normalization.
    ///
    /// With `crop_scale = [1, 1]`, crops the centre instead of a random box.
    pub fn new(plan: &DataPlan, augment: &AugmentPlan, rule: CropRule) -> Self {
        let crops = augment.crop_scale.iter().any(|&scale| scale < 1.0);
        Self {
            frame: Frame::new(plan),
            decode: plan.decode,
            crop: match augment.crop {
                CropMode::Fixed => Crop::Fixed,
                CropMode::Resized if crops => Crop::Resized(rule, augment.crop_scale),
                CropMode::Resized => Crop::Centre,
            },
            eval_cover: cover(plan),
            hflip: augment.hflip,
            aug_repeats: augment.aug_repeats,
            color_jitter: augment.color_jitter,
            rand_augment: None,
            erasing: None,
        }
    }

    /// Adds RandAugment after crop and flip.
    #[must_use]
    pub fn with_rand_augment(mut self, plan: RandAugmentPlan) -> Self {
        self.rand_augment = Some(RandAugment::new(plan, &self.frame.scale.mean));
        self
    }

    /// Adds random erasing after normalization.
    #[must_use]
    pub fn with_erasing(mut self, erasing: ErasingPlan) -> Self {
        self.erasing = Some(erasing);
        self
    }

    /// Returns whether normalization is the last step, so that the device can normalize.
    pub(in crate::data) fn ends_in_levels(&self) -> bool {
        self.erasing.is_none()
    }

    /// Augments an image and appends the result to `images`.
    ///
    /// `key` and `sample` determine the random numbers.
    pub(in crate::data) fn push(
        &self,
        images: &mut Images,
        opened: OpenedImage<'_>,
        key: &Key,
        sample: u64,
        times: &LoadTimes,
    ) -> Result<(), ImageError> {
        let drawn = self.draw(opened.size(), key, sample);
        let (picture, cut) = times.time(LoadPart::Decode, || self.decoded(opened, drawn.cut))?;
        let square = times.time(LoadPart::Resize, || self.square(&picture, cut));
        times.time(LoadPart::Augment, || {
            if self.color_jitter > 0.0 || self.rand_augment.is_some() {
                let square = mirrored(Rgb::from(&*square), drawn.hflip);
                self.frame.push(images, &self.recolored(square, key, sample).into(), false);
            } else {
                self.frame.push(images, &square, drawn.hflip);
            }
            if let (Some(erasing), Images::Values(values)) = (&self.erasing, &mut *images) {
                let (size, start) = (self.frame.input_size, values.len() - self.frame.len());
                let rng = &mut key.rng(sample, Purpose::Erase);
                erasing::erase(&mut values[start..], size, erasing, rng);
            }
        });
        Ok(())
    }

    /// Decodes the pixels that `cut` needs. Also returns `cut` in coordinates of the decoded picture.
    fn decoded(&self, opened: OpenedImage<'_>, cut: Cut) -> Result<(Picture, Cut), ImageError> {
        let Cut::Box(crop) = cut else { return Ok((opened.whole()?, cut)) };
        let (picture, crop) = match self.decode {
            Decode::Exact => opened.around(crop)?,
            Decode::Fast => opened.fast_around(crop, self.frame.input_size)?,
        };
        Ok((picture, Cut::Box(crop)))
    }

    fn recolored(&self, mut square: Rgb, key: &Key, sample: u64) -> Rgb {
        if self.color_jitter > 0.0 {
            let rng = &mut key.rng(sample, Purpose::ColorJitter);
            square = color_jitter(square, self.color_jitter, rng);
        }
        match &self.rand_augment {
            Some(policy) => policy.apply(&square, &mut key.rng(sample, Purpose::RandAugment)),
            None => square,
        }
    }

    fn draw(&self, (width, height): (usize, usize), key: &Key, sample: u64) -> Augmentation {
        let mut rng = key.rng(sample, Purpose::Augment);
        let aspect = self.frame.input_size.width as f64 / self.frame.input_size.height as f64;
        let cut = match self.crop {
            Crop::Centre => Cut::Centre,
            Crop::Resized(rule, scale) => {
                Cut::Box(random_resized_crop(rule, scale, aspect, (width, height), &mut rng))
            }
            Crop::Fixed => {
                let size = self.frame.input_size;
                let (width, height) = resized(width, height, self.eval_cover);
                let top = below(&mut rng, height - size.height + 1);
                Cut::At([top, below(&mut rng, width - size.width + 1)])
            }
        };
        Augmentation { cut, hflip: self.hflip && unit(&mut rng) < 0.5 }
    }

    /// Crops, flips and normalizes a picture. Returns `[C, H, W]`.
    ///
    /// Skips colour jitter, RandAugment and random erasing.
    pub fn render(&self, picture: &Picture, drawn: Augmentation) -> Vec<f32> {
        self.frame.normalize(&self.square(picture, drawn.cut), drawn.hflip)
    }

    fn square<'a>(&self, picture: &'a Picture, drawn: Cut) -> Cow<'a, Picture> {
        let size = self.frame.input_size;
        let ImageSize { height: high, width: wide } = size;
        match drawn {
            Cut::Centre => centre(picture, size, size),
            Cut::Box(crop) => Cow::Owned(match self.decode {
                Decode::Exact => bicubic(picture, crop, wide, high),
                Decode::Fast => fast_bicubic(picture, crop, wide, high),
            }),
            Cut::At([top, left]) => {
                let (width, height) = resized(picture.width, picture.height, self.eval_cover);
                let whole = bicubic(picture, picture.whole(), width, height);
                Cow::Owned(cut(&whole, CropBox { top, left, height: high, width: wide }))
            }
        }
    }
}

fn mirrored(mut picture: Rgb, hflip: bool) -> Rgb {
    if hflip {
        let (pixels, _) = picture.pixels.as_chunks_mut::<3>();
        pixels.chunks_exact_mut(picture.width).for_each(<[[u8; 3]]>::reverse);
    }
    picture
}
