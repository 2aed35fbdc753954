//! Pictures to what a model gets: resized or cropped, perhaps mirrored, normalized, `[C, H, W]`.

use std::borrow::Cow;

use crate::random::{Key, Purpose};
use crate::recipe::{AugmentPlan, CropMode, DataPlan, ErasingPlan, RandAugmentPlan};

use super::color_jitter::color_jitter;
use super::crop::{CropRule, random_resized_crop};
use super::draw::{below, unit};
use super::erasing;
use super::picture::{CropBox, Picture, Pixels};
use super::rand_augment::{RandAugment, Rgb};
use super::resize::bicubic;

/// The official share of a resized picture that evaluation keeps, up to 224 pixels; past that all of it.
const CROP_PCT: f64 = 224.0 / 256.0;

/// The square that a model gets and the scale of its values.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    input_size: usize,
    mean: Vec<f32>,
    std: Vec<f32>,
    /// The normalized value of each of the 256 levels, for each channel.
    levels: Vec<[f32; 256]>,
}

impl Frame {
    pub(super) fn new(plan: &DataPlan) -> Self {
        let channels = plan.mean.iter().zip(&plan.std);
        let levels = channels
            .map(|(mean, std)| std::array::from_fn(|level| (level as f32 / 255.0 - mean) / std))
            .collect();
        Self { input_size: plan.input_size, mean: plan.mean.clone(), std: plan.std.clone(), levels }
    }

    /// The number of values of an image.
    pub(super) fn len(&self) -> usize {
        self.mean.len() * self.input_size * self.input_size
    }

    /// Gives `[C, H, W]`; a one-channel picture fills every channel.
    fn normalize(&self, picture: &Picture, hflip: bool) -> Vec<f32> {
        let mut out = vec![0.0; self.len()];
        let plane = picture.width * picture.height;
        for (channel, places) in out.chunks_exact_mut(plane).enumerate() {
            let from = if picture.channels == 1 { 0 } else { channel };
            match &picture.pixels {
                Pixels::U8(bytes) => {
                    let levels = &self.levels[channel];
                    let pixels = bytes.chunks_exact(picture.channels);
                    for (place, pixel) in places.iter_mut().zip(pixels) {
                        *place = levels[usize::from(pixel[from])];
                    }
                }
                Pixels::F32(values) => {
                    let (mean, std) = (self.mean[channel], self.std[channel]);
                    let pixels = values.chunks_exact(picture.channels);
                    for (place, pixel) in places.iter_mut().zip(pixels) {
                        *place = (pixel[from] - mean) / std;
                    }
                }
            }
        }
        if hflip {
            out.chunks_exact_mut(picture.width).for_each(<[f32]>::reverse);
        }
        out
    }
}

/// How a training image is changed.
#[derive(Debug, Clone)]
pub struct TrainTransform {
    frame: Frame,
    crop: Crop,
    hflip: bool,
    /// 0 is off.
    color_jitter: f64,
    rand_augment: Option<RandAugment>,
    erasing: Option<ErasingPlan>,
}

/// What a crop is drawn from.
#[derive(Debug, Clone, Copy)]
enum Crop {
    Centre,
    Resized(CropRule, [f64; 2]),
    Fixed,
}

/// What was drawn for one image of one epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Augmentation {
    pub cut: Cut,
    pub hflip: bool,
}

/// The square that becomes the image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cut {
    /// The centre; the short side becomes `input_size`.
    Centre,
    /// This box of the picture, resized to `input_size`.
    Box(CropBox),
    /// A square of `input_size` at these rows and columns, once the short side is evaluation's.
    At([usize; 2]),
}

impl TrainTransform {
    /// Crop, flip, colour jitter and normalization. With a `crop_scale` of `[1, 1]` nothing is cropped at random: the short
    /// side becomes `input_size` and the centre is taken.
    pub fn new(plan: &DataPlan, augment: &AugmentPlan, rule: CropRule) -> Self {
        let crops = augment.crop_scale.iter().any(|&scale| scale < 1.0);
        Self {
            frame: Frame::new(plan),
            crop: match augment.crop {
                CropMode::Fixed => Crop::Fixed,
                CropMode::Resized if crops => Crop::Resized(rule, augment.crop_scale),
                CropMode::Resized => Crop::Centre,
            },
            hflip: augment.hflip,
            color_jitter: augment.color_jitter,
            rand_augment: None,
            erasing: None,
        }
    }

    /// Adds RandAugment, after crop and flip, on whole levels.
    #[must_use]
    pub fn with_rand_augment(mut self, plan: RandAugmentPlan) -> Self {
        self.rand_augment = Some(RandAugment::new(plan, &self.frame.mean));
        self
    }

    /// Adds random erasing, after normalization.
    #[must_use]
    pub fn with_erasing(mut self, erasing: ErasingPlan) -> Self {
        self.erasing = Some(erasing);
        self
    }

    /// Gives `[C, H, W]` of `sample` in the epoch that `key` names.
    pub fn apply(&self, picture: &Picture, key: &Key, sample: u64) -> Vec<f32> {
        let drawn = self.draw(picture, key, sample);
        let mut image = if self.color_jitter > 0.0 || self.rand_augment.is_some() {
            let square = mirrored(self.cropped(picture, drawn.cut).to_rgb(), drawn.hflip);
            self.frame.normalize(&self.recolored(square, key, sample).into(), false)
        } else {
            self.render(picture, drawn)
        };
        if let Some(erasing) = &self.erasing {
            let side = self.frame.input_size;
            erasing::erase(&mut image, side, erasing, &mut key.rng(sample, Purpose::Erase));
        }
        image
    }

    /// Applies what works on whole levels.
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

    fn draw(&self, picture: &Picture, key: &Key, sample: u64) -> Augmentation {
        let mut rng = key.rng(sample, Purpose::Augment);
        let (width, height) = (picture.width, picture.height);
        let cut = match self.crop {
            Crop::Centre => Cut::Centre,
            Crop::Resized(rule, scale) => {
                Cut::Box(random_resized_crop(rule, scale, width, height, &mut rng))
            }
            Crop::Fixed => {
                let side = self.frame.input_size;
                let (width, height) = resized(width, height, eval_short_side(side));
                let top = below(&mut rng, height - side + 1);
                Cut::At([top, below(&mut rng, width - side + 1)])
            }
        };
        Augmentation { cut, hflip: self.hflip && unit(&mut rng) < 0.5 }
    }

    /// Gives `[C, H, W]` as drawn, before erasing.
    pub fn render(&self, picture: &Picture, drawn: Augmentation) -> Vec<f32> {
        self.frame.normalize(&self.cropped(picture, drawn.cut), drawn.hflip)
    }

    /// The square that is cut out, at `input_size`.
    fn cropped<'a>(&self, picture: &'a Picture, drawn: Cut) -> Cow<'a, Picture> {
        let side = self.frame.input_size;
        match drawn {
            Cut::Centre => centre(picture, side, side),
            Cut::Box(crop) => Cow::Owned(bicubic(picture, crop, side, side)),
            Cut::At([top, left]) => {
                let short_side = eval_short_side(side);
                let (width, height) = resized(picture.width, picture.height, short_side);
                let whole = bicubic(picture, picture.whole(), width, height);
                Cow::Owned(cut(&whole, CropBox { top, left, height: side, width: side }))
            }
        }
    }

    pub(super) fn image_len(&self) -> usize {
        self.frame.len()
    }

    pub(super) fn input_size(&self) -> usize {
        self.frame.input_size
    }
}

fn mirrored(mut picture: Rgb, hflip: bool) -> Rgb {
    if hflip {
        let (pixels, _) = picture.pixels.as_chunks_mut::<3>();
        pixels.chunks_exact_mut(picture.width).for_each(<[[u8; 3]]>::reverse);
    }
    picture
}

/// How an image is made ready for evaluation: the official way, without chance.
#[derive(Debug, Clone)]
pub struct EvalTransform {
    frame: Frame,
    /// What the short side is resized to before the centre is taken.
    short_side: usize,
}

impl EvalTransform {
    pub fn new(plan: &DataPlan) -> Self {
        Self { frame: Frame::new(plan), short_side: eval_short_side(plan.input_size) }
    }

    /// What the short side is resized to before the centre is taken, in pixels.
    pub fn short_side(&self) -> usize {
        self.short_side
    }

    /// Gives `[C, H, W]`.
    pub fn apply(&self, picture: &Picture) -> Vec<f32> {
        self.frame.normalize(&centre(picture, self.short_side, self.frame.input_size), false)
    }

    pub(super) fn image_len(&self) -> usize {
        self.frame.len()
    }
}

fn eval_short_side(input_size: usize) -> usize {
    let crop_pct = if input_size <= 224 { CROP_PCT } else { 1.0 };
    (input_size as f64 / crop_pct) as usize
}

/// Resizes the short side to `short_side` and cuts the central square out. A float picture is at its size already.
fn centre(picture: &Picture, short_side: usize, input_size: usize) -> Cow<'_, Picture> {
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
fn resized(width: usize, height: usize, short_side: usize) -> (usize, usize) {
    if width <= height {
        (short_side, short_side * height / width)
    } else {
        (short_side * width / height, short_side)
    }
}

fn cut(picture: &Picture, crop: CropBox) -> Picture {
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
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
) -> Vec<T> {
    values
        .chunks_exact(row)
        .skip(rows.start)
        .take(rows.len())
        .flat_map(|row| &row[columns.clone()])
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Format, Promised, Threads};

    fn plan(input_size: usize) -> DataPlan {
        DataPlan {
            format: Format::ImageFolder,
            path: std::path::PathBuf::new(),
            input_size,
            in_chans: 3,
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
            class_map: None,
            workers: Threads::Auto,
            promised: Promised::default(),
        }
    }

    #[test]
    fn a_flip_mirrors_every_row_of_every_channel() {
        let pixels = Pixels::U8((0..12).collect());
        let picture = Picture { width: 2, height: 2, channels: 3, pixels };
        let frame = Frame::new(&plan(2));
        let (plain, flipped) = (frame.normalize(&picture, false), frame.normalize(&picture, true));
        let mirrored: Vec<f32> = plain.chunks(2).flat_map(|row| [row[1], row[0]]).collect();
        assert_eq!(flipped, mirrored);
        let red = |level: f32| (level / 255.0 - 0.485) / 0.229;
        assert_eq!(plain[..4], [red(0.0), red(3.0), red(6.0), red(9.0)]);
    }

    #[test]
    fn above_224_pixels_evaluation_has_no_margin() {
        assert_eq!(EvalTransform::new(&plan(224)).short_side, 256);
        assert_eq!(EvalTransform::new(&plan(225)).short_side, 225);
    }
}
