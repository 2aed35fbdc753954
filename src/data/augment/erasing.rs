//! Random erasing as in timm 0.3.2: fills boxes of a normalized image with zeros, a colour or noise.

use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::data::decode::picture::CropBox;
use crate::data::draw::{below, uniform, unit};
use crate::recipe::{EraseMode, ErasingPlan};
use crate::shape::ImageSize;

/// Range of the total erased area, as a fraction of the image area.
const AREA: [f64; 2] = [0.02, 1.0 / 3.0];
/// Range of the aspect ratio (height / width) of an erased box.
const ASPECT: [f64; 2] = [0.3, 1.0 / 0.3];

/// Erases random boxes of `image`, `[C, H, W]`, in place, as in timm.
pub(super) fn erase(image: &mut [f32], size: ImageSize, plan: &ErasingPlan, rng: &mut impl Rng) {
    for area in erasing_boxes(size, plan, rng) {
        fill(image, size, area, plan.remode, rng);
    }
}

/// Draws the boxes to erase in one image.
///
/// With probability `plan.reprob`, draws 1 to `plan.recount` boxes. Otherwise, draws no box.
pub fn erasing_boxes(size: ImageSize, plan: &ErasingPlan, rng: &mut impl Rng) -> Vec<CropBox> {
    if unit(rng) >= plan.reprob {
        return Vec::new();
    }
    let count = 1 + below(rng, plan.recount.max(1));
    (0..count).filter_map(|_| draw_box(size, count, rng)).collect()
}

/// Draws one of `count` boxes to erase.
///
/// The area of the box is 1/`count` of a random area in the range [`AREA`]. Returns `None` if ten boxes did not fit
/// into the image.
fn draw_box(size: ImageSize, count: usize, rng: &mut impl Rng) -> Option<CropBox> {
    (0..10).find_map(|_| {
        let area = uniform(rng, AREA[0]..AREA[1]) * size.area() as f64 / count as f64;
        let aspect = uniform(rng, ASPECT[0].ln()..ASPECT[1].ln()).exp();
        let height = (area * aspect).sqrt().round_ties_even() as usize;
        let width = (area / aspect).sqrt().round_ties_even() as usize;
        (height < size.height && width < size.width).then(|| CropBox {
            top: below(rng, size.height - height + 1),
            left: below(rng, size.width - width + 1),
            height,
            width,
        })
    })
}

fn fill(image: &mut [f32], size: ImageSize, area: CropBox, remode: EraseMode, rng: &mut impl Rng) {
    for channel in image.chunks_exact_mut(size.area()) {
        let colour: f32 = StandardNormal.sample(rng);
        for row in channel.chunks_exact_mut(size.width).skip(area.top).take(area.height) {
            for value in &mut row[area.left..area.left + area.width] {
                *value = match remode {
                    EraseMode::Const => 0.0,
                    EraseMode::Rand => colour,
                    EraseMode::Pixel => StandardNormal.sample(rng),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Key, Purpose};
    use crate::shape::StageKind;

    fn erased(remode: EraseMode, reprob: f64, sample: u64) -> Vec<f32> {
        let plan = ErasingPlan { reprob, remode, recount: 1 };
        let key = Key { seed: 3, stage: StageKind::Finetune as u8, epoch: 1 };
        let mut image = vec![7.0; 3 * 16 * 16];
        erase(&mut image, 16.into(), &plan, &mut key.rng(sample, Purpose::Erase));
        image
    }

    #[test]
    fn a_box_has_zeros_one_colour_or_noise() {
        let changed = |image: Vec<f32>| -> Vec<f32> {
            image[..256].iter().copied().filter(|v| *v < 6.9).collect()
        };
        let zeros = changed(erased(EraseMode::Const, 1.0, 0));
        assert!(!zeros.is_empty());
        assert_eq!(zeros, vec![0.0; zeros.len()]);
        let colour = changed(erased(EraseMode::Rand, 1.0, 0));
        assert_eq!(colour, vec![colour[0]; zeros.len()]);
        let noise = changed(erased(EraseMode::Pixel, 1.0, 0));
        assert_eq!(noise.len(), zeros.len());
        assert_ne!(noise, vec![noise[0]; zeros.len()]);
    }

    #[test]
    fn recount_shares_the_area_among_its_boxes() {
        let plan = ErasingPlan { reprob: 1.0, remode: EraseMode::Const, recount: 4 };
        let key = Key { seed: 0, stage: StageKind::Finetune as u8, epoch: 1 };
        let counts: Vec<usize> = (0..200)
            .map(|sample| {
                let all = erasing_boxes(64.into(), &plan, &mut key.rng(sample, Purpose::Erase));
                let area: usize = all.iter().map(|b| b.width * b.height).sum();
                assert!(area < 64 * 64 * 2 / 5, "{area}");
                all.len()
            })
            .collect();
        assert_eq!((counts.iter().min(), counts.iter().max()), (Some(&1), Some(&4)));
    }

    #[test]
    fn reprob_zero_erases_nothing() {
        assert!((0..100).all(|sample| erased(EraseMode::Const, 0.0, sample) == vec![7.0; 768]));
    }
}
