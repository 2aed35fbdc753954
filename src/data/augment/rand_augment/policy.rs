//! Draws the random operations of RandAugment and applies them.

use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::data::draw::unit;
use crate::recipe::RandAugmentPlan;

use super::affine::Interpolation;
use super::choice::choose;
use super::op::Op;
use super::rgb::Rgb;

const PROB: f64 = 0.5;

const MAX_MAGNITUDE: f64 = 10.0;

/// Applies RandAugment to pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct RandAugment {
    plan: RandAugmentPlan,
    /// The colour outside the picture, for example after a rotation.
    fill: [u8; 3],
    interpolation: Interpolation,
}

/// A random operation of RandAugment, with a random magnitude.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drawn {
    pub op: Op,
    /// Strength of the operation, 0 to 10.
    pub magnitude: f64,
    /// Whether to reverse operations that have a direction, such as rotation.
    pub negate: bool,
}

impl RandAugment {
    /// Creates a RandAugment policy.
    ///
    /// The colour `mean` (0..1 for each channel) fills the area outside a rotated or moved picture.
    pub fn new(plan: RandAugmentPlan, mean: &[f32]) -> Self {
        Self { plan, fill: fill_colour(mean), interpolation: Interpolation::Bicubic }
    }

    /// Draws random operations and applies them to `picture`.
    pub fn apply(&self, picture: &Rgb, rng: &mut impl Rng) -> Rgb {
        self.render(picture, &self.draw(rng))
    }

    /// Draws random operations in the order of application.
    ///
    /// Skips each chosen operation with probability 0.5.
    pub fn draw(&self, rng: &mut impl Rng) -> Vec<Drawn> {
        let ops = choose(self.plan.layers, self.plan.increasing, self.plan.weighted, rng);
        ops.into_iter().filter_map(|op| self.draw_one(op, rng)).collect()
    }

    /// Applies the operations `drawn` to `picture`, in order.
    pub fn render(&self, picture: &Rgb, drawn: &[Drawn]) -> Rgb {
        drawn.iter().fold(picture.clone(), |picture, one| {
            one.op.apply(&picture, one.magnitude, one.negate, self.fill, self.interpolation)
        })
    }

    fn draw_one(&self, op: Op, rng: &mut impl Rng) -> Option<Drawn> {
        if unit(rng) >= PROB {
            return None;
        }
        let noise: f64 = StandardNormal.sample(rng);
        let magnitude = (self.plan.magnitude + self.plan.std * noise).clamp(0.0, MAX_MAGNITUDE);
        let negate = unit(rng) < 0.5;
        Some(Drawn { op, magnitude, negate })
    }
}

/// Converts channel means (0..1) to an 8-bit RGB colour, like timm's `img_mean`.
fn fill_colour(mean: &[f32]) -> [u8; 3] {
    std::array::from_fn(|channel| {
        let mean = mean.get(channel).or(mean.first()).copied().unwrap_or_default();
        (255.0 * f64::from(mean)).round_ties_even() as u8
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::random::{Key, Purpose};
    use crate::shape::StageKind;

    const MEAN: [f32; 3] = [0.485, 0.456, 0.406];

    fn test_rng(seed: u64) -> impl Rng {
        Key { seed, stage: StageKind::Finetune as u8, epoch: 1 }.rng(0, Purpose::RandAugment)
    }

    fn policy(text: &str) -> RandAugment {
        RandAugment::new(RandAugmentPlan::parse(text).unwrap(), &MEAN)
    }

    fn draws(text: &str, n: u64) -> Vec<Vec<Drawn>> {
        let policy = policy(text);
        (0..n).map(|seed| policy.draw(&mut test_rng(seed))).collect()
    }

    #[test]
    fn half_of_the_chosen_operations_are_applied() {
        let mut counts = [0.0f64; 3];
        for ops in draws("rand-m9-mstd0.5-inc1", 20_000) {
            counts[ops.len()] += 1.0;
        }
        for (count, share) in counts.iter().zip([0.25, 0.5, 0.25]) {
            assert!((count / 20_000.0 - share).abs() < 0.015, "{counts:?}");
        }
        let applied: usize = draws("rand-n5", 4_000).iter().map(Vec::len).sum();
        assert!((applied as f64 / 4_000.0 - 2.5).abs() < 0.1, "{applied}");
        assert!(draws("rand-n0", 10).iter().all(Vec::is_empty));
    }

    #[test]
    fn operations_are_equally_likely_and_inc1_uses_only_increasing_forms() {
        for (text, plain) in [("rand-m9-mstd0.5-inc1", false), ("rand-m9-mstd0.5", true)] {
            let mut counts = BTreeMap::new();
            for drawn in draws(text, 30_000).concat() {
                *counts.entry(drawn.op.name()).or_insert(0.0) += 1.0f64;
            }
            assert_eq!(counts.len(), 15);
            assert_eq!(counts.contains_key("Color"), plain);
            assert_eq!(counts.keys().any(|name| name.ends_with("Increasing")), !plain);
            assert!(counts.values().all(|n| (n - 2_000.0).abs() < 200.0), "{counts:?}");
        }
    }

    #[test]
    fn an_operation_may_be_chosen_twice_but_not_with_weights() {
        let twice = |text| {
            draws(text, 5_000).iter().filter(|ops| ops.len() == 2 && ops[0].op == ops[1].op).count()
        };
        // A quarter of the draws apply two operations. In 1/15 of these draws, both operations are the same.
        assert!((50..120).contains(&twice("rand-inc1")), "{}", twice("rand-inc1"));
        assert_eq!(twice("rand-inc1-w0"), 0);
    }

    #[test]
    fn magnitudes_are_normal_and_limited_to_ten() {
        let all = draws("rand-m9-mstd0.5-inc1", 30_000).concat();
        let n = all.len() as f64;
        let below = |bound: f64| all.iter().filter(|d| d.magnitude < bound).count() as f64 / n;
        // The normal distribution function at -2, -1, 0, 1 and just below 2 standard deviations.
        for (bound, share) in
            [(8.0, 0.0228), (8.5, 0.1587), (9.0, 0.5), (9.5, 0.8413), (10.0, 0.9772)]
        {
            assert!((below(bound) - share).abs() < 0.012, "{bound}: {}", below(bound));
        }
        assert!(all.iter().all(|d| d.magnitude <= 10.0));
        let negated = all.iter().filter(|d| d.negate).count() as f64 / n;
        assert!((negated - 0.5).abs() < 0.02, "{negated}");
    }

    #[test]
    fn without_mstd_the_magnitude_is_that_of_the_policy_and_at_most_ten() {
        let all_are = |text: &str, magnitude: f64| {
            draws(text, 100)
                .concat()
                .iter()
                .all(|drawn| drawn.magnitude.total_cmp(&magnitude).is_eq())
        };
        assert!(all_are("rand-m7", 7.0));
        assert!(all_are("rand", 10.0));
        assert!(all_are("rand-m14", 10.0));
        // Magnitudes are normal around 14, then limited to 10.
        let all = draws("rand-m14-mstd4", 20_000).concat();
        let cut = all.iter().filter(|d| d.magnitude >= 10.0).count() as f64 / all.len() as f64;
        assert!((cut - 0.8413).abs() < 0.015, "{cut}");
    }

    #[test]
    fn the_drawn_operations_depend_only_on_the_generator() {
        let picture = Rgb {
            width: 9,
            height: 7,
            pixels: (0..189u32).map(|i| (i * 89 % 256) as u8).collect(),
        };
        let policy = policy("rand-m9-mstd0.5-inc1");
        let apply = |seed| policy.apply(&picture, &mut test_rng(seed));
        let first: Vec<Rgb> = (0..50).map(apply).collect();
        // Drawing in reverse order results in the same pictures.
        for seed in (0..50).rev() {
            assert_eq!(apply(seed), first[seed as usize]);
        }
        assert!((1..50).any(|seed| first[seed] != first[0]));
        // The content of the picture does not change the draws.
        let drawn = policy.draw(&mut test_rng(3));
        assert_eq!(policy.render(&picture, &drawn), first[3]);
    }

    #[test]
    fn the_fill_colour_is_the_mean() {
        assert_eq!(fill_colour(&[0.485, 0.456, 0.406]), [124, 116, 104]);
        assert_eq!(fill_colour(&[0.0, 1.0, 1.5]), [0, 255, 255]);
        assert_eq!(fill_colour(&[0.25]), [64; 3]);
    }
}
