//! Mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899) of a micro-batch, as in timm 0.3.2.
//!
//! Image `i` is mixed with image `n - 1 - i`, its partner. The recipe key `mixup_mode` says how often a [`Mix`] is
//! drawn: once for the batch (`batch`), once for each pair (`pair`) or once for each image (`elem`). Unlike in timm, a
//! batch may have an odd number of images. The middle image is then mixed with itself.

use rand::Rng;
use rand_distr::{Beta, Distribution};

use crate::data::batch::{Batch, Images, Targets};
use crate::data::decode::picture::CropBox;
use crate::data::draw::{below, unit};
use crate::random::{Key, Purpose};
use crate::recipe::{MixupMode, MixupPlan};
use crate::shape::{ImageSize, mixed_targets};

/// Mixes the images of a batch by mixup or CutMix, and replaces the labels by soft targets.
#[derive(Debug, Clone)]
pub struct Mixup {
    pub plan: MixupPlan,
    /// Label smoothing: the probability mass that all classes share.
    pub smoothing: f64,
    pub num_classes: usize,
}

/// How to mix an image with another image of the batch, its partner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mix {
    Keep,
    /// Mixup. The number is the weight of the image. The partner has the remaining weight.
    Blend(f64),
    /// CutMix. The partner's pixels fill this box.
    Paste(CropBox),
}

impl Mixup {
    /// Mixes the images of `batch` in place, and replaces the labels by soft targets.
    ///
    /// `key` and `micro_step` determine the random numbers. Panics if `batch` has soft targets or 8-bit pixel values.
    pub(in crate::data) fn apply(
        &self,
        batch: &mut Batch,
        size: ImageSize,
        key: &Key,
        micro_step: usize,
    ) {
        let mut rng = key.rng(micro_step as u64, Purpose::Mixup);
        let mixes = self.draw(batch.len(), size, &mut rng);
        mix(batch, size, &mixes, self.num_classes, self.smoothing);
    }

    fn draw(&self, n: usize, size: ImageSize, rng: &mut impl Rng) -> Vec<Mix> {
        match self.plan.mixup_mode {
            MixupMode::Batch => vec![self.draw_one(size, rng); n],
            MixupMode::Elem => (0..n).map(|_| self.draw_one(size, rng)).collect(),
            MixupMode::Pair => {
                let mut mixes: Vec<Mix> = (0..n / 2).map(|_| self.draw_one(size, rng)).collect();
                mixes.resize(n - n / 2, Mix::Keep);
                let mirrored: Vec<Mix> = mixes[..n / 2].iter().rev().copied().collect();
                mixes.extend(mirrored);
                mixes
            }
        }
    }

    fn draw_one(&self, size: ImageSize, rng: &mut impl Rng) -> Mix {
        let plan = &self.plan;
        // `cutmix_minmax` enables CutMix, and then the value of `cutmix` has no effect.
        let cutmix = if plan.cutmix_minmax.is_some() { 1.0 } else { plan.cutmix };
        if unit(rng) >= plan.mixup_prob || (plan.mixup <= 0.0 && cutmix <= 0.0) {
            return Mix::Keep;
        }
        let pastes = cutmix > 0.0 && (plan.mixup <= 0.0 || unit(rng) < plan.mixup_switch_prob);
        if !pastes {
            return Mix::Blend(beta(plan.mixup, rng));
        }
        match plan.cutmix_minmax {
            Some(bounds) => Mix::Paste(bounded_box(bounds, size, rng)),
            None => Mix::Paste(box_of_area(1.0 - beta(cutmix, rng), size, rng)),
        }
    }
}

/// Mixes the images of `batch` in place, and replaces the labels by soft targets.
///
/// `mixes[i]` says how to mix image `i` with image `N - 1 - i`. Panics if `batch` has soft targets or 8-bit pixel
/// values.
pub fn mix(batch: &mut Batch, size: ImageSize, mixes: &[Mix], num_classes: usize, smoothing: f64) {
    let Images::Values(values) = &mut batch.images else { panic!("mixup needs normalized images") };
    mix_images(values, mixes, size);
    let Targets::Hard(labels) = &batch.targets else { panic!("a batch is mixed only once") };
    let shares: Vec<f64> = mixes.iter().map(|mix| mix.share(size)).collect();
    batch.targets = Targets::Soft(mixed_targets(labels, &shares, num_classes, smoothing));
}

impl Mix {
    /// Returns the weight of the image's own label in the soft target.
    ///
    /// The partner's label gets the remaining weight. `size` is the image size.
    pub fn share(self, size: ImageSize) -> f64 {
        match self {
            Mix::Keep => 1.0,
            Mix::Blend(lam) => lam,
            Mix::Paste(area) => 1.0 - (area.width * area.height) as f64 / size.area() as f64,
        }
    }
}

fn beta(alpha: f64, rng: &mut impl Rng) -> f64 {
    Beta::new(alpha, alpha).expect("mixup and cutmix are above 0").sample(rng)
}

/// Draws a random box that covers the fraction `share` of the image.
///
/// The box has the aspect ratio of the image. Parts outside the image are cut off.
fn box_of_area(share: f64, size: ImageSize, rng: &mut impl Rng) -> CropBox {
    let mut span = |side: usize| {
        let half = (side as f64 * share.sqrt()) as usize / 2;
        let centre = below(rng, side);
        (centre.saturating_sub(half), (centre + half).min(side))
    };
    let ((top, bottom), (left, right)) = (span(size.height), span(size.width));
    CropBox { top, left, height: bottom - top, width: right - left }
}

/// Draws a box. Each side is a random fraction of the image side, from `bounds[0]` to `bounds[1]`.
fn bounded_box(bounds: [f64; 2], size: ImageSize, rng: &mut impl Rng) -> CropBox {
    let mut length = |side: usize| {
        let [low, high] = bounds.map(|bound| (side as f64 * bound) as usize);
        low + below(rng, high.saturating_sub(low))
    };
    let (height, width) = (length(size.height), length(size.width));
    let top = below(rng, size.height - height);
    let left = below(rng, size.width - width);
    CropBox { top, left, height, width }
}

/// Mixes each image `i` of `images`, `[N, C, H, W]`, with the unmixed image `N - 1 - i`.
fn mix_images(images: &mut [f32], mixes: &[Mix], size: ImageSize) {
    let n = mixes.len();
    if n == 0 {
        return;
    }
    let len = images.len() / n;
    for i in 0..n / 2 {
        let j = n - 1 - i;
        let (head, tail) = images.split_at_mut(j * len);
        let (first, second) = (&mut head[i * len..(i + 1) * len], &mut tail[..len]);
        mix_pair(first, second, mixes[i], mixes[j], size);
    }
}

fn mix_pair(first: &mut [f32], second: &mut [f32], mix: Mix, mix_second: Mix, size: ImageSize) {
    match (mix, mix_second) {
        (Mix::Keep, Mix::Keep) => {}
        (Mix::Paste(area), Mix::Paste(other)) if area == other => {
            for at in rows(area, size, first.len()) {
                first[at.clone()].swap_with_slice(&mut second[at]);
            }
        }
        _ => {
            let before = first.to_vec();
            mix_into(first, second, mix, size);
            mix_into(second, &before, mix_second, size);
        }
    }
}

fn mix_into(image: &mut [f32], partner: &[f32], mix: Mix, size: ImageSize) {
    match mix {
        Mix::Keep => {}
        Mix::Blend(lam) => {
            let (own, other) = (lam as f32, (1.0 - lam) as f32);
            image.iter_mut().zip(partner).for_each(|(a, b)| *a = *a * own + b * other);
        }
        Mix::Paste(area) => {
            for at in rows(area, size, image.len()) {
                image[at.clone()].copy_from_slice(&partner[at]);
            }
        }
    }
}

/// Returns the index range of each pixel row inside `area`, for an image `[C, H, W]`.
fn rows(
    area: CropBox,
    size: ImageSize,
    len: usize,
) -> impl Iterator<Item = std::ops::Range<usize>> {
    let channels = (0..len).step_by(size.area());
    channels.flat_map(move |channel| {
        (area.top..area.top + area.height).map(move |y| {
            let start = channel + y * size.width + area.left;
            start..start + area.width
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::shape::StageKind;

    fn mixup(mixup: f64, cutmix: f64, mixup_mode: MixupMode) -> Mixup {
        let plan = MixupPlan {
            mixup,
            cutmix,
            cutmix_minmax: None,
            mixup_prob: 1.0,
            mixup_switch_prob: 0.5,
            mixup_mode,
        };
        Mixup { plan, smoothing: 0.1, num_classes: 5 }
    }

    fn key(seed: u64) -> Key {
        Key { seed, stage: StageKind::Finetune as u8, epoch: 1 }
    }

    #[test]
    fn a_pair_shares_its_mix_and_elem_draws_for_each_image() {
        let pairs =
            mixup(0.8, 1.0, MixupMode::Pair).draw(7, 16.into(), &mut key(0).rng(0, Purpose::Mixup));
        assert_eq!(pairs.len(), 7);
        assert!((0..7).all(|i| pairs[i] == pairs[6 - i]));
        assert!(pairs[3] == Mix::Keep && pairs[0] != pairs[1]);
        let elems =
            mixup(0.8, 0.0, MixupMode::Elem).draw(4, 16.into(), &mut key(0).rng(0, Purpose::Mixup));
        assert!(elems[0] != elems[3]);
    }

    #[test]
    fn boxes_keep_to_their_bounds() {
        let mut cut = mixup(0.0, 0.0, MixupMode::Batch);
        cut.plan.cutmix_minmax = Some([0.25, 0.75]);
        for micro_step in 0..200 {
            let mix = cut.draw_one(16.into(), &mut key(0).rng(micro_step, Purpose::Mixup));
            let Mix::Paste(area) = mix else { panic!("bounds switch CutMix on") };
            assert!((4..12).contains(&area.height) && (4..12).contains(&area.width));
            assert!(area.top + area.height <= 16 && area.left + area.width <= 16);
        }
    }

    proptest! {
        #[test]
        fn targets_add_up_to_one_and_every_value_is_between_its_sources(
            seed in 0u64..1000, n in 1usize..9, mode in 0usize..3,
        ) {
            let mode = [MixupMode::Batch, MixupMode::Pair, MixupMode::Elem][mode];
            let values: Vec<f32> = (0..n).flat_map(|i| vec![i as f32; 2 * 8 * 8]).collect();
            let labels = (0..n).map(|i| (i % 5) as u32).collect();
            let samples = vec![0; n];
            let images = Images::Values(values.into());
            let mut batch = Batch { images, targets: Targets::Hard(labels), samples };
            mixup(0.8, 1.0, mode).apply(&mut batch, 8.into(), &key(seed), 3);
            let Targets::Soft(rows) = &batch.targets else { panic!("soft targets") };
            for row in rows.chunks_exact(5) {
                prop_assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                prop_assert!(row.iter().all(|p| (0.019..1.0).contains(p)));
            }
            let Images::Values(values) = &batch.images else { panic!("values") };
            for (i, image) in values.chunks_exact(128).enumerate() {
                let (a, b) = (i as f32, (n - 1 - i) as f32);
                prop_assert!(image.iter().all(|v| a.min(b) - 1e-4 <= *v && *v <= a.max(b) + 1e-4));
            }
        }
    }
}
