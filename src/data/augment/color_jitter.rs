//! Colour jitter as in torchvision's `ColorJitter(x, x, x)` on Pillow images: brightness, contrast and saturation.

use rand::Rng;

use crate::data::draw::{below, uniform};

use super::rand_augment::blend::{brightness, color, contrast};
use super::rand_augment::rgb::Rgb;

#[derive(Debug, Clone, Copy, PartialEq)]
struct DrawnJitter {
    /// Random multipliers for brightness, contrast and saturation.
    factors: [f64; 3],
    /// Order in which the factors are applied, as random indices into `factors`.
    order: [usize; 3],
}

/// Multiplies brightness, contrast and saturation by random factors from `1 - jitter` to `1 + jitter`.
pub(super) fn color_jitter(picture: Rgb, jitter: f64, rng: &mut impl Rng) -> Rgb {
    let DrawnJitter { factors, order } = draw(jitter, rng);
    order.into_iter().fold(picture, |picture, which| match which {
        0 => brightness(&picture, factors[0]),
        1 => contrast(&picture, factors[1]),
        _ => color(&picture, factors[2]),
    })
}

fn draw(jitter: f64, rng: &mut impl Rng) -> DrawnJitter {
    let mut order = [0, 1, 2];
    for last in [2, 1] {
        order.swap(last, below(rng, last + 1));
    }
    let factors = std::array::from_fn(|_| uniform(rng, (1.0 - jitter)..(1.0 + jitter)));
    DrawnJitter { factors, order }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::random::{Key, Purpose};
    use crate::shape::StageKind;

    fn rng(sample: u64) -> impl Rng {
        Key { seed: 0, stage: StageKind::Pretrain as u8, epoch: 1 }
            .rng(sample, Purpose::ColorJitter)
    }

    #[test]
    fn factors_stay_in_their_range_and_every_order_occurs() {
        let drawn: Vec<_> = (0..600).map(|sample| draw(0.4, &mut rng(sample))).collect();
        let factors = || drawn.iter().flat_map(|drawn| drawn.factors);
        assert!(factors().all(|factor| (0.6..1.4).contains(&factor)));
        assert!((factors().sum::<f64>() / 1800.0 - 1.0).abs() < 0.02);
        assert_eq!(drawn.iter().map(|drawn| drawn.order).collect::<BTreeSet<_>>().len(), 6);
    }

    #[test]
    fn a_black_picture_stays_black_and_a_grey_one_grey() {
        let picture = |level: u8| Rgb { width: 2, height: 2, pixels: vec![level; 12] };
        assert_eq!(color_jitter(picture(0), 0.4, &mut rng(1)), picture(0));
        let grey = color_jitter(picture(100), 0.4, &mut rng(2)).pixels;
        assert!(grey.windows(2).all(|pair| pair[0] == pair[1]) && grey[0] != 100, "{grey:?}");
    }
}
