//! Which operations a policy chooses from, and how.

use rand::Rng;

use super::super::draw::below;
use super::op::Op;

/// An operation as it is without `inc1` and with it, and its weight in thousandths under `w0`.
///
/// timm lists the weights for the names without `inc1` and uses them by place for both.
const CHOICES: [(Op, Op, usize); 15] = [
    (Op::AutoContrast, Op::AutoContrast, 25),
    (Op::Equalize, Op::Equalize, 5),
    (Op::Invert, Op::Invert, 0),
    (Op::Rotate, Op::Rotate, 300),
    (Op::Posterize, Op::PosterizeIncreasing, 0),
    (Op::Solarize, Op::SolarizeIncreasing, 5),
    (Op::SolarizeAdd, Op::SolarizeAdd, 5),
    (Op::Color, Op::ColorIncreasing, 25),
    (Op::Contrast, Op::ContrastIncreasing, 5),
    (Op::Brightness, Op::BrightnessIncreasing, 5),
    (Op::Sharpness, Op::SharpnessIncreasing, 25),
    (Op::ShearX, Op::ShearX, 200),
    (Op::ShearY, Op::ShearY, 200),
    (Op::TranslateXRel, Op::TranslateXRel, 100),
    (Op::TranslateYRel, Op::TranslateYRel, 100),
];

/// Chooses `n` operations: evenly and with replacement, or by weight and without.
pub(super) fn choose(n: usize, increasing: bool, weighted: bool, rng: &mut impl Rng) -> Vec<Op> {
    let mut weights = CHOICES.map(|(_, _, weight)| if weighted { weight } else { 1 });
    let mut one = || {
        let index = pick(&weights, rng);
        if weighted {
            weights[index] = 0;
        }
        let (plain, inc, _) = CHOICES[index];
        if increasing { inc } else { plain }
    };
    (0..n).map(|_| one()).collect()
}

/// Gives an index with a probability in proportion to its weight; 0 where all are 0.
fn pick(weights: &[usize], rng: &mut impl Rng) -> usize {
    let mut left = below(rng, weights.iter().sum());
    for (index, &weight) in weights.iter().enumerate() {
        if left < weight {
            return index;
        }
        left -= weight;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::super::test_rng;
    use super::*;

    #[test]
    fn weights_decide_and_nothing_without_weight_is_chosen() {
        let mut counts = [0usize; 15];
        let mut rng = test_rng(1);
        for _ in 0..20_000 {
            for op in choose(1, false, true, &mut rng) {
                counts[CHOICES.iter().position(|choice| choice.0 == op).unwrap()] += 1;
            }
        }
        for (count, (_, _, weight)) in counts.iter().zip(CHOICES) {
            assert!(count.abs_diff(weight * 20) < 300, "{counts:?}");
            assert_eq!(*count == 0, weight == 0);
        }
    }

    #[test]
    fn all_that_have_a_weight_can_be_chosen_together() {
        let mut names: Vec<_> =
            choose(13, true, true, &mut test_rng(2)).iter().map(|op| op.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 13);
        assert!(!names.contains(&"Invert") && !names.contains(&"PosterizeIncreasing"));
    }
}
