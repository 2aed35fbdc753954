//! Draws the random boxes of torchvision's `RandomResizedCrop`.

use rand::Rng;

use crate::data::decode::picture::CropBox;
use crate::data::draw::{below, uniform};

/// What to do if a random crop is larger than the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CropRule {
    /// Draws up to ten crops, like torchvision. If none fits, uses the largest central crop.
    TenTries,
    /// Draws one crop, like the official linear probe, and clips the crop to the image.
    SingleTry,
}

/// Aspect ratio (width / height) of a crop for a square input: minimum and maximum.
const ASPECT: [f64; 2] = [3.0 / 4.0, 4.0 / 3.0];

/// Draws a random crop inside an image of `width` x `height` pixels.
///
/// `scale` is the range of the crop area, as a fraction of the image area. `aspect` is the aspect ratio (width /
/// height) of the model input. The aspect ratio of the crop is `aspect` times 3/4 to 4/3.
pub fn random_resized_crop(
    rule: CropRule,
    scale: [f64; 2],
    aspect: f64,
    (width, height): (usize, usize),
    rng: &mut impl Rng,
) -> CropBox {
    match rule {
        CropRule::TenTries => {
            for _ in 0..10 {
                let (w, h) = sides(scale, aspect, (width, height), rng);
                if (1..=width).contains(&w) && (1..=height).contains(&h) {
                    return place(w, h, width, height, rng);
                }
            }
            central(aspect, width, height)
        }
        CropRule::SingleTry => {
            let (w, h) = sides(scale, aspect, (width, height), rng);
            // Torch fails if a side is zero. Use one pixel instead.
            place(w.clamp(1, width), h.clamp(1, height), width, height, rng)
        }
    }
}

fn sides(
    scale: [f64; 2],
    aspect: f64,
    (width, height): (usize, usize),
    rng: &mut impl Rng,
) -> (usize, usize) {
    let area = (width * height) as f64 * uniform(rng, scale[0]..scale[1]);
    let aspect = aspect * uniform(rng, ASPECT[0].ln()..ASPECT[1].ln()).exp();
    (
        (area * aspect).sqrt().round_ties_even() as usize,
        (area / aspect).sqrt().round_ties_even() as usize,
    )
}

fn place(w: usize, h: usize, width: usize, height: usize, rng: &mut impl Rng) -> CropBox {
    let top = below(rng, height - h + 1);
    let left = below(rng, width - w + 1);
    CropBox { top, left, height: h, width: w }
}

fn central(aspect: f64, width: usize, height: usize) -> CropBox {
    let [low, high] = ASPECT.map(|bound| bound * aspect);
    let (w, h) = if (width as f64) < low * height as f64 {
        (width, (width as f64 / low).round_ties_even() as usize)
    } else if width as f64 > high * height as f64 {
        ((height as f64 * high).round_ties_even() as usize, height)
    } else {
        (width, height)
    };
    CropBox { top: (height - h) / 2, left: (width - w) / 2, height: h, width: w }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::random::{Key, Purpose};
    use crate::shape::StageKind;

    fn draw(rule: CropRule, scale: [f64; 2], size: [usize; 2], sample: u64) -> CropBox {
        let key = Key { seed: 0, stage: StageKind::Pretrain as u8, epoch: 1 };
        random_resized_crop(
            rule,
            scale,
            1.0,
            (size[0], size[1]),
            &mut key.rng(sample, Purpose::Augment),
        )
    }

    #[test]
    fn an_image_that_is_too_thin_for_any_box_returns_its_centre() {
        let expected = CropBox { top: 193, left: 0, height: 13, width: 10 };
        assert_eq!(draw(CropRule::TenTries, [1.0, 1.0], [10, 400], 0), expected);
        let expected = CropBox { top: 0, left: 193, height: 10, width: 13 };
        assert_eq!(draw(CropRule::TenTries, [1.0, 1.0], [400, 10], 0), expected);
    }

    #[test]
    fn a_single_try_is_cut_to_the_image() {
        let cut = draw(CropRule::SingleTry, [1.0, 1.0], [10, 400], 0);
        assert_eq!((cut.left, cut.width), (0, 10));
        assert!((40..80).contains(&cut.height), "{cut:?}");
    }

    proptest! {
        #[test]
        fn a_box_lies_inside_its_image(
            width in 1usize..40, height in 1usize..40, low in 0.0f64..1.0, sample in 0u64..100,
        ) {
            for rule in [CropRule::TenTries, CropRule::SingleTry] {
                let b = draw(rule, [low, 1.0], [width, height], sample);
                prop_assert!(b.width > 0 && b.left + b.width <= width);
                prop_assert!(b.height > 0 && b.top + b.height <= height);
            }
        }
    }
}
