//! The operations of RandAugment, and the random choice among them.

use rand::Rng;

use crate::data::draw::below;

use super::op::Op;

/// All choices, as (default operation, operation with timm's `inc1`, probability in 1/1000 with timm's `w0`).
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

/// Chooses `n` random operations.
///
/// - `increasing` (timm's `inc1`) chooses the variants of [`Op`] named `…Increasing`.
/// - `weighted` (timm's `w0`) uses the probabilities in [`CHOICES`], and each operation at most once.
///
/// Without `weighted`, all operations are equally likely.
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

/// Draws a random index with probabilities proportional to `weights`.
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
    use super::*;
    use crate::random::{Key, Purpose};
    use crate::shape::StageKind;

    fn test_rng(seed: u64) -> impl Rng {
        Key { seed, stage: StageKind::Finetune as u8, epoch: 1 }.rng(0, Purpose::RandAugment)
    }

    #[test]
    fn choices_follow_the_weights() {
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
    fn all_operations_with_a_weight_can_be_chosen_together() {
        let mut names: Vec<_> =
            choose(13, true, true, &mut test_rng(2)).iter().map(|op| op.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 13);
        assert!(!names.contains(&"Invert") && !names.contains(&"PosterizeIncreasing"));
    }
}
